"""AUD205 on a network of which every input's label is known by construction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from auditor.checks.unexplained_inputs import CHECK, Params, prepare
from auditor.errors import AuditorError, ConfigurationError, PatternMismatch, UnsupportedModel
from auditor.findings import Answer, ImageEvidence, Severity, TableEvidence, Verdict
from auditor.intervals import wilson_interval
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.pattern_file import write_patterns
from tests.models.monitored import (
    MINED_INPUTS,
    MINED_LABELS,
    PROBED_INPUTS,
    magnitude_network,
    magnitude_patterns,
)
from tests.models.onnx_networks import dense_network, write_model
from tests.models.tiny import array
from tests.unit.checks.check_context import make_context, make_subject

# Of five inputs two are explained, two contradicted, one is unexplained.
WRONG = 3


def _write(folder: Path, repeats: int = 1) -> Params:
    model = OnnxModel.open(write_model(folder, magnitude_network()))
    write_patterns(folder / "mined.patterns", magnitude_patterns(model))
    np.savez(folder / "inputs.npz", inputs=np.tile(PROBED_INPUTS, (repeats, 1)))
    np.savez(folder / "held.npz", inputs=MINED_INPUTS, labels=MINED_LABELS)
    return Params(patterns=folder / "mined.patterns", inputs=folder / "inputs.npz", delta="1")


def _run(folder: Path, params: Params, **context: float) -> Answer:
    subject = make_subject(folder / "model.onnx")
    prepare(subject, params)
    return CHECK.run(subject, params, make_context(**context))  # type: ignore[arg-type]


def _values(answer: Answer) -> dict[str, float]:
    return {metric.name: metric.value for metric in answer.metrics}


def test_shares_are_those_planted(tmp_path: Path) -> None:
    answer = _run(tmp_path, _write(tmp_path, 4))
    assert _values(answer) == {
        "not_explained_share": 0.6, "unexplained_share": 0.2, "contradicted_share": 0.4,
        "explained_share": 0.4,
    }  # fmt: skip
    assert answer.metrics[0].interval == wilson_interval(12, 20)
    assert {metric.sample_size for metric in answer.metrics} == {20}


@pytest.mark.parametrize("repeats", [1, 40])
def test_the_verdict_is_that_of_the_whole_interval(tmp_path: Path, repeats: int) -> None:
    base = _write(tmp_path, repeats)
    interval = wilson_interval(WRONG * repeats, 5 * repeats)
    for limit, verdict in {
        interval.upper: Verdict.HOLDS,
        interval.upper - 1e-6: Verdict.UNKNOWN,
        interval.lower: Verdict.UNKNOWN,
        interval.lower - 1e-6: Verdict.VIOLATED,
    }.items():
        answer = _run(tmp_path, base.model_copy(update={"maximum_share": limit}))
        assert answer.verdict is verdict, limit
        assert bool(answer.reason) == (verdict is Verdict.UNKNOWN)


def test_a_violation_is_a_finding_with_its_severity(tmp_path: Path) -> None:
    update = {"maximum_share": 0.0, "severity": Severity.LOW, "image_shape": (1, 2)}
    (finding,) = _run(tmp_path, _write(tmp_path).model_copy(update=update)).findings
    assert finding.severity is Severity.LOW
    assert "3 of 5 samples are not explained" in finding.description
    (pictures,) = finding.evidence
    assert isinstance(pictures, ImageEvidence)
    assert [image.caption for image in pictures.images] == [
        "sample 2, read as 1, contradicted", "sample 3, read as 0, contradicted",
        "sample 4, read as 0, unexplained",
    ]  # fmt: skip


def test_tables_say_it_class_by_class_and_input_by_input(tmp_path: Path) -> None:
    tables = [e for e in _run(tmp_path, _write(tmp_path)).evidence if isinstance(e, TableEvidence)]
    by_class, worst = tables
    assert by_class.rows == ((0, 3, 1, 1, 1, 0, 1.0), (1, 2, 1, 1, 0, 0, 0.5))
    assert worst.rows == (
        (2, 1, "contradicted", 1, 0, 0), (3, 0, "contradicted", 1, 1, 0),
        (4, 0, "unexplained", 1, 0, 1),
    )  # fmt: skip


def test_a_reference_gives_thresholds_with_one_half_and_a_control_with_the_other(
    tmp_path: Path,
) -> None:
    """First half: an input of class 0 at distance 1 and one of class 1 at 0."""
    base = _write(tmp_path)
    inputs = array([[1, 1], [4, 1], [1, 1], [4, -1], [-2, -2]])
    np.savez(tmp_path / "held.npz", inputs=inputs, labels=[0, 1, 0, 1, 0])
    update = {"reference": tmp_path / "held.npz", "quantile": 1.0}
    answer = _run(tmp_path, base.model_copy(update=update))
    # Three make the first half, (1, 1) twice among them.
    assert answer.facts["thresholds"] == "1, 0"
    (control,) = answer.controls
    assert {m.name: m.value for m in control.metrics}["not_explained_share"] == 0.5
    assert {m.sample_size for m in control.metrics} == {2}
    assert _values(answer)["explained_share"] == 0.8


def test_a_reference_without_quantile_is_a_control_only(tmp_path: Path) -> None:
    base = _write(tmp_path)
    answer = _run(tmp_path, base.model_copy(update={"reference": tmp_path / "held.npz"}))
    (control,) = answer.controls
    assert {m.name: m.value for m in control.metrics}["explained_share"] == 1.0
    assert {m.sample_size for m in control.metrics} == {4}
    assert answer.facts["thresholds from"] == "0 for every class"


def test_only_so_many_samples_are_looked_at(tmp_path: Path) -> None:
    answer = _run(tmp_path, _write(tmp_path).model_copy(update={"count": 2}))
    assert _values(answer)["explained_share"] == 1.0


def test_time_that_is_up_is_unknown_with_how_far_it_got(tmp_path: Path) -> None:
    params = _write(tmp_path, 200)
    answer = _run(tmp_path, params, time_limit_s=0.0)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.reason == "time was up after 512 of 1000 samples"
    assert answer.limits_hit == (answer.reason,)


def test_a_nan_score_has_no_class(tmp_path: Path) -> None:
    model = OnnxModel.open(write_model(tmp_path, magnitude_network(last="Log")))
    fitting = replace(magnitude_patterns(OnnxModel.from_proto(magnitude_network())),
                      model_digest=model.digest)  # fmt: skip
    write_patterns(tmp_path / "log.patterns", fitting)
    np.save(tmp_path / "x.npy", array([[4, 1], [1, -1]]))
    params = Params(patterns=tmp_path / "log.patterns", inputs=tmp_path / "x.npy", delta="1")
    answer = _run(tmp_path, params)
    by_class = next(e for e in answer.evidence if isinstance(e, TableEvidence))
    assert by_class.rows == ((1, 1, 1, 0, 0, 0, 0.0), ("none", 1, 0, 0, 1, None, None))


def test_what_does_not_fit_is_found_before_the_run(tmp_path: Path) -> None:
    base = _write(tmp_path)
    np.savez(tmp_path / "nan.npz", inputs=array([[1, np.nan]]))
    np.savez(tmp_path / "wide.npz", inputs=np.zeros((2, 3), np.float32))
    np.savez(tmp_path / "bare.npz", inputs=MINED_INPUTS)
    np.savez(tmp_path / "short.npz", inputs=MINED_INPUTS, labels=[0, 1])
    cases: list[tuple[dict[str, object], type[AuditorError], str]] = [
        ({"delta": "0.8"}, ConfigurationError, "no pattern for delta"),
        ({"quantile": 0.9}, ConfigurationError, "quantile without reference"),
        ({"inputs": tmp_path / "nan.npz"}, ConfigurationError, "holds nan"),
        ({"inputs": tmp_path / "wide.npz"}, UnsupportedModel, "for input x"),
        ({"reference": tmp_path / "bare.npz"}, ConfigurationError, "no array 'labels'"),
        ({"reference": tmp_path / "short.npz"}, ConfigurationError, "2 labels for 4 samples"),
        ({"image_shape": (2, 2)}, ConfigurationError, "image_shape 2x2"),
    ]
    subject = make_subject(tmp_path / "model.onnx")
    for update, kind, message in cases:
        with pytest.raises(kind, match=message):
            prepare(subject, base.model_copy(update=update))


def test_patterns_of_another_model_are_refused(tmp_path: Path) -> None:
    params = _write(tmp_path)
    other = write_model(tmp_path, dense_network([2, 2, 2]), "other.onnx")
    with pytest.raises(PatternMismatch):
        prepare(make_subject(other), params)


def test_a_delta_may_be_written_as_a_number(tmp_path: Path) -> None:
    fields = {"patterns": tmp_path, "inputs": tmp_path}
    assert Params.model_validate({**fields, "delta": 0.95}).delta == "0.95"
    with pytest.raises(ValidationError):
        Params.model_validate({**fields, "maximum_share": 1.5})
