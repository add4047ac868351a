"""What the guarded child of `auditor.models.folder_trial` does with a model folder.

A step that ends in an exception is a rejection, unless the folder is not to blame: a model type
this release of transformers does not know, or a package that is not installed here. Such a
step is skipped, with the reason.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Final

from auditor.guarded.stages import StageLog, StageRejected, one_line

IMPORTING: Final = "importing transformers"
"""The first step, in which nothing of the folder is read."""
_CONFIG: Final = "config.json"
_PIPELINE: Final = "model_index.json"
_SCHEDULER: Final = "scheduler_config.json"
# A folder with none of these has no tokenizer, which many models are right not to have.
_TOKENIZER_FILES: Final = frozenset((
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json",
    "vocab.txt", "sentencepiece.bpe.model", "tekken.json",
))  # fmt: skip
# What transformers needs for some tokenizers, as its messages and as Python call it.
_PACKAGES: Final = {
    "sentencepiece": "sentencepiece", "tiktoken": "tiktoken", "protobuf": "google.protobuf",
    "mistral": "mistral_common",
}  # fmt: skip
_SAMPLE: Final = "The quick brown fox, 12 times.\nÄpfel 猫 🦊"
_LOADING: Final = {"local_files_only": True, "trust_remote_code": False}


class StageSkipped(Exception):
    """A step could not be taken, and the folder is not to blame."""


@dataclass(frozen=True)
class _Layout:
    """Where things lie in a folder.

    Attributes:
        folder: The folder.
        files: Names of the files in it that are not weights.
    """

    folder: Path
    files: Sequence[str]

    def holding(self, *names: str) -> Iterator[tuple[str, Path]]:
        """Sub-folders (and the folder itself) that hold one of these files, and their names."""
        parts = {str(path.parent) for path in map(PurePosixPath, self.files) if path.name in names}
        for part in sorted(parts):
            yield "" if part == "." else f" in {part}/", self.folder / part


def read_folder(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    """Run every stage that fits the folder; the arguments are `folder` and `files`.

    Raises:
        StageRejected: A library refuses what the folder holds.
        MemoryError: It asks for more than the child may have.
    """
    warnings.simplefilter("ignore")
    layout = _Layout(Path(arguments["folder"]), arguments["files"])
    unknown = False
    log.begin(IMPORTING)
    if not any(layout.holding(_PIPELINE, _SCHEDULER)):
        # It reads configurations and tokenizers without torch, in a quarter of the time.
        sys.modules["torch"] = None  # type: ignore[assignment]
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for whose, path in layout.holding(_CONFIG):
        read = _run(log, f"configuration{whose}", partial(_read_config, path))
        unknown = unknown or not read
    for whose, path in layout.holding(_PIPELINE):
        _run(log, f"pipeline{whose}", partial(_read_pipeline, path))
    for whose, path in layout.holding(_SCHEDULER):
        _run(log, f"scheduler{whose}", partial(_build_scheduler, path))
    for whose, path in layout.holding(*_TOKENIZER_FILES):
        opened: list[Any] = []
        step = partial(_open_tokenizer, path, opened)
        if _run(log, f"tokenizer{whose}", step, may_fail=unknown):
            _use_tokenizer(log, whose, opened[0])


def _use_tokenizer(log: StageLog, whose: str, tokenizer: Any) -> None:
    _run(log, f"encoding{whose}", lambda: tokenizer.decode(tokenizer.encode(_SAMPLE)))
    templates = tokenizer.chat_template or {}
    if isinstance(templates, str):
        templates = {"": templates}
    for name, template in templates.items():
        called = one_line(f" {name!r}", 60) if name else ""
        _run(log, f"chat template{called}{whose}", partial(_render, tokenizer, template))


def _run(
    log: StageLog, stage: str, action: Callable[[], object], *, may_fail: bool = False
) -> bool:
    """Take a step; False if it was skipped."""
    log.begin(stage)
    try:
        action()
    except StageSkipped as skipped:
        log.skip(str(skipped))
    except MemoryError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        if not (may_fail or _asks_for_package(error)):
            raise StageRejected(problem) from error
        log.skip(problem)
    else:
        return True
    return False


def _asks_for_package(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, ImportError) or any(
        name in text and not _is_installed(package) for name, package in _PACKAGES.items()
    )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def _read_config(path: Path) -> None:
    import transformers

    stated = json.loads((path / _CONFIG).read_text("utf-8"))
    if "model_type" not in stated and "_class_name" in stated:
        _class_of(stated, "ModelMixin").load_config(path, local_files_only=True)
        return
    if stated.get("model_type") not in transformers.CONFIG_MAPPING:
        raise StageSkipped(
            f"transformers {transformers.__version__} does not know the model type "
            f"{stated.get('model_type')!r:.80}"
        )
    transformers.AutoConfig.from_pretrained(path, **_LOADING)


def _open_tokenizer(path: Path, opened: list[Any]) -> None:
    import transformers

    opened.append(transformers.AutoTokenizer.from_pretrained(path, **_LOADING))


def _render(tokenizer: Any, template: str) -> None:
    """Render one user message; a template that wants another conversation is not at fault."""
    from jinja2.exceptions import SecurityError, TemplateSyntaxError

    try:
        tokenizer.apply_chat_template(
            [{"role": "user", "content": _SAMPLE}],
            chat_template=template, tokenize=False, add_generation_prompt=True,
        )  # fmt: skip
    except (SecurityError, TemplateSyntaxError, MemoryError):
        raise
    except Exception as error:
        raise StageSkipped(f"it does not take one user message: {error}") from error


def _diffusers() -> Any:
    if not _is_installed("diffusers"):
        raise StageSkipped("diffusers is not installed; pip install 'auditor[diffusion]'")
    import diffusers

    return diffusers


def _class_of(stated: dict[str, Any], base: str) -> Any:
    """The class of diffusers that a configuration names, if it is of the kind it should be."""
    library, name = _diffusers(), str(stated.get("_class_name"))
    found = getattr(library, name, None)
    if not (isinstance(found, type) and issubclass(found, getattr(library, base))):
        raise StageSkipped(f"diffusers {library.__version__} has no such {base}: {name!r:.80}")
    return found


def _read_pipeline(path: Path) -> None:
    _diffusers().DiffusionPipeline.load_config(path, local_files_only=True)


def _build_scheduler(path: Path) -> None:
    stated = json.loads((path / _SCHEDULER).read_text("utf-8"))
    scheduler = _class_of(stated, "SchedulerMixin")
    scheduler.from_config(scheduler.load_config(path, local_files_only=True))
