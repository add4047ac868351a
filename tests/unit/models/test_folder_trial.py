"""First loads of what is small in a model folder, by the libraries, in a guarded child."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from auditor.guarded.outcome import GuardOutcome, GuardStatus
from auditor.guarded.stages import StageLog, StageRejected
from auditor.models import folder_trial_child
from auditor.models.diffusion_folder import read_diffusion_folder
from auditor.models.folder_trial import trial_folder
from auditor.models.transformers_folder import ModelFolder, read_folder
from tests.models.model_folders import CONFIG, TOKENIZER, write_folder
from tests.models.rewriting_tokenizers import crashing_tokenizer, rewriting_tokenizer

DIGITS = Path(__file__).parents[2] / "models" / "digit_diffusion"
STARTED = ("importing transformers",)


def written(tmp_path: Path, files: dict[str, Any]) -> ModelFolder:
    """A sound folder with some of its files written again, read."""
    folder = write_folder(tmp_path / "m")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return read_folder(folder)


def tried(tmp_path: Path, files: dict[str, Any], seconds: float = 60.0) -> GuardOutcome:
    return trial_folder(written(tmp_path, files), seconds=seconds, memory_mb=4096)


def test_a_sound_folder_passes_every_stage(tmp_path: Path) -> None:
    """Each chat template is a stage of its own."""
    outcome = tried(tmp_path, {"chat_template.jinja": "{{ messages[0]['content'] }}"})
    assert (outcome.status, outcome.skipped) == (GuardStatus.DONE, ())
    assert outcome.stages == (*STARTED, "configuration", "tokenizer", "encoding", "chat template")
    assert outcome.protections is not None


def test_a_folder_without_a_tokenizer_has_none_to_try(tmp_path: Path) -> None:
    """Many models are right not to have one."""
    folder = write_folder(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    outcome = trial_folder(read_folder(folder))
    assert outcome.status is GuardStatus.DONE
    assert outcome.stages == (*STARTED, "configuration")


def test_weights_are_not_given_to_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else that belongs to the model is."""
    given: list[Path] = []

    def note(function: str, arguments: object, *, readable: list[Path], limits: object) -> Any:
        given.extend(readable)
        raise InterruptedError

    folder = written(tmp_path, {})
    monkeypatch.setattr("auditor.models.folder_trial.run_guarded", note)
    with pytest.raises(InterruptedError):
        trial_folder(folder)
    assert {path.name for path in given if path.is_file()} == {"config.json", "tokenizer.json"}


def test_a_configuration_the_library_refuses_is_rejected(tmp_path: Path) -> None:
    """With the step and the library's words."""
    outcome = tried(tmp_path, {"config.json": {**CONFIG, "n_layer": "twelve"}})
    assert (outcome.status, outcome.stage) == (GuardStatus.REJECTED, "configuration")
    assert "n_layer" in outcome.problem


def test_a_model_type_nobody_knows_here_is_skipped(tmp_path: Path) -> None:
    """It may be younger than this release of transformers; the tokenizer is tried all the same."""
    outcome = tried(tmp_path, {"config.json": {"model_type": "of-tomorrow"}})
    assert outcome.status is GuardStatus.DONE
    skipped = dict(outcome.skipped)
    assert "of-tomorrow" in skipped["configuration"]
    assert "configuration" not in outcome.stages


def test_a_tokenizer_that_is_none_is_rejected(tmp_path: Path) -> None:
    """An identifier below zero."""
    model = {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}
    outcome = tried(tmp_path, {"tokenizer.json": {**TOKENIZER, "model": model}})
    assert (outcome.status, outcome.stage) == (GuardStatus.REJECTED, "tokenizer")


def test_a_tokenizer_whose_construction_hangs_is_stopped(tmp_path: Path) -> None:
    """A token that becomes a million million characters while the tokenizer is built."""
    files = rewriting_tokenizer({"String": "b"}, "b" * 10, 12, "b")
    outcome = tried(tmp_path, files, seconds=4)
    assert outcome.status in (GuardStatus.OUT_OF_TIME, GuardStatus.OUT_OF_MEMORY)


def test_native_code_that_panics_is_a_crash(tmp_path: Path) -> None:
    """An expression that backtracks for ever ends the tokenizer's Rust code with a panic."""
    outcome = tried(tmp_path, crashing_tokenizer())
    assert (outcome.status, outcome.stage) == (GuardStatus.CRASHED, "tokenizer")


def test_a_template_of_nested_loops_is_out_of_time(tmp_path: Path) -> None:
    """Jinja's sandbox bounds one loop, not loops inside of loops."""
    loops = "".join(f"{{% for a{depth} in range(99999) %}}" for depth in range(4))
    text = loops + "x" + "{% endfor %}" * 4
    outcome = tried(tmp_path, {"chat_template.jinja": text}, seconds=4)
    assert outcome.status in (GuardStatus.OUT_OF_TIME, GuardStatus.OUT_OF_MEMORY)


def test_a_template_that_multiplies_texts_is_out_of_memory(tmp_path: Path) -> None:
    """A hundred characters that ask for a hundred gigabytes."""
    outcome = tried(tmp_path, {"chat_template.jinja": "{{ ('a' * 100000000000) | length }}"})
    assert (outcome.status, outcome.stage) == (GuardStatus.OUT_OF_MEMORY, "chat template")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ (''.format).__globals__.x }}", "SecurityError"),
    ],
)
def test_a_template_that_breaks_the_rules_is_rejected(template: str, problem: str) -> None:
    """The rules for folders refuse most of these before; the sandbox is what remains."""
    import transformers
    from tokenizers import Tokenizer

    library: Any = transformers  # its classes have no types
    words = Tokenizer.from_str(json.dumps(TOKENIZER))
    tokenizer = library.PreTrainedTokenizerFast(tokenizer_object=words)
    tokenizer.chat_template = template
    log = StageLog(io.StringIO())
    with pytest.raises(StageRejected, match=problem):
        folder_trial_child._use_tokenizer(log, "", tokenizer)


def test_a_template_that_wants_another_conversation_is_skipped(tmp_path: Path) -> None:
    """Not a finding: it may want a system text or tools."""
    text = "{{ raise_exception('no system text') }}"
    outcome = tried(tmp_path, {"chat_template.jinja": text})
    assert outcome.status is GuardStatus.DONE
    assert outcome.skipped == (
        ("chat template", "it does not take one user message: no system text"),
    )


def test_a_package_that_is_missing_is_not_the_folders_fault() -> None:
    """Only where it is missing: the same words about a package that is here are a rejection."""
    assert folder_trial_child._asks_for_package(ImportError("no module"))
    here = ValueError("sentencepiece or tiktoken cannot read this")
    expected = not all(map(folder_trial_child._is_installed, ("sentencepiece", "tiktoken")))
    assert folder_trial_child._asks_for_package(here) is expected
    assert not folder_trial_child._asks_for_package(ValueError("the vocabulary is empty"))


@pytest.mark.slow
def test_every_part_of_a_diffusion_folder_is_a_stage() -> None:
    """By its own library: transformers or diffusers."""
    pytest.importorskip("diffusers")
    outcome = trial_folder(read_diffusion_folder(DIGITS), seconds=120)
    assert (outcome.status, outcome.skipped) == (GuardStatus.DONE, ())
    assert outcome.stages == (
        *STARTED, "configuration in text_encoder/", "configuration in transformer/", "pipeline",
        "scheduler in scheduler/", "tokenizer in tokenizer/", "encoding in tokenizer/",
    )  # fmt: skip
