"""Laws of executor and digest over random networks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.models.functional_digest import compute_functional_digest
from auditor.models.onnx_model import OnnxModel
from auditor.models.probes import probe_rows
from auditor.models.torch_graph import TorchGraph
from tests.models.onnx_networks import dense_network
from tests.models.resaved import RESAVES


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Dense networks of one to four layers."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=5))
    activation = draw(st.sampled_from(["Relu", "Tanh", "Sigmoid", "Elu", "Softplus", "LeakyRelu"]))
    return dense_network(sizes, draw(st.integers(0, 2**31)), activation=activation)


@settings(deadline=None, max_examples=40)
@given(proto=networks(), seed=st.integers(0, 1000))
def test_torch_and_onnxruntime_agree_within_float32_rounding(
    proto: onnx.ModelProto, seed: int
) -> None:
    model = OnnxModel.from_proto(proto)
    rows = probe_rows(model.inputs[0].size, 4, seed=seed)
    expected = TorchGraph(proto, torch.float64).run_rows(rows).numpy()
    found = model.session().run_rows(rows)
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max())
    )


@settings(deadline=None, max_examples=40)
@given(proto=networks(), seed=st.integers(0, 1000))
def test_a_batch_gives_what_its_samples_give_alone(proto: onnx.ModelProto, seed: int) -> None:
    graph = TorchGraph(proto, torch.float64)
    rows = probe_rows(OnnxModel.from_proto(proto).inputs[0].size, 3, seed=seed)
    alone = torch.cat([graph.run_rows(row[None]) for row in rows])
    torch.testing.assert_close(graph.run_rows(rows), alone, rtol=1e-12, atol=1e-12)


# The digest keeps with high probability, not always: the same examples in every run.
@settings(deadline=None, max_examples=25, derandomize=True)
@given(proto=networks(), way=st.sampled_from(sorted(RESAVES)))
def test_saving_a_network_again_keeps_its_functional_digest(
    proto: onnx.ModelProto, way: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        again = RESAVES[way](proto, Path(folder))
    digests = {compute_functional_digest(OnnxModel.from_proto(p)) for p in (proto, again)}
    assert len(digests) == 1
