"""Commands that write something of their own, under trial: an index, a repair, patterns."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from auditor.errors import AuditorError, FileMissing
from auditor.experts.intervention import Method
from auditor.folders import folder_digest
from auditor.memorization.masks.mask_file import read_masks
from auditor.models.onnx_folder import read_model_folder
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.pattern_file import read_patterns
from auditor.trace.index import verify_index
from auditor.trace.matches import TraceIndex
from auditor_reports.fix.json import load_fix
from benchmarks.killed_work import Look, Problem, Work, copy_demo, differences, tree
from benchmarks.killing import Command, Whole
from tests.models.model_folders import write_folder
from tests.models.moe_fixture import Variant, trained_moe
from tests.models.moe_steering import TRAINED_MARKERS, trained_work, write_work
from tests.models.recital_folder import write_recital
from tests.unit.trace.tokenizers_for_tests import word_tokenizer

INDEX: Final = "idx"
PRUNING: Final = (
    "--memorised", "memorised.jsonl", "--ordinary", "ordinary.jsonl", "--held-out",
    "held-out.jsonl", "--never-memorised", "never.jsonl", "--prefix-tokens", "1",
    "--continuation-tokens", "5", "--rule", "wanda_diff", "--layer", "feed_forward", "--share",
    "0.6", "--neurons", "--controls", "1", "--shift", "1",
)  # fmt: skip


@dataclass(frozen=True)
class IndexBuild:
    """`auditor trace index build` of some shards of bytes or tokens."""

    name: str
    shards: int
    tokens: bool = False
    workers: bool = False
    codes: frozenset[int] = frozenset({0})
    command: Command = field(init=False)

    def __post_init__(self) -> None:
        arguments = ["trace", "index", "build", "corpus", "--out", INDEX, "--shard-mb", "1"]
        arguments += ["--tokenizer", "tokenizer.json"] if self.tokens else []
        arguments += ["--workers", "2"] if self.workers else []
        object.__setattr__(self, "command", Command(arguments))

    def prepare(self, folder: Path) -> None:
        """Random words in as many files as fill the shards, of one time."""
        (folder / "corpus").mkdir()
        chance, words = random.Random(0), [f"w{number}" for number in range(2_000)]
        for number in range(2 * self.shards):
            text = " ".join(chance.choices(words, k=95_000))
            (folder / "corpus" / f"{number:03d}.txt").write_text(text)
        if self.tokens:
            word_tokenizer(folder / "tokenizer.json", 2_000)

    def look(self, folder: Path, whole: Path) -> Look:
        """There is no index, or the whole one."""
        index = folder / INDEX
        try:
            TraceIndex(index)
        except FileMissing:
            return Look()
        except AuditorError as error:
            return Look((Problem("half-written", f"an index that is refused: {error}"),))
        try:
            verify_index(index)
        except AuditorError as error:
            return Look((Problem("half-written", f"opened, and wrong: {error}"),))
        return Look(tuple(differences(_index(index), _index(whole / INDEX), "index")), done=True)

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """The same bytes as an undisturbed build, and nothing else."""
        found, expected = tree(folder / INDEX), tree(whole / INDEX)
        if look.done:  # it refuses to build over an index
            found = _index(folder / INDEX)
        return differences(found, expected, "the index")


def _index(folder: Path) -> dict[str, str]:
    """All files but the notes of a build, which nothing reads once there is an index."""
    return {name: each for name, each in tree(folder).items() if name != "unfinished.json"}


@dataclass(frozen=True)
class Repair:
    """`auditor fix`: of the memorising recital, or of the experts that refuse too much."""

    name: str
    experts: bool = False
    workers: bool = False
    codes: frozenset[int] = frozenset({0})
    command: Command = field(init=False)

    def __post_init__(self) -> None:
        out = ("--out", "new", "--html", "page.html")
        if self.experts:
            arguments = ("fix", "experts", "model", *_experts()[1], *out)
        else:
            arguments = ("fix", "memorization", "model", *PRUNING, *out, "--onnx", "graph")
        object.__setattr__(self, "command", Command(arguments))

    def prepare(self, folder: Path) -> None:
        """The model and the files of the work."""
        source = _experts()[0] if self.experts else _recital()
        shutil.copytree(source, folder, dirs_exist_ok=True)

    def look(self, folder: Path, whole: Path) -> Look:
        """Whatever is there is whole, and the model is as it was."""
        problems = [*_changed_source(folder, whole)]
        parts = {"new", "new.fix.json", "page.html"}
        parts |= set() if self.experts else {"graph", "new.masks.safetensors"}
        there = sorted(name for name in parts if (folder / name).exists())
        for name in there:
            problems += _judged(folder / name, whole / name)
        return Look(tuple(problems), done=len(there) == len(parts), kept={"there": there})

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """The same new model, masks, record and page."""
        found, expected = tree(folder), tree(whole)
        return [*_changed_source(folder, whole), *differences(found, expected, "the repair")]


@dataclass(frozen=True)
class Conversion:
    """`auditor model convert` of a folder with pickled weights."""

    name: str
    workers: bool = False
    codes: frozenset[int] = frozenset({0})
    command: Command = field(
        default_factory=lambda: Command(("model", "convert", "model", "--out", "new"))
    )

    def prepare(self, folder: Path) -> None:
        """Two shards of 48 MB and their index."""
        model = write_folder(folder / "model")
        (model / "model.safetensors").unlink()
        places = dict[str, str]()
        for shard in range(2):
            name = f"pytorch_model-0000{shard + 1}-of-00002.bin"
            tensors = {f"h.{shard}.{n}": torch.full((1024, 1024), n / 7) for n in range(12)}
            torch.save(tensors, model / name)
            places |= dict.fromkeys(tensors, name)
        index = json.dumps({"metadata": {}, "weight_map": places})
        (model / "pytorch_model.bin.index.json").write_text(index)

    def look(self, folder: Path, whole: Path) -> Look:
        """The new folder is not there, or the whole one, and the old one is as it was."""
        problems = _changed_source(folder, whole)
        made = folder / "new"
        if not made.exists():
            return Look(tuple(problems))
        return Look((*problems, *differences(tree(made), tree(whole / "new"), "new")), done=True)

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """The same files."""
        return differences(tree(folder / "new"), tree(whole / "new"), "the new folder")


def way_out(work: Work, folder: Path, refusal: str) -> Command | None:
    """Do what a refusal says about a repair that was stopped; the command that remains."""
    if isinstance(work, Repair) and "there is no record at" in refusal:
        for name in ("new", "graph"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "new.masks.safetensors").unlink(missing_ok=True)
        return work.command
    if isinstance(work, Repair) and "auditor report fix writes the page" in refusal:
        return Command(("report", "fix", "new.fix.json", "--html", "page.html"))
    return None


def _changed_source(folder: Path, whole: Path) -> list[Problem]:
    same = folder_digest(folder / "model") == folder_digest(whole / "model")
    return [] if same else [Problem("source", "the model is another")]


def _judged(path: Path, whole: Path) -> list[Problem]:
    """A part of a repair: read by what reads it, and the same as the undisturbed one."""
    try:
        if path.is_dir():
            read_model_folder(path)
        elif path.suffix == ".json":
            load_fix(path)
        elif path.suffix == ".safetensors":
            read_masks(path)
    except AuditorError as error:
        return [Problem("half-written", str(error))]
    if path.is_dir():
        return differences(tree(path), tree(whole), path.name)
    same = path.read_bytes() == whole.read_bytes()
    return [] if same else [Problem("half-written", f"{path.name} has other bytes")]


@lru_cache(maxsize=1)
def _scratch() -> Path:
    import atexit
    import tempfile

    folder = tempfile.TemporaryDirectory(prefix="killed-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@lru_cache(maxsize=1)
def _recital() -> Path:
    folder = _scratch() / "recital"
    planted = write_recital(folder / "model")
    parts = {
        "memorised": planted.memorised, "ordinary": planted.ordinary[:4],
        "held-out": planted.ordinary[4:], "never": planted.unseen,
    }  # fmt: skip
    for name, spans in parts.items():
        rows = [{"tokens": [*span.prefix, *span.continuation], "id": span.name} for span in spans]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    return folder


@lru_cache(maxsize=1)
def _experts() -> tuple[Path, Sequence[str]]:
    folder = _scratch() / "experts"
    folder.mkdir()
    work = trained_work("suppress", Method.ZERO_OUTPUT)
    arguments = write_work(folder, work, TRAINED_MARKERS)
    shutil.copytree(trained_moe(Variant.PLANTED), folder / "model")
    return folder, arguments


@dataclass(frozen=True)
class Patterns:
    """`auditor mine patterns`, or what `auditor patterns` writes from them."""

    name: str
    step: str
    workers: bool = False
    codes: frozenset[int] = frozenset({0})
    command: Command = field(init=False)

    def __post_init__(self) -> None:
        data = ("--inputs", "digits_test.npz", "--out", "made", "-q")
        given = ("digits_patterns.safetensors", "digits.onnx")
        arguments: Sequence[str] = ("mine", "patterns", "digits.onnx", *data)
        if self.step == "monitor":
            arguments = ("patterns", "monitor", *given, *data, "--delta", "0.95")
        if self.step == "minimise":
            more = ("--calls", "5", "--class", "3", "--delta", "0.95")
            arguments = ("patterns", "minimise", *given, *data, *more)
        object.__setattr__(self, "command", Command(arguments))

    def prepare(self, folder: Path) -> None:
        """The model of the demo, its data and its patterns."""
        copy_demo(folder)

    def look(self, folder: Path, whole: Path) -> Look:
        """The file is not there, or the whole one."""
        made = folder / "made"
        if not made.exists():
            return Look()
        try:
            OnnxModel.open(made) if self.step == "monitor" else read_patterns(made)
        except AuditorError as error:
            return Look((Problem("half-written", str(error)),))
        same = made.read_bytes() == (whole / "made").read_bytes()
        return Look(() if same else (Problem("half-written", "other bytes"),), done=True)

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """The same bytes."""
        return differences(tree(folder), tree(whole), "the folder")
