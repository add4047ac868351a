"""AUD103: bounds kept and broken, given inputs, and what is not compared is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from auditor.checks.runtime_parity import CHECK, Params
from auditor.findings import Answer, Severity, Verdict
from auditor.models.session import cuda_works
from tests.models.onnx_networks import conv_network, dense_network, make_model, write_model
from tests.unit.checks.check_context import make_context, make_subject

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "vnncomp"


def _run(path: Path, params: Params, device: str = "cpu") -> Answer:
    return CHECK.run(make_subject(path), params, make_context(device))


def test_runtimes_agree_on_an_ordinary_network(tmp_path: Path) -> None:
    answer = _run(write_model(tmp_path, conv_network()), Params(count=8))
    assert answer.verdict is Verdict.HOLDS
    names = {metric.name.partition(":")[0] for metric in answer.metrics}
    assert names == {
        "onnxruntime-cpu",
        "onnxruntime-cpu-unoptimised",
        "torch-cpu-float32",
        "onnxruntime-cpu-one-batch",
    }
    assert answer.facts["inputs"] == "canonical probes"
    assert answer.facts["providers of onnxruntime-cpu"] == "CPUExecutionProvider"


def test_a_bound_of_zero_is_broken_by_rounding(tmp_path: Path) -> None:
    params = Params(count=8, absolute_tolerance=0, relative_tolerance=0, severity=Severity.LOW)
    answer = _run(write_model(tmp_path, dense_network([20, 30, 5])), params)
    assert answer.verdict is Verdict.VIOLATED
    assert {finding.severity for finding in answer.findings} == {Severity.LOW}
    assert "parity-torch-cpu-float32" in {f.location.property_id for f in answer.findings}


def test_the_control_is_exactly_zero(tmp_path: Path) -> None:
    answer = _run(write_model(tmp_path, conv_network()), Params(count=4))
    (control,) = answer.controls
    assert [metric.value for metric in control.metrics] == [0.0]


def test_cuda_that_was_not_compared_is_said(tmp_path: Path) -> None:
    answer = _run(write_model(tmp_path, dense_network([3, 2])), Params(count=2))
    assert answer.limits_hit == (answer.facts["cuda"],)
    assert answer.facts["cuda"].startswith("CUDA was not compared")


def test_cuda_that_was_asked_for_and_is_not_there_is_unknown(tmp_path: Path) -> None:
    if cuda_works():
        pytest.skip("CUDA works here")
    answer = _run(write_model(tmp_path, dense_network([3, 2])), Params(count=2), "cuda")
    assert answer.verdict is Verdict.UNKNOWN
    assert "cuda" in answer.reason


def test_an_operator_torch_cannot_express_is_unknown_with_its_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("Einsum", ["x"], ["y"], "here", equation="ij->ij")]
    path = write_model(tmp_path, make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}))
    answer = _run(path, Params(count=2))
    assert answer.verdict is Verdict.UNKNOWN
    assert "Einsum at node 'here'" in answer.reason


def test_time_that_is_up_is_unknown_with_how_far_it_got(tmp_path: Path) -> None:
    subject = make_subject(write_model(tmp_path, dense_network([3, 2])))
    answer = CHECK.run(subject, Params(count=2), make_context(time_limit_s=0.0))
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.reason == "time was up after 1 of 4 samples"


def test_given_inputs_are_used(tmp_path: Path) -> None:
    inputs = tmp_path / "samples.npz"
    np.savez(inputs, inputs=np.ones((5, 64), np.float32), labels=np.zeros(5, np.int64))
    answer = _run(write_model(tmp_path, conv_network()), Params(inputs=inputs, count=3))
    assert answer.facts["inputs"] == "samples.npz"
    assert {metric.sample_size for metric in answer.metrics} == {3}


def test_a_fixed_batch_axis_is_said(tmp_path: Path) -> None:
    answer = _run(write_model(tmp_path, dense_network([3, 2], batch=1)), Params(count=2))
    assert answer.facts["batch"] == "not compared, the batch axis is fixed"


@pytest.mark.parametrize(
    "model",
    ["acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx", "mnist_fc/onnx/mnist-net_256x4.onnx.gz",
     "oval21/onnx/cifar_deep_kw.onnx", "collins_rul_cnn/onnx/NN_rul_small_window_20.onnx",
     "rl_benchmarks/onnx/dubinsrejoin.onnx", "cora/onnx/mnist-point.onnx.gz"],
)  # fmt: skip
def test_benchmark_networks_stay_in_the_default_bound(model: str) -> None:
    if not (DATA / model).is_file():
        pytest.skip(f"benchmark networks are not at {DATA}")
    assert _run(DATA / model, Params(count=8)).verdict is Verdict.HOLDS
