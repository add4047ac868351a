"""Small networks with planted answers, and random ones, for tests of the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from auditor.verify.network import AffineLayer, GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.property import Property, UnsafeCase, UnsafeRow

Layer = tuple[Sequence[Sequence[float]], Sequence[float], bool]


def chain(*layers: Layer) -> Network:
    """A network from (weight, bias, relu) triples."""
    return Network(
        tuple(
            AffineLayer(np.array(weight, dtype=np.float64), np.array(bias, dtype=np.float64), relu)
            for weight, bias, relu in layers
        )
    )


def random_chain(seed: int, widths: Sequence[int]) -> Network:
    """Normal float32 weights; ReLU after every layer but the last."""
    random = np.random.default_rng(seed)
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = (random.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        bias = (0.3 * random.standard_normal(outputs)).astype(np.float32)
        last = number == len(widths) - 2
        layers.append(
            AffineLayer(weight.astype(np.float64), bias.astype(np.float64), relu=not last)
        )
    return Network(tuple(layers))


def distance_network(center: Sequence[float], offset: float) -> Network:
    """`y = sum |x_i - center_i| + offset`: its minimum is `offset`, only at the centre."""
    count = len(center)
    weight = np.concatenate([np.eye(count), -np.eye(count)])
    bias = np.concatenate([-np.array(center), np.array(center)])
    return chain((weight.tolist(), bias.tolist(), True), ([[1.0] * (2 * count)], [offset], False))


def absorbing_network() -> Network:
    """`y = 1/2 - x` on [0, 1], but 1/2 everywhere in float64: x vanishes beside 2**54."""
    large = 2.0**54
    return chain(([[1.0]], [large], True), ([[1.0]], [-large], True), ([[-1.0]], [0.5], False))


def disguised_absorbing_network(steps: int) -> Network:
    """The same function with no weight above 4: the large number grows in `steps` layers."""
    layers: list[Layer] = [([[0.0], [1.0]], [1.0, 0.0], True)]
    layers += [([[4.0, 0.0], [0.0, 1.0]], [0.0, 0.0], True)] * steps
    layers.append(([[1.0, 1.0]], [0.0], True))
    layers += [([[0.25]], [0.0], True)] * steps
    layers.append(([[1.0]], [-1.0], True))
    layers += [([[4.0]], [0.0], True)] * steps
    layers.append(([[-1.0]], [0.5], False))
    return chain(*layers)


def output_at_least(
    network: Network | GraphNetwork,
    lower: Sequence[float],
    upper: Sequence[float],
    value: Fraction | float,
) -> Property:
    """`y0 >= value` on a box: violated where y0 < value, strictly."""
    row = UnsafeRow(
        (Fraction(1), *[Fraction(0)] * (network.num_outputs - 1)), Fraction(value), True
    )
    return property_of(network, lower, upper, [(row,)])


def output_above(
    network: Network, lower: Sequence[float], upper: Sequence[float], value: Fraction | float
) -> Property:
    """`y0 > value` on a box: violated where y0 <= value, so a tie counts."""
    row = UnsafeRow((Fraction(1), *[Fraction(0)] * (network.num_outputs - 1)), Fraction(value))
    return property_of(network, lower, upper, [(row,)])


def property_of(
    network: Network | GraphNetwork,
    lower: Sequence[float],
    upper: Sequence[float],
    conjunctions: Sequence[tuple[UnsafeRow, ...]],
) -> Property:
    """A property on one box, violated by any of the conjunctions of rows."""
    ends = tuple(map(Fraction, lower)), tuple(map(Fraction, upper))
    return Property(
        name="planted",
        cases=tuple(UnsafeCase(*ends, rows) for rows in conjunctions),
        text="planted",
        violation_text="planted",
        num_inputs=network.num_inputs,
        num_outputs=network.num_outputs,
    )


def float32_runtime(network: Network) -> Float32Runtime:
    """A replayer that runs the chain in float32, as a runtime would."""
    return Float32Runtime(network)


class Float32Runtime:
    """Runs a chain in float32, layer by layer."""

    label = "float32"

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, inputs: np.ndarray, /) -> np.ndarray:
        hidden = np.asarray(inputs, dtype=np.float32)
        for layer in self.network.layers:
            value = layer.weight.astype(np.float32) @ hidden + layer.bias.astype(np.float32)
            hidden = np.maximum(value, np.float32(0)) if layer.relu else value
        return hidden


def samples(random: np.random.Generator, lower: Float64, upper: Float64, count: int) -> Float64:
    """Points of a box, a third of them corners, [count, inputs]."""
    share = random.random((count, len(lower)))
    share[: count // 3] = np.round(share[: count // 3])
    return np.clip(lower + share * (upper - lower), lower, upper)
