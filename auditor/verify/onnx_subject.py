"""An ONNX file as a subject of verification: its network, and runtimes that replay it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.models.onnx_model import OnnxModel
from auditor.models.samples import Samples, load_samples
from auditor.models.session import Session
from auditor.verify.network import GraphNetwork, Network, read_network
from auditor.verify.outcome import Limits, Outcome
from auditor.verify.phases import phases_of
from auditor.verify.proof import Proof
from auditor.verify.property import Property, load_property
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics


class RuntimeReplayer:
    """Runs one input in onnxruntime, batch 1.

    Attributes:
        label: Name of this runtime in messages and reports.
        provider: The execution provider really in use.
        optimised: Whether graph optimisations are on.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.provider = session.providers_in_use[0]
        self.optimised = session.optimised
        kind = "optimised" if session.optimised else "as written"
        self.label = f"onnxruntime {self.provider.removesuffix('ExecutionProvider')}, {kind}"

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[np.floating]:
        """The outputs, flat."""
        return np.asarray(self._session.run_flat(inputs))


class OnnxSubject(NamedTuple):
    """A model opened for verification."""

    model: OnnxModel
    network: Network | GraphNetwork
    replayers: tuple[RuntimeReplayer, ...]

    def samples(self, path: Path) -> Samples:
        """Labelled samples of a `.npz` that fit the network; see `load_samples`."""
        return load_samples(
            path, num_inputs=self.network.num_inputs, num_classes=self.network.num_outputs
        )


def open_subject(path: Path, device: str = "cpu", *, expected_digest: str = "") -> OnnxSubject:
    """Open a model, read its network, and start the runtimes that replay witnesses.

    Args:
        path: The ONNX file.
        device: Where the runtimes run.
        expected_digest: What `file_digest` said earlier; empty for no expectation.

    Raises:
        FileMissing, RefusedModel: The file is not there or not safe to open.
        FileChanged: The file is no longer the expected one.
        UnsupportedOperator: Operators the verifier cannot express, with their nodes.
        UnsupportedModel: Weights that are not finite, several inputs, and the like.
    """
    model = OnnxModel.open(path, expected_digest=expected_digest)
    network = read_network(model.proto)
    sessions = (model.session(device, optimised=optimised) for optimised in (False, True))
    return OnnxSubject(model, network, tuple(RuntimeReplayer(session) for session in sessions))


def read_property(path: Path, network: Network | GraphNetwork) -> Property:
    """A property file read for this network; see `load_property`.

    Raises:
        ConfigurationError: Its pattern names a layer or neuron the network does not have.
    """
    prop = load_property(path, num_inputs=network.num_inputs, num_outputs=network.num_outputs)
    phases_of(prop.pattern, network)
    return prop


def verify_file(
    model: Path,
    property_file: Path,
    *,
    time_limit_s: float,
    seed: int = 0,
    semantics: Semantics = Semantics.REAL,
    proofs: list[Proof] | None = None,
) -> tuple[Property, Outcome]:
    """Verify a property file of a model file; witnesses are replayed in onnxruntime.

    With `proofs`, a list, what a certificate needs is put there; see `verify`.
    """
    subject = open_subject(model)
    prop = read_property(property_file, subject.network)
    outcome = verify(
        subject.network,
        prop,
        limits=Limits(time_s=time_limit_s),
        seed=seed,
        replay=subject.replayers,
        semantics=semantics,
        proofs=proofs,
    )
    return prop, outcome
