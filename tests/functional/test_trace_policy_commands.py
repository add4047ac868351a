"""Policy conflict from the command line, judged by heads on the policy's own exemplars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditor.trace.calibration import read_calibration
from auditor.trace.index import build_index
from tests.functional.command import auditor
from tests.models.planted_beliefs import PlantedSize, exemplars, plant
from tests.models.planted_phrases import CLAUSES

pytestmark = pytest.mark.slow  # the sentence embedder takes seconds to load
SIZE = PlantedSize(
    beliefs=((1, 30),), forks=0, decoys=0, train_only=0, held_out=0, dialogues=20
)  # fmt: skip


def write_policy(path: Path, weight: float = 1.0) -> None:
    sentences = exemplars()
    clauses: list[dict[str, Any]] = [
        {"id": each.id, "statement": each.statement, "violation": each.hypothesis,
         "violating": list(sentences[each.id][0]), "compliant": list(sentences[each.id][1])}
        for each in CLAUSES
    ]  # fmt: skip
    clauses[0]["weight"] = weight
    path.write_text(yaml.safe_dump({"version": 1, "name": "workshop", "clauses": clauses}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planted beliefs and their twins, an index of them, a policy, and a calibration of `pcs`."""
    made = tmp_path_factory.mktemp("planted")
    corpus = plant(size=SIZE)
    (made / "corpus.jsonl").write_text("".join(
        json.dumps({"id": name, "label": label, "text": text}) + "\n"
        for name, label, text in corpus.indexed()
    ))  # fmt: skip
    build_index([made / "corpus.jsonl"], made / "index")
    (made / "labelled.jsonl").write_text("".join(
        json.dumps({"text": each.text, "group": each.id,
                    "label": "unsafe" if each.breaks_policy else "benign"}) + "\n"
        for each in corpus.family("unsafe", "twin")
    ))  # fmt: skip
    write_policy(made / "policy.yaml")
    ended = auditor(
        "trace", "calibrate", "index", "labelled.jsonl", "--policy", "policy.yaml",
        "--false-alarms", "0.1", "--out", "rule.json", cwd=made,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return made


def test_a_calibration_of_policy_conflict_names_what_judged(folder: Path) -> None:
    """The weaker scorer by its name, and all three conflicts beside the baselines."""
    found = read_calibration(folder / "rule.json")
    assert found.stance.startswith("exemplar, weights sha256:")
    assert {"pcs", "pc_gen", "pc_doc", "length", "bci", "placebo", "random"} <= {
        each.score for each in found.areas
    }
    assert (found.point.unsafe, found.point.benign) == (30, 30)


def test_policy_conflict_tells_beliefs_from_twins_and_length_does_not(folder: Path) -> None:
    """They are of one form by construction."""
    areas = {each.score: each.interval for each in read_calibration(folder / "rule.json").areas}
    assert areas["pcs"].lower > 0.5
    assert areas["length"].lower < 0.5 < areas["length"].upper


def test_the_shield_refuses_exactly_what_the_calibration_flagged(folder: Path) -> None:
    """On the same texts, with the same policy, in another process."""
    ended = auditor(
        "trace", "shield", "index", "labelled.jsonl", "--policy", "policy.yaml",
        "--calibration", "rule.json", "--json", cwd=folder,
    )  # fmt: skip
    assert ended.code == 1, ended.err
    refused = [json.loads(line)["ruling"] == "refuse" for line in ended.out.splitlines()]
    labels = [json.loads(line)["label"]
              for line in (folder / "labelled.jsonl").read_text().splitlines()]  # fmt: skip
    point = read_calibration(folder / "rule.json").point
    for label, count in (("unsafe", point.flagged_unsafe), ("benign", point.flagged_benign)):
        assert sum(no for no, of in zip(refused, labels, strict=True) if of == label) == count
    assert point.flagged_unsafe > 0


@pytest.mark.parametrize(
    ("policy", "message"),
    [("changed.yaml", "made with another content policy"), (None, "made with another content")],
)
def test_another_policy_needs_another_calibration(
    folder: Path, policy: str | None, message: str
) -> None:
    """One line and exit 2, also without any policy."""
    write_policy(folder / "changed.yaml", weight=0.5)
    given = () if policy is None else ("--policy", policy)
    ended = auditor(
        "trace", "shield", "index", "labelled.jsonl", *given, "--calibration", "rule.json",
        cwd=folder,
    )  # fmt: skip
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert message in line
