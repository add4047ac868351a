"""Which engine suits a problem, and which one cannot express it."""

from __future__ import annotations

from typing import Literal

from auditor.errors import UnsupportedModel
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.problem import Problem

Engine = Literal["auto", "boxes", "relus", "inputs", "z3"]

FEW_INPUTS = 12
FEW_RELUS = 1_000


def suits_input_search(problem: Problem) -> bool:
    """Whether to split the inputs of a graph: always with curves, else if both are few.

    Measured on small convolutional and residual networks: with up to 9 inputs that vary
    it was about as fast as ReLU splitting or up to five times faster, with 12 neither was
    clearly ahead, and a box of a network with thousands of ReLUs costs about a second.
    """
    network = problem.network
    if not isinstance(network, GraphNetwork):
        return False
    small = problem.varying <= FEW_INPUTS and network.num_relus <= FEW_RELUS
    # Conditions over inputs and on signs cut boxes at corners: splits of signs follow them.
    small = small and not problem.has_pattern and problem.stated is problem.network
    return small or has_curves(problem)


def has_curves(problem: Problem) -> bool:
    """Whether the network has activations that are not ReLUs."""
    network = problem.network
    return isinstance(network, GraphNetwork) and bool(network.curved_layers)


def refuse_curves(network: Network | GraphNetwork, engine: Engine) -> None:
    """Refuse an engine that knows ReLUs only for a network that has other activations."""
    if engine in ("auto", "inputs") or not isinstance(network, GraphNetwork):
        return
    for layer in network.curved_layers:
        raise UnsupportedModel(
            f"{layer.curve}: engine {engine} decides about ReLUs only",
            place=f"node '{layer.name}'",
            way_out="choose engine auto or inputs",
        )
