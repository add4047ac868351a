"""AUD202 on a network whose robust radius is known: class 0 iff a > b, for a, b >= 0.

For a point (a, b) the class changes within radius r exactly when |a - b| <= 2 r.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditor.checks.local_robustness import CHECK, Params, prepare
from auditor.errors import ConfigurationError
from auditor.findings import Answer, CurveEvidence, TableEvidence, Verdict
from tests.models.tiny import array, comparison
from tests.unit.checks.check_context import make_context, make_subject

# Gaps of 0.4, 0.2, 0.1 and 0.4; the last one carries the wrong label.
POINTS = array([[0.7, 0.3], [0.3, 0.5], [0.55, 0.45], [0.2, 0.6]])
LABELS = np.array([0, 1, 0, 0])


def write(folder: Path, points: object = POINTS, labels: object = LABELS) -> Path:
    (folder / "model.onnx").write_bytes(comparison().SerializeToString())
    np.savez(folder / "points.npz", inputs=np.asarray(points), labels=np.asarray(labels))
    return folder / "points.npz"


def run(folder: Path, **params: object) -> Answer:
    fields = {"inputs": write(folder), **params}
    subject = make_subject(folder / "model.onnx")
    return CHECK.run(subject, Params.model_validate(fields), make_context())


def shares(answer: Answer) -> dict[str, float]:
    return {metric.name: metric.value for metric in answer.metrics}


def test_shares_are_the_ones_known_by_construction(tmp_path: Path) -> None:
    answer = run(tmp_path, radius=0.08, radii=[0.01, 0.15, 0.3], minimum_share=0.5)
    assert shares(answer) == {
        "certified_share": 0.5,
        "refuted_share": 0.5,
        "open_share": 0.0,
        "certified_share_at_0.01": 0.75,
        "certified_share_at_0.08": 0.5,
        "certified_share_at_0.15": 0.25,
        "certified_share_at_0.3": 0.0,
        "clean_accuracy": 0.75,
    }
    assert answer.verdict is Verdict.HOLDS


def test_each_sample_has_its_row(tmp_path: Path) -> None:
    answer = run(tmp_path, radius=0.08, radii=[0.01, 0.15], minimum_share=0.5)
    (table,) = (e for e in answer.evidence if isinstance(e, TableEvidence))
    assert table.rows == (
        (0, 0, 0.15, None, None),
        (1, 1, 0.08, 0.15, 0),
        (2, 0, 0.01, 0.08, 1),
        (3, 0, None, 0.01, 1),
    )


def test_the_curve_falls_and_stays_below_what_was_not_refuted(tmp_path: Path) -> None:
    answer = run(tmp_path, radius=0.08, radii=[0.01, 0.15, 0.3], minimum_share=0.5)
    (curve,) = (e for e in answer.evidence if isinstance(e, CurveEvidence))
    certified, possible = ([point.y for point in series.points] for series in curve.series)
    assert certified == sorted(certified, reverse=True)
    assert all(low <= high for low, high in zip(certified, possible, strict=True))


def test_too_few_robust_samples_violate(tmp_path: Path) -> None:
    answer = run(tmp_path, radius=0.08, minimum_share=0.75)
    assert answer.verdict is Verdict.VIOLATED
    assert answer.findings[0].location.property_id == "robust-share-at-0.08"


def test_samples_left_open_are_unknown_and_never_certified(tmp_path: Path) -> None:
    fields = {"inputs": write(tmp_path), "radius": 0.01, "minimum_share": 0.5}
    subject = make_subject(tmp_path / "model.onnx")
    params = Params.model_validate(fields)
    answer = CHECK.run(subject, params, make_context(time_limit_s=0))
    assert answer.verdict is Verdict.UNKNOWN
    assert shares(answer)["open_share"] == 0.75


def test_a_wrong_radius_by_one_in_the_last_digit_matters(tmp_path: Path) -> None:
    """The gap of sample 0 is exactly 0.5: a radius of 0.25 reaches the tie, which is a loss."""
    write(tmp_path, [[0.75, 0.25]], [0])
    subject = make_subject(tmp_path / "model.onnx")
    verdicts = []
    for radius in (0.2499, 0.25):
        params = Params(inputs=tmp_path / "points.npz", radius=radius)
        verdicts.append(CHECK.run(subject, params, make_context()).verdict)
    assert verdicts == [Verdict.HOLDS, Verdict.VIOLATED]


def test_noise_is_the_control(tmp_path: Path) -> None:
    (control,) = run(tmp_path, radius=0.01, minimum_share=0.5).controls
    (metric,) = control.metrics
    assert (metric.name, metric.value, metric.sample_size) == ("noise_flip_share", 0.0, 300)


@pytest.mark.parametrize(
    ("points", "labels", "part"),
    [
        (POINTS, [0, 1, 0, 2], "label 2 of sample 3 is no output of the model, which has 2"),
        (POINTS, [0, 1], "labels must be 4 whole numbers"),
        (POINTS[:, :1], LABELS, "inputs of shape [4, 1] are not samples of 2 values"),
        (np.full((4, 2), np.nan), LABELS, "inputs hold NaN or infinity"),
    ],
)
def test_prepare_finds_samples_that_do_not_fit(
    tmp_path: Path, points: object, labels: object, part: str
) -> None:
    path = write(tmp_path, points, labels)
    with pytest.raises(ConfigurationError) as caught:
        prepare(make_subject(tmp_path / "model.onnx"), Params(inputs=path, radius=0.1))
    assert part in str(caught.value)


def test_a_file_without_labels_says_how_to_write_one(tmp_path: Path) -> None:
    write(tmp_path)
    np.savez(tmp_path / "points.npz", inputs=POINTS)
    with pytest.raises(ConfigurationError, match=r"no array 'labels'; write it with numpy\.savez"):
        prepare(
            make_subject(tmp_path / "model.onnx"), Params(inputs=tmp_path / "points.npz", radius=0)
        )
