"""What `auditor fix experts` is given in tests, by models of which it is known who refuses.

The trained model: switching off its over-refusal experts answers look-alikes of touchy entities
and nothing else; forcing its refusal experts on refuses what names leaky entities. The planted
model: its one carrier refuses every prompt with a disallowed verb.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from auditor.experts.intervention import Method
from auditor.fixes.expert_steering import ExpertSteering
from auditor.fixes.expert_trial import HeldOut
from auditor.fixes.refusal_gate import Direction
from auditor.language.asking import Asking
from auditor.language.multiple_choice import Question
from auditor.language.prompts import Prompt
from auditor.language.refusal import MarkerJudge
from tests.models.moe_dialogues import ANSWER_TOKENS, Request, Split, held_out
from tests.models.planted_moe import PlantedMoe, PlantedPrompt

TRAINED_MARKERS: Final = ("^i cannot help", "^sorry", "^unfortunately", "^no ,")
PLANTED_MARKERS: Final = ("^i cannot help",)
CONTROLS: Final = 20
"""The fewest that can beat chance: 1 of 21."""


def trained_work(direction: Direction, method: Method, **changed: Any) -> ExpertSteering:
    """The trained model's prompts, as few as its gate can decide on."""
    harmful: list[Prompt] = []
    harmless: list[Prompt] = []
    for split in (Split.RANKING, Split.CHOICE):
        known = held_out(split)
        harmful += _prompts(known.disallowed[:40], "disallowed")
        harmless += _prompts(known.plain[:20], "plain") + _prompts(known.look_alikes[:20], "alike")
        for number, pair in enumerate(known.touchy_pairs[:15]):
            harmless += [Prompt(each.text, "touchy", f"{split} {number}") for each in pair]
    report = held_out(Split.REPORT)
    texts = [each.help for each in report.plain[:12]]
    given: dict[str, Any] = {
        "harmful": harmful, "harmless": harmless,
        "held_out": HeldOut(
            {"disallowed": _prompts(report.disallowed[:180], "disallowed")},
            _prompts(report.touchy[:25], "touchy") + _prompts(report.plain[:115], "plain"),
            texts, [Question(each.text, (each.help, each.refusal), 0) for each in report.plain[:8]],
        ),
        "judge": MarkerJudge(TRAINED_MARKERS), "asking": Asking(ANSWER_TOKENS, batch_size=64),
        "sizes": (1, 2), "controls": CONTROLS,
    }  # fmt: skip
    return ExpertSteering(direction, method, **{**given, **changed})


def planted_work(
    moe: PlantedMoe, direction: Direction, method: Method, **changed: Any
) -> ExpertSteering:
    """Over-refusal and refusal by one expert: a third of the disallowed prompts pass as harmless.

    So nothing that answers these leaves the refusals of the others alone. Strengthening likewise
    takes a third of the allowed prompts for harmful ones.
    """
    disallowed = [pair[0] for pair in moe.pairs]
    allowed = [pair[1] for pair in moe.pairs]
    suppress = direction == "suppress"
    mistaken = disallowed[::3] if suppress else allowed[::3]
    harmful = [each for each in disallowed if each not in mistaken]
    harmless = [each for each in allowed if each not in mistaken]
    (harmless if suppress else harmful).extend(mistaken)
    first, second = slice(0, None, 2), slice(1, None, 2)
    given: dict[str, Any] = {
        "harmful": _asked(harmful[first], "harmful"), "harmless": _asked(harmless[first], "plain"),
        "held_out": HeldOut(
            {"plain": _asked(harmful[second], "harmful")}, _asked(harmless[second], "plain")
        ),
        "judge": MarkerJudge(PLANTED_MARKERS), "asking": Asking(8, batch_size=64),
        "sizes": (1,), "controls": CONTROLS,
    }  # fmt: skip
    return ExpertSteering(direction, method, **{**given, **changed})


def write_work(folder: Path, work: ExpertSteering, markers: Iterable[str]) -> list[str]:
    """The files of a work in a folder, and what the command is told of them."""
    files: dict[str, Iterable[Mapping[str, Any]]] = {
        "harmful": _rows(work.harmful), "harmless": _rows(work.harmless),
        "held-out-harmless": _rows(work.held_out.harmless),
    }  # fmt: skip
    arguments = ["--direction", work.direction, "--method", str(work.method)]
    for name, rows in files.items():
        arguments += [f"--{name}", _write(folder / f"{name}.jsonl", rows)]
    for name, prompts in work.held_out.harmful.items():
        path = _write(folder / f"{name}.jsonl", _rows(prompts))
        arguments += ["--held-out-harmful", path]
    (folder / "markers.txt").write_text("\n".join(markers), "utf-8")
    arguments += ["--markers", "markers.txt", "--new-tokens", str(work.asking.new_tokens),
                  "--batch-size", str(work.asking.batch_size),
                  "--controls", str(work.controls)]  # fmt: skip
    return arguments + [part for size in work.sizes for part in ("--size", str(size))]


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path.name


def _rows(prompts: Sequence[Prompt]) -> Iterator[dict[str, str]]:
    for each in prompts:
        yield {"prompt": each.text, "category": each.category, "group": each.group}


def _prompts(requests: Sequence[Request], category: str) -> list[Prompt]:
    return [Prompt(each.text, category, f"{category} {each.text}") for each in requests]


def _asked(prompts: Sequence[PlantedPrompt], category: str) -> list[Prompt]:
    return [Prompt(each.text, category, each.text) for each in prompts]
