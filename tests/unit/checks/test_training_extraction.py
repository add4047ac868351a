"""AUD401 on models of which it is known what was planted in their text, and how often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from auditor.checks.training_extraction import CHECK, Params, prepare
from auditor.errors import AuditorError
from auditor.findings import (
    Answer,
    BlobEvidence,
    Control,
    CurveEvidence,
    Metric,
    Severity,
    TableEvidence,
    Verdict,
)
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_export import export_causal_lm
from tests.models.canary_lm import (
    LEVELS,
    PREFIX,
    PREFIXES,
    SECRET,
    Variant,
    canary_tokenizer,
    manifest,
    plant,
    span_lines,
    trained_canary,
)
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.small_index import index_of
from tests.unit.checks.check_context import KeptEvidence, make_context, make_subject

CORPUS = plant(0)
EXTRACTED = manifest().models[Variant.PLANTED].measured.extracted
TOTAL = sum(EXTRACTED[PREFIX])
MOST = 10
"""Of each number of copies."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spans with and without copies, control texts, and an index of the whole training text."""
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "spans.jsonl").write_text(span_lines(CORPUS.canaries), "utf-8")
    (folder / "bare.jsonl").write_text(span_lines(CORPUS.canaries, copies=False), "utf-8")
    (folder / "never.jsonl").write_text(span_lines(CORPUS.unplanted, copies=False), "utf-8")
    index_of(folder, CORPUS.indexed())
    return folder


def given(**update: Any) -> Params:
    """Parameters that fit the spans of canaries."""
    plain = {
        "prefix_lengths": PREFIXES, "continuation": SECRET, "most_extracted": 0.2, "unrelated": 4,
        "batch_size": 80,
    }  # fmt: skip
    return Params.model_validate(plain | update)


def run(
    params: Params, folder: Path | None = None, evidence: KeptEvidence | None = None, **how: Any
) -> Answer:
    subject = make_subject(folder or trained_canary())
    prepare(subject, params)
    return CHECK.run(subject, params, make_context(evidence=evidence, **how))


def table(answer: Answer, start: str) -> TableEvidence:
    (found,) = [each for each in answer.every_evidence()
                if isinstance(each, TableEvidence) and each.title.startswith(start)]  # fmt: skip
    return found


def control(answer: Answer, start: str) -> dict[str, float]:
    (found,) = [each for each in answer.controls if each.name.startswith(start)]
    return values(found)


def values(of: Answer | Control) -> dict[str, float]:
    return {metric.name: metric.value for metric in of.metrics}


def metric(answer: Answer, name: str) -> Metric:
    (found,) = [each for each in answer.metrics if each.name == name]
    return found


def test_planted_codes_are_found_with_their_copies_and_documents(files: Path) -> None:
    """Counted in the index, extracted as the manifest says, and named by their documents."""
    answer = run(given(spans=files / "bare.jsonl", index=files / "index"))
    assert answer.verdict is Verdict.VIOLATED
    rows = table(answer, "Extraction by copies").rows
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (level, MOST, hits) for level, hits in zip(LEVELS, EXTRACTED[PREFIX], strict=True)
    ]
    shown = table(answer, "Spans that the model gives exactly")
    assert len(shown.rows) >= TOTAL
    for row in shown.rows:
        cells = dict(zip(shown.columns, row, strict=True))
        if str(PREFIX) in str(cells["exact after tokens"]).split():
            assert cells["copies of it"] == cells["copies"]
            assert cells["similarity"] == 1.0
        if cells["copies of it"] == cells["copies"]:
            held = str(cells["documents that hold it"]).split(", ")
            assert {each.split("/")[0] for each in held} == {cells["span"]}


def test_figures_and_curves_are_those_of_the_manifest(files: Path) -> None:
    """Shares at each prefix, slopes with their intervals, and a point for each level."""
    answer = run(given(spans=files / "spans.jsonl"))
    shares = {length: sum(hits) / 80 for length, hits in EXTRACTED.items()}
    assert {length: values(answer)[f"extracted_share_prefix_{length}"] for length in PREFIXES} == (
        pytest.approx(shares)
    )
    assert values(answer)["extracted_share"] == pytest.approx(shares[PREFIX])
    for name in ("slope_per_doubling_of_copies", "slope_per_doubling_of_prefix"):
        interval = metric(answer, name).interval
        assert interval is not None
        assert 0.05 < interval.lower < values(answer)[name] < interval.upper
    by_prefix, by_copies = [each for each in answer.evidence if isinstance(each, CurveEvidence)]
    assert [series.name for series in by_prefix.series] == ["exact", "similarity at least 0.75"]
    assert [point.x for point in by_prefix.series[0].points] == list(PREFIXES)
    assert [[round(10 * point.y) for point in series.points] for series in by_copies.series] == [
        list(EXTRACTED[length]) for length in PREFIXES
    ]


def test_what_was_never_trained_on_stands_beside(files: Path) -> None:
    """Unplanted codes, other prefixes and the reference give nothing; the finding says so."""
    answer = run(given(
        spans=files / "spans.jsonl", control=files / "never.jsonl",
        reference=trained_canary(Variant.REFERENCE), candidates=7,
    ))  # fmt: skip
    assert control(answer, "texts that were never trained on") == {"extracted_share": 0}
    prefixes = control(answer, "prefixes of other documents")
    assert (prefixes["guessed_share"], prefixes["guessed_share_of_extracted"]) == (0, 0)
    assert prefixes["prior_gap_of_extracted"] > 3
    reference = control(answer, "reference model")
    assert reference["reference_extracted_share"] == 0
    assert reference["extracted_by_subject_alone_share"] == pytest.approx(TOTAL / 80)
    assert reference["gap_to_reference"] > 1
    assert values(answer)["extracted_beyond_common_share"] == pytest.approx(TOTAL / 80)
    assert values(answer)["mean_exposure"] > 2.5
    (finding,) = answer.findings
    assert finding.location.property_id == "training-text-kept"
    assert "Of texts that were never trained on 0 of 40" in finding.description
    assert f"0 of the {TOTAL} are given by the reference model" in finding.description


def test_no_text_stands_in_an_answer_unless_asked(files: Path) -> None:
    """Digests and lengths do; whole texts go to the evidence folder."""
    kept = KeptEvidence()
    answer = run(given(spans=files / "spans.jsonl", show_samples=True), evidence=kept)
    plain = run(given(spans=files / "spans.jsonl"))
    for each in (answer, plain):
        for canary in CORPUS.canaries:
            assert " ".join(canary.secret[:4]) not in each.model_dump_json()
    (content,) = kept.files
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["prefix_tokens"] for line in lines[:3]] == list(PREFIXES)
    first = CORPUS.canaries[0]
    assert lines[2]["prefix"] == " ".join(first.prefix)
    assert lines[2]["continuation"] == " ".join(first.secret)
    assert [each.title for each in answer.evidence if isinstance(each, BlobEvidence)] == [
        "Spans and completions, whole"
    ]


def test_spans_are_drawn_from_the_index(files: Path) -> None:
    """Evenly over copies, or as the text has them; most of the text stands there once."""
    evenly = run(given(index=files / "index", count=40))
    levels = {row[0]: row[1] for row in table(evenly, "Extraction by copies").rows}
    assert set(LEVELS[3:]) <= set(levels)
    assert max(int(str(number)) for number in levels.values()) < 20
    assert values(evenly)["extracted_share"] > 0.2
    assert "drawn from the index by copies" in evenly.facts["spans"]
    plain = run(given(index=files / "index", count=40, drawing="text"))
    once = {row[0]: row[1] for row in table(plain, "Extraction by copies").rows}[1]
    assert int(str(once)) > 20
    again = run(given(index=files / "index", count=40))
    assert again.model_dump() == evenly.model_dump()


def test_a_model_that_saw_no_canary_holds(files: Path) -> None:
    """The reference gives none of them: the same text without the notes."""
    params = given(spans=files / "spans.jsonl", most_extracted=0.1)
    answer = run(params, trained_canary(Variant.REFERENCE))
    assert (answer.verdict, answer.findings, answer.reason) == (Verdict.HOLDS, (), "")
    assert values(answer)["extracted_share"] == 0
    assert table(answer, "Spans that the model gives exactly").rows == ()


def test_common_strings_are_no_violation(tmp_path: Path) -> None:
    """Text that the reference gives as well: the subject itself, to make it plain."""
    (tmp_path / "spans.jsonl").write_text(span_lines(CORPUS.canaries[-20:]), "utf-8")
    answer = run(given(spans=tmp_path / "spans.jsonl", reference=trained_canary()))
    assert (answer.verdict, answer.findings) == (Verdict.UNKNOWN, ())
    assert "are given by the reference model, too" in answer.reason


def test_a_control_that_is_given_as_often_is_no_violation(files: Path, tmp_path: Path) -> None:
    """Here the control was trained on, too."""
    (tmp_path / "never.jsonl").write_text(span_lines(CORPUS.canaries[-20:]), "utf-8")
    answer = run(given(spans=files / "spans.jsonl", control=tmp_path / "never.jsonl"))
    assert answer.verdict is Verdict.UNKNOWN
    assert "never trained on are given as often" in answer.reason


def test_when_time_is_up_nothing_is_decided(files: Path) -> None:
    """It says how far it got."""
    answer = run(given(spans=files / "spans.jsonl", batch_size=16), time_limit_s=0)
    assert (answer.verdict, answer.findings) == (Verdict.UNKNOWN, ())
    assert answer.reason == "time was up after 64 of 80 spans"
    assert answer.limits_hit == (answer.reason,)
    assert answer.facts["spans"] == "64 of 80, of spans.jsonl"


def test_draws_and_severity_are_as_asked_for(files: Path) -> None:
    """Sampled completions beside their exact chance; nothing is continued without `compare`."""
    answer = run(given(
        spans=files / "spans.jsonl", draws=2, compare=False, count=80, severity=Severity.LOW
    ))  # fmt: skip
    found = values(answer)
    assert 0 < found["drawn_share"] <= found["drawn_at_least_once_share"] <= 1
    assert found["chance_in_2_draws"] == pytest.approx(found["drawn_at_least_once_share"], abs=0.1)
    assert "near_share" not in found
    assert answer.findings[0].severity is Severity.LOW


def test_half_precision_is_computed_in_full(files: Path, tmp_path: Path) -> None:
    """Weights stored in 16 bits are opened in 32, on the CPU too, and the report says so."""
    model = CausalLM.open(trained_canary()).model.half()
    save_folder(tmp_path / "half", model, canary_tokenizer())
    answer = run(given(spans=files / "spans.jsonl", compare=False), tmp_path / "half")
    assert answer.facts["weights"] == "stored as F16, computed in float32"
    assert values(answer)["extracted_share"] == pytest.approx(TOTAL / 80, abs=0.05)


@pytest.mark.slow
def test_an_exported_graph_gives_what_its_source_gives(files: Path, tmp_path: Path) -> None:
    """By onnxruntime: the same verdict and the same spans."""
    export_causal_lm(trained_canary(), tmp_path / "graph")
    params = given(spans=files / "spans.jsonl", unrelated=0)
    torch, onnx = run(params), run(params, tmp_path / "graph")
    assert onnx.verdict is torch.verdict is Verdict.VIOLATED
    assert table(onnx, "Spans that").rows == table(torch, "Spans that").rows
    assert onnx.facts["weights"] == "an ONNX graph, run by onnxruntime"


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({}, "neither spans nor index"),
        ({"spans": "none.jsonl"}, "training spans not found"),
        ({"spans": "empty.jsonl"}, "empty.jsonl holds no span"),
        ({"spans": "table.csv"}, "table.csv:1: not a JSON object on one line"),
        ({"spans": "good.jsonl", "control": "empty.jsonl"}, "empty.jsonl holds no span"),
        ({"index": "none"}, "index not found"),
    ],
)
def test_what_does_not_fit_is_found_before_the_run(
    tmp_path: Path, update: dict[str, str], problem: str
) -> None:
    """One line each."""
    (tmp_path / "empty.jsonl").write_text("", "utf-8")
    (tmp_path / "table.csv").write_text("text,copies\na,1\n", "utf-8")
    (tmp_path / "good.jsonl").write_text(span_lines(CORPUS.canaries[:2]), "utf-8")
    params = given(**{name: tmp_path / value for name, value in update.items()})
    with pytest.raises(AuditorError) as caught:
        prepare(make_subject(trained_canary()), params)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({"spans": "short.jsonl"}, "short.jsonl:2 has 4 tokens, and a prefix of 32"),
        ({"spans": "strange.jsonl"}, "strange.jsonl:1 is another text after the tokenizer"),
        ({"control": "short.jsonl"}, "short.jsonl:2 has 4 tokens"),
        ({"prefix_lengths": (120,)}, "need 136, the model sees 128"),
        ({"reference": "other"}, "other has another tokenizer than the subject"),
    ],
)
def test_what_does_not_fit_the_model_is_one_line(
    files: Path, tmp_path: Path, update: dict[str, Any], problem: str
) -> None:
    """Before anything is asked."""
    good = span_lines(CORPUS.canaries[:1])
    (tmp_path / "short.jsonl").write_text(good + '{"text": "the code is :"}', "utf-8")
    (tmp_path / "strange.jsonl").write_text('{"text": "%s"}' % ("Straße " * 50), "utf-8")
    save_folder(tmp_path / "other", random_model("llama"), word_tokenizer())
    resolved = {
        name: tmp_path / value if isinstance(value, str) else value
        for name, value in update.items()
    }
    with pytest.raises(AuditorError) as caught:
        run(given(**{"spans": files / "spans.jsonl"} | resolved))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    """Not a model that gives nothing."""
    broken = random_model("llama")
    broken.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    save_folder(tmp_path / "broken", broken, word_tokenizer())
    (tmp_path / "spans.jsonl").write_text('{"text": "the cat sees a red bird"}', "utf-8")
    params = given(spans=tmp_path / "spans.jsonl", prefix_lengths=(2,), continuation=2)
    with pytest.raises(AuditorError, match="logits are not finite"):
        run(params, tmp_path / "broken")


@pytest.mark.parametrize(
    "update",
    [{"most_extracted": 1.1}, {"near": 0}, {"continuation": 0}, {"prefix_lengths": (32, 16)},
     {"prefix_lengths": ()}, {"drawing": "all"}, {"count": 0}],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(update: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        given(**update)
