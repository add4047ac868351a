"""Parity of runtimes: planted deviations are measured, real ones stay in the bound."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.activations.runtime_parity import (
    ORT_BATCH,
    ORT_CUDA,
    ORT_OPTIMISED,
    ORT_PLAIN,
    TORCH_CPU,
    Bound,
    compare_runtimes,
    measure_deviation,
)
from auditor.errors import UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.probes import probe_inputs
from auditor.models.session import cuda_works
from tests.models.onnx_networks import conv_network, dense_network

BOUND = Bound(absolute=1e-6, relative=1e-4)
EXACT = Bound(absolute=0.0, relative=0.0)


def test_every_cpu_runtime_is_compared() -> None:
    model = OnnxModel.from_proto(conv_network())
    report = compare_runtimes(model, probe_inputs(model.inputs), BOUND)
    assert [d.runtime for d in report.deviations] == [ORT_OPTIMISED, ORT_PLAIN, TORCH_CPU]
    assert max(d.bound_share for d in report.deviations) < 1
    assert all(d.same_argmax == d.samples == 18 for d in report.deviations)


def test_float32_is_not_float64() -> None:
    model = OnnxModel.from_proto(dense_network([20, 30, 5]))
    report = compare_runtimes(model, probe_inputs(model.inputs), EXACT)
    assert all(d.absolute > 0 and d.bound_share == np.inf for d in report.deviations)


def test_the_control_gives_the_same_numbers_again() -> None:
    model = OnnxModel.from_proto(conv_network())
    assert compare_runtimes(model, probe_inputs(model.inputs), BOUND).repeat.absolute == 0.0


def test_a_symbolic_batch_is_compared_with_single_samples() -> None:
    model = OnnxModel.from_proto(dense_network([20, 30, 5]))
    batch = compare_runtimes(model, probe_inputs(model.inputs), BOUND).batch
    assert batch is not None
    assert (batch.runtime, batch.samples) == (ORT_BATCH, 18)


def test_a_fixed_batch_is_not_compared() -> None:
    model = OnnxModel.from_proto(dense_network([20, 30, 5], batch=1))
    assert compare_runtimes(model, probe_inputs(model.inputs), BOUND).batch is None


def test_providers_are_those_in_use() -> None:
    model = OnnxModel.from_proto(dense_network([4, 2]))
    providers = compare_runtimes(model, probe_inputs(model.inputs), BOUND).providers
    assert providers == {ORT_OPTIMISED: "CPUExecutionProvider", ORT_PLAIN: "CPUExecutionProvider"}


def test_a_planted_deviation_is_measured_in_every_unit() -> None:
    reference = [[np.array([1.0, 2.0])], [np.array([4.0, 0.0])]]
    answers = [[np.array([1.0, 2.0])], [np.array([4.0, 2.0**-10])]]
    found = measure_deviation("a", "b", answers, reference, ["y"], Bound(0.0, 2.0**-12))
    assert found.absolute == 2.0**-10
    assert found.ulps == 2.0**-10 / 2.0**-21  # float32 steps by 2^-21 from 4 on
    assert found.bound_share == 1.0
    assert (found.worst_sample, found.worst_output, found.same_argmax) == (1, "y", 2)


def test_another_argmax_is_counted() -> None:
    found = measure_deviation(
        "a", "b", [[np.array([0.0, 1.0])]], [[np.array([1.0, 0.0])]], ["y"], BOUND
    )
    assert (found.same_argmax, found.samples) == (0, 1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_value_that_is_not_finite_breaks_every_bound(wrong: float) -> None:
    found = measure_deviation("a", "b", [[np.array([wrong])]], [[np.array([1.0])]], ["y"], BOUND)
    assert found.bound_share == np.inf


def test_equal_values_that_are_not_finite_agree() -> None:
    values = [[np.array([np.nan, np.inf, -np.inf])]]
    assert measure_deviation("a", "b", values, values, ["y"], EXACT).bound_share == 0.0


def test_a_single_output_has_no_argmax() -> None:
    values = [[np.array([1.0])]]
    assert measure_deviation("a", "b", values, values, ["y"], BOUND).same_argmax is None


def test_a_comparison_out_of_time_keeps_the_samples_so_far() -> None:
    model = OnnxModel.from_proto(dense_network([4, 2]))
    asked = iter([False, False, True])
    report = compare_runtimes(
        model, probe_inputs(model.inputs), BOUND, out_of_time=lambda: next(asked)
    )
    assert {d.samples for d in (*report.deviations, report.repeat)} == {3}


def test_no_samples_are_an_error() -> None:
    with pytest.raises(UnsupportedModel, match="no samples"):
        compare_runtimes(OnnxModel.from_proto(dense_network([4, 2])), [], BOUND)


@pytest.mark.gpu
def test_cuda_stays_in_the_bound() -> None:
    if not cuda_works():
        pytest.skip("onnxruntime cannot use CUDA here")
    model = OnnxModel.from_proto(conv_network())
    report = compare_runtimes(model, probe_inputs(model.inputs), BOUND, cuda=True)
    shares = {d.runtime: d.bound_share for d in report.deviations}
    assert shares[ORT_CUDA] < 1
