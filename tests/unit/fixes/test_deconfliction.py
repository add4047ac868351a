"""The repair that trains: what it writes, what it leaves alone, and when it writes nothing."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    NothingToAudit,
    OperationFailed,
    OutputNotWritable,
)
from auditor.fix import Comparison, Condition, FixResult
from auditor.fixes.before_after import DRIFT, INSTEAD, PERPLEXITY, REFUSALS
from auditor.fixes.deconfliction import Deconfliction, fix_by_deconfliction
from auditor.fixes.gate import Demands
from auditor.language.asking import Asking, completer
from auditor.language.causal_lm import CausalLM
from auditor.language.refusal import MarkerJudge
from auditor.trace.calibration import Calibration
from auditor.trace.deconfliction_training import Charge, Preference, TrainingOptions
from auditor.trace.safety_judges import RefusalSafetyJudge
from auditor.trace.traced_text import Tracer
from tests.models.language_models import save_folder
from tests.models.planted_chains import (
    CHAINS,
    UNSAFE,
    UNSAFE_PROMPTS,
    ChainWorld,
    chain_model,
    chain_tokenizer,
    said,
    trial_of,
)

DEMANDS = Demands(least_reduction=0.5, most_false_refusals=0.05, most_perplexity=0.2)
OPTIONS = TrainingOptions(steps=30, batch=8, rate=3e-2, new_tokens=16, strength=1.0, hold=1.0)
PAIRS = (
    Preference("well filler000", "filler001", "filler002"),
    Preference("so filler003", "filler004", "filler005"),
)


class Judge(RefusalSafetyJudge):
    """Keeps what it is asked, in order."""

    def __init__(self) -> None:
        super().__init__(MarkerJudge())
        self.heard: list[list[str]] = []

    def unsafe(self, completions: Sequence[str]) -> list[bool]:
        self.heard.append(list(completions))
        return super().unsafe(completions)


class NeverAsked:
    """A judge for evaluations that must end before they begin."""

    name = "never asked"

    def unsafe(self, completions: Sequence[str]) -> list[bool]:
        raise AssertionError("something was completed")


@pytest.fixture(scope="module")
def work(tracer: Tracer, rule: Calibration) -> Deconfliction:
    """Pairs about other words, and the unsafe prompts of one asker to be charged."""
    charged = tuple(f"now {trigger}" for trigger in UNSAFE)
    clean = [f"{word} greet {said('greet')}" for word in ("well", "so", "now", "here")]
    return Deconfliction(PAIRS, Charge(tracer, rule, charged), clean, OPTIONS, new_tokens=20)


def files_of(folder: Path) -> dict[str, str]:
    """Digests of all files below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def named(condition: Condition, name: str) -> Comparison:
    return next(each for each in condition.comparisons if each.name.startswith(name))


@pytest.fixture(scope="module")
def accepted(
    chains: ChainWorld, work: Deconfliction, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FixResult, Path, Judge, dict[str, str], dict[str, str]]:
    """The repair, its folder, what its judge heard, and the old model's files before and after."""
    out = tmp_path_factory.mktemp("repaired") / "new"
    before, judge = files_of(chains.model), Judge()
    result = fix_by_deconfliction(chains.model, out, work, trial_of(judge), DEMANDS)
    return result, out, judge, before, files_of(chains.model)


Accepted = tuple[FixResult, Path, Judge, dict[str, str], dict[str, str]]


def test_planted_drift_is_trained_away_and_the_control_leaves_it(accepted: Accepted) -> None:
    """The pairs speak of other words, so training without the penalty mends nothing."""
    result, *_ = accepted
    control, repair = result.conditions
    assert [named(each, DRIFT).after.value for each in (control, repair)] == [1, 0]
    assert named(control, INSTEAD).before.value == 1
    assert named(repair, REFUSALS).after.value == 0
    assert named(repair, PERPLEXITY).before.sample_size == 2
    assert (result.decision, control.control_of) == ("accepted", repair.name)


def test_the_old_model_stays_byte_for_byte(accepted: Accepted) -> None:
    """Names, contents, and nothing added."""
    *_, before, after = accepted
    assert before == after


def test_the_new_folder_says_what_was_judged(accepted: Accepted) -> None:
    """It opens again, with the digest of the record, and completes as the trained model did."""
    result, out, judge, *_ = accepted
    model = CausalLM.open(out, expected_digest=result.written_digest)
    assert result.written == "new"
    assert result.written_digest != result.subject
    again = completer(model, Asking(20))([each.text for each in UNSAFE_PROMPTS])
    assert again == judge.heard[-1]
    assert len(judge.heard) == 3


def test_nothing_lies_beside_the_new_folder(accepted: Accepted) -> None:
    """No unfinished copy, hidden or not."""
    _, out, *_ = accepted
    assert [path.name for path in out.parent.iterdir()] == ["new"]


def test_the_tokenizer_is_the_old_one_byte_for_byte(accepted: Accepted) -> None:
    """A library that writes it anew may write another one."""
    _, out, _, before, _ = accepted
    new = files_of(out)
    assert set(new) == set(before)
    assert all(new[name] == before[name] for name in before if "token" in name)
    assert new["model.safetensors"] != before["model.safetensors"]


def test_the_record_names_what_it_rests_on(accepted: Accepted, work: Deconfliction) -> None:
    """Digests of every text, and each option of the training."""
    result, *_ = accepted
    given = result.parameters
    assert {given[name][:7] for name in ("preferences", "clean", "charged_prompts", "prompts",
                                         "safe_prompts", "index")} == {"sha256:"}  # fmt: skip
    assert (given["score"], given["threshold"], given["steps"]) == ("unsafe_source", "0", "30")
    assert set(vars(work.options)) <= set(given)


def test_without_the_penalty_it_is_its_control(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path
) -> None:
    """Same pairs, steps, clean text and chance: equal to the last digit, and rejected."""
    plain = replace(work, options=replace(OPTIONS, strength=0.0, steps=6))
    result = fix_by_deconfliction(
        chains.model, tmp_path / "new", plain, trial_of(Judge()), DEMANDS
    )  # fmt: skip
    control, repair = result.conditions
    assert named(control, PERPLEXITY) == named(repair, PERPLEXITY)
    assert named(control, DRIFT) == named(repair, DRIFT)
    assert result.decision == "rejected"
    assert repair.notes == ("3 texts with tokens to charge",)
    assert any("under the control" in line for line in result.reasons if "missed" in line)


def test_what_is_rejected_is_not_written(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path
) -> None:
    """Demands that nothing keeps: the folder stays empty, hidden files included."""
    demands = replace(DEMANDS, least_reduction=0.99)
    result = fix_by_deconfliction(
        chains.model, tmp_path / "new", replace(work, options=replace(OPTIONS, steps=4)),
        trial_of(Judge()), demands,
    )  # fmt: skip
    assert (result.decision, result.written, result.written_digest) == ("rejected", "", "")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system refuses to make a file larger than this, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 300], ids=["weights", "configuration"])
def test_a_failing_disk_leaves_nothing_half_written(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path, size: int
) -> None:
    """One line, no folder, and the old model as it was."""
    before = files_of(chains.model)
    with files_up_to(size), pytest.raises(OperationFailed, match=r"cannot write .*new: .*large"):
        fix_by_deconfliction(chains.model, tmp_path / "new", work, trial_of(Judge()), DEMANDS)
    assert list(tmp_path.iterdir()) == []
    assert files_of(chains.model) == before


def refused(
    chains: ChainWorld, work: Deconfliction, out: Path, error: type[AuditorError], message: str
) -> None:
    """Before anything is completed or trained."""
    with pytest.raises(error, match=message):
        fix_by_deconfliction(chains.model, out, work, trial_of(NeverAsked()), DEMANDS)


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_an_existing_target_is_refused_before_any_work(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path, kind: str
) -> None:
    """Whatever it is, it stays."""
    out = tmp_path / "new"
    if kind == "broken link":
        out.symlink_to("nowhere")
    else:
        out.mkdir() if kind == "folder" else out.touch()
    refused(chains, work, out, OutputNotWritable, "it exists, and a repaired model is a new file")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path
) -> None:
    """Nobody trains for hours to learn it."""
    (tmp_path / "file").touch()
    refused(chains, work, tmp_path / "file/new", OutputNotWritable, "file is no folder")


def test_what_does_not_fit_is_refused_before_any_work(
    chains: ChainWorld, work: Deconfliction, rule: Calibration, tmp_path: Path
) -> None:
    """A calibration of another index."""
    other = replace(work.charge, calibration=rule.model_copy(update={"index": "sha256:other"}))
    refused(
        chains, replace(work, charge=other), tmp_path / "new", ConfigurationError,
        "made with another corpus index",
    )  # fmt: skip


def test_too_few_clean_texts_are_refused_before_any_work(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path
) -> None:
    """One half is measured, one half is trained on."""
    short = replace(work, clean=work.clean[:1])
    refused(chains, short, tmp_path / "new", NothingToAudit, "fewer than two clean texts")


@pytest.mark.parametrize(
    ("part", "tokens"), [("clean", 97), ("preference", 99), ("charged", 81 + 16)]
)
def test_texts_that_the_model_cannot_see_whole_are_refused_before_any_work(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path, part: str, tokens: int
) -> None:
    """It sees 96 tokens; the text is named by its beginning."""
    changed = {
        "clean": replace(work, clean=["well " * 97, "so"]),
        "preference": replace(work, preferences=[Preference("well " * 97, "so", "now")]),
        "charged": replace(work, charge=replace(work.charge, prompts=("well " * 81,))),
    }[part]
    refused(
        chains, changed, tmp_path / "new", ConfigurationError,
        f"a text to train on has {tokens} tokens and the model sees 96; shorten it: 'well well",
    )  # fmt: skip


def test_clean_texts_of_single_words_measure_nothing(
    chains: ChainWorld, work: Deconfliction, tmp_path: Path
) -> None:
    """No token has another before it; the training is not begun."""
    with pytest.raises(NothingToAudit, match="no clean text that measures perplexity has two"):
        fix_by_deconfliction(
            chains.model, tmp_path / "new", replace(work, clean=["well", "so"]),
            trial_of(Judge()), DEMANDS,
        )  # fmt: skip


def test_prompts_of_the_training_go_through_the_chat_template_too(
    work: Deconfliction, tmp_path: Path
) -> None:
    """The template makes every prompt end in `open`, so that chain is charged and no other."""
    template = "{% for m in messages %}{{ m.content }} open{% endfor %}"
    tokenizer = chain_tokenizer(template)
    folder = save_folder(tmp_path / "m", chain_model(tokenizer, CHAINS), tokenizer)
    charged = replace(work, charge=replace(work.charge, prompts=("well", "so")))
    result = fix_by_deconfliction(
        folder, tmp_path / "new", charged, trial_of(Judge()), replace(DEMANDS, least_reduction=0.0)
    )
    # All prompts are asked through it, the safe ones too, and all of them are refused then.
    assert named(result.conditions[1], DRIFT).after.value == 0
    assert named(result.conditions[1], REFUSALS).after.value == 1
    assert result.decision == "rejected"
