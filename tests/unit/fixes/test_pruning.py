"""The driver of prunings: chosen on one split, judged on another, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from auditor.errors import ConfigurationError, NothingToAudit, OperationFailed, OutputNotWritable
from auditor.fix import FixResult
from auditor.fixes.language_pruning import DEMANDS, LanguageStudy
from auditor.fixes.pruning import (
    MAGNITUDE,
    PruningWork,
    choose,
    fix_by_pruning,
    locate,
    masks_beside,
)
from auditor.fixes.pruning_gate import PruningDemands
from auditor.fixes.pruning_study import Candidate, Outcome, Split
from auditor.fixes.pruning_trials import MaskTrial, MaskTrials
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.memorization.language.attack import recited
from auditor.memorization.masks.mask_file import read_masks, restore
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import find_sites
from tests.models.recital_folder import RecitalFolder
from tests.unit.fixes.planted_pruning import NEURONS, items_of, planted_study
from tests.unit.fixes.test_deconfliction import files_of, files_up_to

WORK = PruningWork(DEMANDS, controls=2)
WEIGHTS = replace(NEURONS, neurons=False, shares=(0.05,))


class Done(NamedTuple):
    """A repair that was made, and what there was before it."""

    result: FixResult
    out: Path
    recital: RecitalFolder
    files: dict[str, str]
    state: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Accepted: whole neurons of a planted recital."""
    folder = tmp_path_factory.mktemp("pruned")
    recital, study = planted_study(folder / "model")
    files = files_of(folder / "model")
    state = {name: value.clone() for name, value in recital.model.model.state_dict().items()}
    return Done(fix_by_pruning(study, folder / "new", WORK), folder / "new", recital, files, state)


def test_a_repair_that_is_known_to_be_there_is_found_and_accepted(done: Done) -> None:
    result = done.result
    assert result.decision == "accepted"
    assert all(reason.startswith("kept: ") for reason in result.reasons)
    assert result.parameters["chosen"] == "wanda_diff, feed_forward, whole neurons, 0.6"
    assert result.parameters["candidates"] == "2"
    planted = done.recital.planted.carried_by.values()
    neurons = sum(int(mask.any(dim=0).sum()) for mask in planted)
    sizes = [mask.shape for mask in planted]
    pruned = neurons * sizes[0][0] / sum(rows * columns for rows, columns in sizes)
    assert result.parameters["density"] == f"{pruned:.4f}"


def test_the_written_model_is_pruned_and_the_old_one_as_it_was(done: Done) -> None:
    written = CausalLM.open(done.out, expected_digest=done.result.written_digest)
    assert done.result.written == done.out.name
    assert not recited(written, done.recital.memorised).any()
    assert recited(written, done.recital.ordinary).all()
    assert files_of(done.recital.model.folder.path) == done.files
    after = done.recital.model.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in done.state.items())


def test_the_masks_beside_it_bring_the_old_model_back(done: Done) -> None:
    """To the last bit."""
    written = CausalLM.open(done.out)
    kept = read_masks(masks_beside(done.out))
    assert kept.head.base == done.recital.model.folder.digest
    assert kept.head.rule == done.result.parameters["chosen"]
    restore(find_sites(written.model), kept)
    found = written.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in done.state.items())


def test_nothing_else_is_written(done: Done) -> None:
    assert sorted(path.name for path in done.out.parent.iterdir()) == [
        "model", "new", "new.masks.safetensors",
    ]  # fmt: skip


def test_the_record_holds_controls_attacks_and_every_candidate(done: Done) -> None:
    repair, *controls = done.result.conditions
    assert [each.name for each in controls] == [
        MAGNITUDE, "matched random weights 1", "matched random weights 2",
    ]  # fmt: skip
    assert all(each.control_of == repair.name for each in controls)
    assert repair.notes[0] == "suppressed and recoverable"
    measures = {each.name: each for each in repair.comparisons}
    rate, text = measures["strict extraction"], measures["perplexity of ordinary text"]
    assert (rate.before.value, rate.after.value, rate.after.sample_size) == (1.0, 0.0, 4)
    assert text.before.unit == "perplexity"
    assert text.before.value == pytest.approx(done.recital.model.perplexity(done.recital.texts[4:]))
    assert text.after.value == text.before.value
    assert (text.change_of, text.change and text.change.upper) == ("rise as a share", 0.0)
    attacked = [name for name in measures if name.endswith("that come back")]
    assert len(attacked) == 14
    [curve] = done.result.evidence
    assert [series.name for series in curve.series] == [  # type: ignore[union-attr]
        "untouched", "wanda_diff, feed_forward, whole neurons",
    ]  # fmt: skip


def test_the_record_is_read_back_as_it_was_written(done: Done) -> None:
    assert FixResult.model_validate_json(done.result.model_dump_json()) == done.result


def test_masks_no_better_than_the_largest_weights_are_rejected_and_not_written(
    tmp_path: Path,
) -> None:
    """Single weights of a planted recital are its largest ones."""
    _, study = planted_study(tmp_path / "model", WEIGHTS)
    before = files_of(tmp_path / "model")
    result = fix_by_pruning(study, tmp_path / "new", WORK)
    assert result.decision == "rejected"
    [line] = [reason for reason in result.reasons if reason.startswith("missed: ")]
    assert line.startswith(f"missed: against {MAGNITUDE}: neither")
    assert (result.written, result.written_digest) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert files_of(tmp_path / "model") == before


def test_a_limit_on_recovery_rejects_what_comes_back(tmp_path: Path) -> None:
    """The same repair that is accepted without one."""
    _, study = planted_study(tmp_path / "model")
    work = replace(WORK, demands=replace(DEMANDS, most_recovery=0.5))
    result = fix_by_pruning(study, tmp_path / "new", work)
    [line] = [reason for reason in result.reasons if reason.startswith("missed: ")]
    assert line.startswith("missed: 2 steps of training at 0.0001 on the same spans: 100.0%")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("size", [20_000, 300], ids=["weights", "configuration"])
def test_a_failing_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    """One line, no folder, no masks, and the old model as it was."""
    recital, study = planted_study(tmp_path / "model")
    before = files_of(tmp_path / "model")
    with files_up_to(size), pytest.raises(OperationFailed, match=r"cannot write .*new"):
        fix_by_pruning(study, tmp_path / "new", WORK)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert files_of(tmp_path / "model") == before
    assert recited(recital.model, recital.memorised).all()


class Interfering(LanguageStudy):
    """Something else takes the place of a file while the model is written."""

    place: Path

    def write(self, made: Path, candidate: Candidate) -> str:
        """As it is; then a folder stands where the file should go."""
        self.place.mkdir()
        (self.place / "other").touch()
        return super().write(made, candidate)


@pytest.mark.parametrize("name", ["new.masks.safetensors", "new"])
def test_a_place_that_is_taken_meanwhile_leaves_nothing_of_the_repair(
    tmp_path: Path, name: str
) -> None:
    """Neither the model without its masks nor the masks without their model."""
    recital, study = planted_study(tmp_path / "model")
    interfering = Interfering(study.model, study.items, study.how)
    interfering.place = tmp_path / name
    with pytest.raises((OperationFailed, OutputNotWritable), match="cannot write"):
        fix_by_pruning(interfering, tmp_path / "new", WORK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["other"]
    assert recited(recital.model, recital.memorised).all()


@pytest.mark.parametrize("name", ["new", "new.masks.safetensors"])
def test_nothing_is_written_over(tmp_path: Path, name: str) -> None:
    """And nothing is measured before that is known."""
    _, study = planted_study(tmp_path / "model")
    (tmp_path / name).mkdir()
    heard: list[str] = []
    with pytest.raises(OutputNotWritable, match="it exists"):
        fix_by_pruning(study, tmp_path / "new", WORK, heard.append)
    assert heard == []


def test_the_same_again_gives_the_same(tmp_path: Path, done: Done) -> None:
    """Where a run was broken off nothing was left, so that it is issued again."""
    _, study = planted_study(tmp_path / "model")
    result = fix_by_pruning(study, tmp_path / "new", WORK)
    assert result == done.result
    assert masks_beside(tmp_path / "new").read_bytes() == masks_beside(done.out).read_bytes()


def test_a_model_that_gives_nothing_back_needs_no_repair(tmp_path: Path) -> None:
    recital, study = planted_study(tmp_path / "model")
    items = replace(study.items, memorised=tuple(recital.unseen[:2]),
                    unseen=tuple(recital.unseen[2:]))  # fmt: skip
    with pytest.raises(NothingToAudit, match="nothing to repair"):
        fix_by_pruning(LanguageStudy(study.model, items, study.how), tmp_path / "new", WORK)


def test_no_candidate_and_no_control_are_refused(tmp_path: Path) -> None:
    _, study = planted_study(tmp_path / "model", replace(NEURONS, shares=()))
    with pytest.raises(NothingToAudit, match="give at least one of each"):
        fix_by_pruning(study, tmp_path / "new", WORK)
    with pytest.raises(ConfigurationError, match="0 random masks"):
        PruningWork(controls=0)


def test_a_candidate_that_prunes_nothing_is_rejected(tmp_path: Path) -> None:
    """A share below one neuron."""
    _, study = planted_study(tmp_path / "model", replace(NEURONS, shares=(0.01,)))
    result = fix_by_pruning(study, tmp_path / "new", WORK)
    assert result.decision == "rejected"
    assert result.reasons[0].startswith("missed: strict extraction is 100.0%")


@pytest.mark.slow
def test_a_graph_goes_with_the_model_or_not_at_all(tmp_path: Path) -> None:
    """Both say nothing of what was memorised; where the model cannot be written there is none."""
    recital, study = planted_study(tmp_path / "model")
    work = replace(WORK, graph=tmp_path / "graph")
    assert fix_by_pruning(study, tmp_path / "new", work).decision == "accepted"
    graph = OnnxCausalLM.open(tmp_path / "graph")
    start = [list(span.prefix) for span in recital.memorised]
    read = graph.read_continuations(start, [span.continuation for span in recital.memorised])
    assert not any(each.exact for each in read)
    interfering = Interfering(study.model, study.items, study.how)
    interfering.place = tmp_path / "second"
    with pytest.raises(OperationFailed, match="cannot write"):
        fix_by_pruning(interfering, tmp_path / "second", replace(work, graph=tmp_path / "drawn"))
    assert not (tmp_path / "drawn").exists()
    assert not masks_beside(tmp_path / "second").exists()


def tried(name: str, back: float, cost: float) -> MaskTrial:
    """A candidate that was measured."""
    return MaskTrial(
        Candidate(name, (), WeightMasks({})), Outcome(np.full(4, back), np.full(4, cost))
    )


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([tried("few", 0.0, 0.02), tried("many", 0.5, 0.0)], "few"),
        ([tried("dear", 0.25, 0.02), tried("cheap", 0.25, 0.01)], "cheap"),
        ([tried("too dear", 0.0, 0.2), tried("allowed", 0.5, 0.04)], "allowed"),
        ([tried("dearer", 0.0, 0.9), tried("dear", 0.9, 0.2)], "dear"),
    ],
    ids=["fewest items", "least loss of as many", "within the limit", "none allowed"],
)  # fmt: skip
def test_the_choice(tmp_path: Path, candidates: Sequence[MaskTrial], chosen: str) -> None:
    _, study = planted_study(tmp_path / "model")
    start = Outcome(np.ones(4), np.zeros(4))
    found = choose(start, candidates, study, PruningDemands(most_rate=0.1, most_loss=0.05))
    assert found.candidate.name == chosen


def test_nothing_is_chosen_by_what_is_reported(tmp_path: Path) -> None:
    """The untouched model and candidates by one split; it again, controls and the choice by the
    other."""
    asked: list[tuple[Split, bool]] = []

    class Watched(LanguageStudy):
        def measure(self, split: Split) -> Outcome:
            found = super().measure(split)
            asked.append((split, bool(found.rates.all())))
            return found

    _, study = planted_study(tmp_path / "model")
    result = fix_by_pruning(Watched(study.model, study.items, study.how), tmp_path / "new", WORK)
    assert result.decision == "accepted"
    splits = [split for split, _ in asked]
    assert splits == [Split.CHOOSE] * 3 + [Split.REPORT] * 5


def test_an_interrupted_search_goes_on_where_it_stopped(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MaskTrials of the same work are not made again, and the result is the same."""
    made: list[str] = []
    whole = LanguageStudy.candidate

    def interrupted(study: LanguageStudy, name: str) -> Candidate:
        made.append(name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return whole(study, name)

    study = LanguageStudy(done.recital.model, items_of(done.recital), NEURONS)
    out, trials = tmp_path / "new", MaskTrials(tmp_path / "trials", "key")
    work = replace(WORK, trials=trials)
    monkeypatch.setattr(LanguageStudy, "candidate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fix_by_pruning(study, out, work)
    assert [each.candidate.name for each in trials.known(study)] == made[:1]
    assert not replace(trials, key="other").known(study)
    result = fix_by_pruning(study, out, work)
    assert made == [study.names[0], study.names[1], study.names[1]]
    assert result == done.result.model_copy(update={"written": out.name})
    assert not trials.folder.exists()


def test_a_damaged_trial_is_made_again(done: Done, tmp_path: Path) -> None:
    study = LanguageStudy(done.recital.model, items_of(done.recital), NEURONS)
    trials = MaskTrials(tmp_path / "trials", "key")
    locate(study, DEMANDS, trials=trials)
    assert len(trials.known(study)) == 2
    [first, _] = sorted(trials.folder.glob("*.safetensors"))
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(bytes(content))
    assert len(trials.known(study)) == 1
    next(iter(trials.folder.glob("*.json"))).write_text("{", "utf-8")
    assert len(trials.known(study)) <= 1
