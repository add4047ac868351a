"""Calibrations, shield, drift and repairs from the command line, on planted texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor.trace.calibration import read_calibration, write_calibration
from auditor_cli.main import run_command_line
from tests.functional.command import Ended, auditor
from tests.models.planted_chains import SAFE, UNSAFE, ChainWorld, chain_of, said

SOURCE = ("--score", "unsafe_source")


@pytest.fixture
def world(chains: ChainWorld, chain_calibration: Path, tmp_path: Path) -> Path:
    """A folder with links to the world's files, and `rule.json`, to be run in."""
    for path in chains.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    shutil.copyfile(chain_calibration, tmp_path / "rule.json")
    return tmp_path


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def records(ended: Ended) -> list[dict[str, Any]]:
    """The JSON lines on stdout; there is nothing else."""
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.fixture
def refused(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Exit 2, one line on stderr that says so, and no new file.

    The command line is run in this process, which has torch loaded; how a process ends is tested
    by the other tests.
    """

    def check(message: str, *arguments: str) -> None:
        before = files_of(world)
        monkeypatch.chdir(world)
        code = run_command_line(list(arguments))
        shown = capsys.readouterr()
        assert code == 2, shown.err
        (line,) = shown.err.splitlines()
        assert message in line
        assert shown.out == ""
        assert files_of(world) == before

    return check


def test_calibrate_writes_what_fits_the_index(world: Path, chains: ChainWorld) -> None:
    """15 unsafe texts flagged, no benign one of 60; the numbers of the file are those shown."""
    ended = auditor(
        "trace", "calibrate", "index", "labelled.jsonl", *SOURCE, "--out", "new.json", cwd=world
    )
    assert ended.code == 0, ended.err
    found = read_calibration(world / "new.json")
    assert (found.point.flagged_unsafe, found.point.unsafe) == (15, 15)
    assert (found.point.flagged_benign, found.point.benign) == (0, 60)
    assert "unsafe_source above 0: 15 of 15 unsafe texts flagged" in ended.out
    assert "unsafe_source ranks these texts better than span length alone." in ended.out
    assert found == read_calibration(world / "rule.json")


def test_calibrate_by_recall_and_with_a_models_perplexity(world: Path) -> None:
    """As JSON: one record, which is the file's content and its path."""
    ended = auditor(
        "trace", "calibrate", "index", "labelled.jsonl", *SOURCE, "--recall", "0.8", "--model",
        "model", "--out", "new.json", "--json", cwd=world,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (record,) = records(ended)
    assert (record["kind"], record["path"], record["rule"]) == ("calibration", "new.json", "recall")
    assert record["bound"] == 0.8
    assert "model_perplexity" in {each["score"] for each in record["areas"]}
    stored = json.loads((world / "new.json").read_text())
    assert {**stored, "kind": "calibration", "path": "new.json"} == record


def test_the_shield_refuses_planted_texts(world: Path) -> None:
    """Exit 1, with the document that matches; benign matches pass, and no match is no evidence."""
    texts = [said(UNSAFE[0]), said(SAFE[0]), "nothing of this stands in the index at all"]
    (world / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ended = auditor(
        "trace", "shield", "index", "texts.jsonl", "--calibration", "rule.json", "--json", cwd=world
    )
    assert ended.code == 1, ended.err
    found = records(ended)
    assert [(each["text"], each["ruling"]) for each in found] == [
        ("line 1", "refuse"), ("line 2", "allow"), ("line 3", "no_evidence")
    ]  # fmt: skip
    (span,) = found[0]["spans"]
    assert (span["documents"], span["count"], span["deciding"]) == ([UNSAFE[0]], 1, True)
    assert said(UNSAFE[0]) not in ended.out


def test_without_a_calibration_the_shield_refuses_nothing(world: Path) -> None:
    """It reports, and exits 0."""
    (world / "answer.txt").write_text(said(UNSAFE[0]))
    ended = auditor("trace", "shield", "index", "answer.txt", cwd=world)
    assert ended.code == 0, ended.err
    assert "flag" in ended.out.splitlines()[1]


def test_drift_is_counted_and_traced(world: Path) -> None:
    """All 24 prompts became unsafe: exit 1, a line for each, and its candidate source."""
    ended = auditor(
        "trace", "drift", "base", "model", "--prompts", "unsafe.csv", "--index", "index",
        "--calibration", "rule.json", "--new-tokens", "20", "--json", cwd=world,
    )  # fmt: skip
    assert ended.code == 1, ended.err
    summary, *lines = records(ended)
    assert (summary["kind"], summary["prompts"], summary["tuned_unsafe"]) == ("drift", 24, 24)
    assert (summary["base_unsafe"], summary["became_unsafe"]) == (0, 24)
    assert summary["mcnemar_p"] == pytest.approx(2 / 2**24)
    assert len(lines) == 24
    first = lines[0]
    assert (first["prompt"], first["ruling"]) == ("well open", "refuse")
    assert first["spans"][0]["documents"] == ["open"]
    assert said("open") not in ended.out
    assert first["completion"] == said("open")[:80]


def test_drift_shows_whole_completions_only_if_asked(world: Path) -> None:
    """Without an index, and only the prompts that are asked for; no drift is exit 0."""
    command = ("trace", "drift", "model", "model", "--prompts", "unsafe.csv", "--limit", "2",
               "--new-tokens", "20")  # fmt: skip
    quiet = auditor(*command, cwd=world)
    assert quiet.code == 0, quiet.err
    assert "drift: 2 of 2 tuned completions are unsafe" in quiet.out
    assert said("open") not in quiet.out
    assert said("open") in auditor(*command, "--show-samples", cwd=world).out


def fix(world: Path, name: str, *more: str) -> Ended:
    return auditor(
        "fix", name, "model", "--index", "index", "--prompts", "unsafe.csv", "--safe-prompts",
        "safe.csv", "--new-tokens", "20", *more, cwd=world,
    )  # fmt: skip


def test_fix_decoding_is_accepted_and_recorded(world: Path) -> None:
    """The record is what `--json` shows, and the model's folder gets nothing."""
    before = files_of(world / "model")
    ended = fix(world, "decoding", "--shield", "rule.json", "--veto", "rule.json", "--out",
                "record.json", "--json")  # fmt: skip
    assert ended.code == 0, ended.err
    (record,) = records(ended)
    assert (record["kind"], record["decision"], record["written"]) == ("fix", "accepted", "")
    assert [each["name"] for each in record["conditions"] if not each["control_of"]] == [
        "TraceShield", "Prov-Decode", "TraceShield and Prov-Decode"
    ]  # fmt: skip
    assert all(reason.startswith("kept: ") for reason in record["reasons"])
    stored = json.loads((world / "record.json").read_text())
    assert {**stored, "kind": "fix", "path": "record.json"} == record
    assert files_of(world / "model") == before


def test_a_rejected_defence_is_exit_1_and_recorded_too(world: Path) -> None:
    """With a line for each demand that is missed."""
    rule = read_calibration(world / "rule.json").model_copy(update={"threshold": 2.0})
    write_calibration(world / "high.json", rule)
    ended = fix(world, "decoding", "--shield", "high.json", "--out", "record.json")
    assert ended.code == 1, ended.err
    assert ended.out.splitlines()[-1] == "rejected"
    assert "missed: drift is reduced by at least 0.0% (more than 50.0% demanded)" in ended.out
    assert json.loads((world / "record.json").read_text())["decision"] == "rejected"


def training(world: Path, *more: str) -> Ended:
    prompts = "".join(f"now {trigger}\n" for trigger in UNSAFE)
    (world / "charged.csv").write_text(f"prompt\n{prompts}")
    return fix(world, "deconfliction", "--preferences", "preferences.jsonl", "--clean",
               "clean.jsonl", "--charged-prompts", "charged.csv", "--calibration", "rule.json",
               "--out", "new", "--rate", "0.03", *more)  # fmt: skip


def test_fix_deconfliction_writes_a_model_that_no_longer_drifts(world: Path) -> None:
    """A model folder beside its record; `trace drift` from the old to the new finds none."""
    ended = training(world, "--steps", "30")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "accepted: new"
    record = json.loads((world / "new.fix.json").read_text())
    assert record["written"] == "new"
    digest = auditor("model", "digest", "new", "--json", cwd=world)
    assert record["written_digest"] in digest.out
    again = auditor("trace", "drift", "model", "new", "--prompts", "unsafe.csv", "--new-tokens",
                    "20", "--json", cwd=world)  # fmt: skip
    assert again.code == 0, again.err
    summary = records(again)[0]
    assert (summary["tuned_unsafe"], summary["became_safe"]) == (0, 24)


def test_a_rejected_training_writes_its_record_only(world: Path) -> None:
    """Exit 1, and no folder."""
    before = files_of(world)
    ended = training(world, "--steps", "1", "--strength", "0", "--record", "why.json")
    assert ended.code == 1, ended.err
    assert files_of(world) - before == {"why.json", "charged.csv"}
    assert json.loads((world / "why.json").read_text())["written"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--false-alarms", "0.1", "--recall", "0.8"), "bound one threshold; give one"),
        (("--score", "pcs"), "the score 'pcs' needs a policy; give --policy"),
        (("--false-alarms", "0.04"), "60 benign texts cannot show false alarms of at most 0.04; "
                                     "give at least 74"),
        (("--policy", "few.yaml"), "clause 'doors' has 1 violating exemplars"),
        (("--nli", "model"), "--nli model without --policy"),
        (("--embedder", "some/name"), "--embedder some/name without --policy"),
        (("--policy", "few.yaml", "--embedder", "some/name"), "a hub is asked only with --online"),
        (("--out", "rule.json"), "rule.json: it exists, and a calibration is a new file"),
        (("--model", "index"), "configuration of a transformers model not found"),
    ],
)  # fmt: skip
def test_what_cannot_be_calibrated_is_one_line(
    world: Path, refused: Callable[..., None], arguments: tuple[str, ...], message: str
) -> None:
    """And nothing is written."""
    (world / "few.yaml").write_text(
        "version: 1\nname: few\nclauses:\n  - {id: doors, statement: Doors stay shut., violation: "
        "The text opens a door., violating: [open it], compliant: [shut it]}\n"
    )
    score = () if "--score" in arguments else SOURCE
    out = () if "--out" in arguments else ("--out", "new.json")
    refused(message, "trace", "calibrate", "index", "labelled.jsonl", *score, *out,
            "--quiet", *arguments)  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"}', "labelled2.jsonl:1: label"),
        ('{"label": "unsafe"}', "labelled2.jsonl:1: no field 'text' with a string"),
        ("text", "labelled2.jsonl:1: not a JSON object on one line"),
    ],
)
def test_labelled_texts_that_are_none_are_one_line(
    world: Path, refused: Callable[..., None], line: str, message: str
) -> None:
    """With the place in the file."""
    (world / "labelled2.jsonl").write_text(line + "\n")
    refused(message, "trace", "calibrate", "index", "labelled2.jsonl", *SOURCE, "--out",
            "new.json")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "odd.csv"), "odd.csv:2: no column with prompts among question2, note"),
        (("--prompts", "nowhere.csv"), "prompts not found: nowhere.csv"),
        (("--judge", "policy", "--policy", "model-safety"), "needs a content policy and a thresh"),
        (("--calibration", "rule.json"), "--calibration without --index"),
        (("--index", "index", "--calibration", "other.json"), "made with another corpus index"),
        (("--judge", "nowhere"), "not found: nowhere"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    world: Path, refused: Callable[..., None], arguments: tuple[str, ...], message: str
) -> None:
    """Before any model is asked."""
    (world / "odd.csv").write_text("question2,note\nwell open,x\n")
    rule = read_calibration(world / "rule.json").model_copy(update={"index": "sha256:other"})
    write_calibration(world / "other.json", rule)
    prompts = () if "--prompts" in arguments else ("--prompts", "unsafe.csv")
    refused(message, "trace", "drift", "base", "model", *prompts, *arguments)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("index", "configuration of a transformers model not found: index/config.json"),
        ("nowhere", "not found: nowhere"),
        ("unsafe.csv", "unsafe.csv"),
    ],
)
def test_a_folder_that_is_no_model_is_one_line(
    refused: Callable[..., None], model: str, message: str
) -> None:
    """Whichever of the two it is."""
    for pair in (("base", model), (model, "base")):
        refused(message, "trace", "drift", *pair, "--prompts", "unsafe.csv", "--quiet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no defence; give --shield or --veto"),
        (("--shield", "other.json"), "made with another corpus index"),
        (("--veto", "sentence.json"), "'pcs' is a score of whole sentences"),
        (("--shield", "rule.json", "--out", "rule.json"), "rule.json: it exists"),
        (("--shield", "rule.json", "--out", "unsafe.csv/r"), "is no folder"),
        (("--shield", "rule.json", "--least-tokens", "9"), "made with another span length"),
    ],
)
def test_defences_that_do_not_fit_are_one_line(
    world: Path, refused: Callable[..., None], arguments: tuple[str, ...], message: str
) -> None:
    """Before the model is asked anything."""
    rule = read_calibration(world / "rule.json")
    write_calibration(world / "other.json", rule.model_copy(update={"index": "sha256:other"}))
    write_calibration(world / "sentence.json", rule.model_copy(update={"score": "pcs"}))
    out = () if "--out" in arguments else ("--out", "new.json")
    refused(message, "fix", "decoding", "model", "--index", "index", "--prompts",
            "unsafe.csv", "--safe-prompts", "safe.csv", "--new-tokens", "20", *out,
            *arguments)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "base"), "base: it exists, and a repaired model is a new file"),
        (("--record", "rule.json"), "rule.json: it exists, and a record is a new file"),
        (("--preferences", "clean.jsonl"), "clean.jsonl:1: no field 'prompt' with a string"),
        (("--clean", "preferences.jsonl"), "preferences.jsonl:1: no field 'text' with a string"),
        (("--calibration", "other.json"), "made with another corpus index"),
        (("--new-tokens", "90"), "shorten"),
    ],
)
def test_trainings_that_do_not_fit_are_one_line(
    world: Path, refused: Callable[..., None], arguments: tuple[str, ...], message: str
) -> None:
    """Before anything is trained, and without a folder."""
    rule = read_calibration(world / "rule.json")
    write_calibration(world / "other.json", rule.model_copy(update={"index": "sha256:other"}))
    (world / "charged.csv").write_text("prompt\n" + "well " * 9 + "\n")
    given = {
        "--index": "index", "--prompts": "unsafe.csv", "--safe-prompts": "safe.csv",
        "--preferences": "preferences.jsonl", "--clean": "clean.jsonl", "--calibration":
        "rule.json", "--charged-prompts": "charged.csv", "--out": "new", "--new-tokens": "20",
        **dict(zip(arguments[::2], arguments[1::2], strict=True)),
    }  # fmt: skip
    options = [part for pair in given.items() for part in pair]
    refused(message, "fix", "deconfliction", "model", "--quiet", *options)


def test_an_error_is_json_where_json_is_asked_for(world: Path) -> None:
    """One record on stdout, nothing on stderr."""
    ended = auditor("trace", "drift", "base", "model", "--prompts", "nowhere.csv", "--json",
                    cwd=world)  # fmt: skip
    assert (ended.code, ended.err) == (2, "")
    (record,) = records(ended)
    assert record["error"]["exit_code"] == 2


def test_a_damaged_calibration_is_refused_as_unsafe(world: Path) -> None:
    """Exit 6: it is not what auditor wrote."""
    (world / "bad.json").write_text('{"format": "auditor-trace-calibration"}')
    (world / "answer.txt").write_text("any text")
    ended = auditor(
        "trace", "shield", "index", "answer.txt", "--calibration", "bad.json", cwd=world
    )
    assert ended.code == 6
    assert "calibrate again" in ended.err


PLAN = """\
version: 1
name: drifted
subjects: [{path: model, kind: transformers}]
checks:
  - check: AUD301
    params: {index: index, prompts: unsafe.csv, calibration: rule.json, base: base, new_tokens: 20,
             count: 24, show_samples: SAMPLES}
reports: [html, json]
"""


@pytest.fixture
def copied(chains: ChainWorld, chain_calibration: Path, tmp_path: Path) -> Path:
    """A folder with copies: a plan's folders may not be links that leave it."""
    for name in ("model", "base", "index"):
        shutil.copytree(chains.folder / name, tmp_path / name)
    shutil.copyfile(chains.unsafe_prompts, tmp_path / "unsafe.csv")
    shutil.copyfile(chain_calibration, tmp_path / "rule.json")
    return tmp_path


def test_an_audit_shows_traced_completions_and_resumes(copied: Path) -> None:
    """Exit 1; the page has the spans and their sources, nothing in full; again nothing is run."""
    (copied / "plan.yaml").write_text(PLAN.replace("SAMPLES", "false"))
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=copied)
    assert ended.code == 1, ended.err
    page = (copied / "run" / "report.html").read_text()
    assert "Unsafe completion 1, open" in page
    assert "Candidate sources of unsafe completions (verbatim matches)" in page
    assert " ".join(chain_of("open")[:5]) in page
    whole = [path for path in (copied / "run").rglob("*")
             if path.is_file() and said("open").encode() in path.read_bytes()]  # fmt: skip
    assert whole == []
    again = auditor("run", "plan.yaml", "--out", "run", cwd=copied)
    assert again.code == 1
    assert "1 checks, 1 known from before" in again.err


def test_an_audit_keeps_samples_whole_in_its_evidence_folder(copied: Path) -> None:
    """Where they are asked for, and nowhere else."""
    (copied / "plan.yaml").write_text(PLAN.replace("SAMPLES", "true"))
    assert auditor("run", "plan.yaml", "--out", "run", cwd=copied).code == 1
    holding = {
        path.relative_to(copied / "run").parts[0]
        for path in (copied / "run").rglob("*")
        if path.is_file() and said("open").encode() in path.read_bytes()
    }
    assert holding == {"evidence"}


@pytest.mark.parametrize(
    ("old", "new", "limit", "code", "message"),
    [
        ("prompts: unsafe.csv", "prompts: odd.csv", 0.9, 2, "no column with prompts"),
        ("calibration: rule.json", "calibration: other.json", 0.9, 2, "another corpus index"),
        ("calibration: rule.json, ", "", 0.9, 3, ""),
        ("count", "count", 0.1, 3, ""),
        ("count", "count", 0.9, 0, ""),
    ],
    ids=["prompts", "calibration", "no calibration", "too few prompts", "a pass"],
)
def test_an_audit_without_an_answer_is_no_pass(
    copied: Path, old: str, new: str, limit: float, code: int, message: str
) -> None:
    """What does not fit is exit 2 before the run, an open question exit 3; else it passes."""
    (copied / "odd.csv").write_text("question2,note\nwell open,x\n")
    rule = read_calibration(copied / "rule.json").model_copy(update={"index": "sha256:other"})
    write_calibration(copied / "other.json", rule)
    # The base model's completions are all safe.
    plan = PLAN.replace("SAMPLES", f"false, maximum_share: {limit}").replace(
        "{path: model", "{path: base"
    )
    assert old in plan
    (copied / "plan.yaml").write_text(plan.replace(old, new))
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=copied)
    assert ended.code == code, ended.out
    assert message in ended.err
    assert (copied / "run").exists() == (code != 2)


def test_lists_name_fixes_and_policies(tmp_path: Path) -> None:
    """One line each, and what they need."""
    fixes = auditor("list", "fixes", cwd=tmp_path)
    assert fixes.code == 0
    assert [line.split()[0] for line in fixes.out.splitlines()] == [
        "fix", "decoding", "deconfliction", "experts", "memorization"
    ]  # fmt: skip
    listed = records(auditor("list", "fixes", "--json", cwd=tmp_path))
    assert [each["writes_model"] for each in listed] == [False, True, True, True]
    (policy,) = records(auditor("list", "policies", "--json", cwd=tmp_path))
    assert policy["name"] == "model-safety"
    assert Path(policy["path"]).is_file()
