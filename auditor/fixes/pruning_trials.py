"""Candidates that were tried, kept beside the new model's place until the repair has ended.

Making masks may take longer than anything else. The same command issued again after it was
interrupted reads what is whole and of the same work, and makes the rest. A trial is two files: its
masks, and what they do; the second is written last and counts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from pydantic import ValidationError

from auditor.errors import FileMissing
from auditor.files import write_atomically
from auditor.findings import Record
from auditor.fixes.pruning_study import Candidate, Outcome, PruningStudy
from auditor.memorization.masks.mask_file import MaskFileRejected, read_masks, write_masks

_MASKS: Final = ".masks.safetensors"
_OUTCOME: Final = ".json"


class MaskTrial(NamedTuple):
    """A candidate, and what it does on the split that is chosen by."""

    candidate: Candidate
    outcome: Outcome


class _Kept(Record):
    """What a trial's second file holds."""

    key: str
    name: str
    masks: str
    rates: tuple[float, ...]
    costs: tuple[float, ...]
    also: dict[str, float]


@dataclass(frozen=True)
class MaskTrials:
    """A folder of trials of one piece of work.

    Attributes:
        folder: Made when the first trial is kept.
        key: Of everything that a trial depends on: model, items, settings, seed.
    """

    folder: Path
    key: str

    def keep(self, tried: MaskTrial) -> None:
        """Write a trial; the model is whole at this moment.

        Raises:
            OutputNotWritable, OperationFailed: As for `write_atomically`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        candidate, outcome = tried
        stem = self._stem(candidate.name)
        masks = self.folder / f"{stem}{_MASKS}"
        write_masks(masks, candidate.masks, candidate.sites, base=self.key, rule=candidate.name)
        kept = _Kept(
            key=self.key, name=candidate.name, masks=read_masks(masks).head.digest,
            rates=tuple(outcome.rates.tolist()), costs=tuple(outcome.costs.tolist()),
            also=outcome.also,
        )  # fmt: skip
        text = json.dumps(kept.model_dump(mode="json"), sort_keys=True)
        write_atomically(self.folder / f"{stem}{_OUTCOME}", text.encode())

    def known(self, study: PruningStudy) -> list[MaskTrial]:
        """Trials of the same work that are whole; anything else is left aside and made again."""
        if not self.folder.is_dir():
            return []
        found = [self._read(path, study) for path in sorted(self.folder.glob(f"*{_OUTCOME}"))]
        return [each for each in found if each is not None]

    def forget(self) -> None:
        """Remove the folder: the repair has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path, study: PruningStudy) -> MaskTrial | None:
        try:
            kept = _Kept.model_validate_json(path.read_bytes())
            file = read_masks(path.with_name(f"{self._stem(kept.name)}{_MASKS}"))
        except (OSError, ValidationError, FileMissing, MaskFileRejected):
            return None
        sites = study.sites_of(tuple(file.masks.masks))
        if kept.key != self.key or file.head.digest != kept.masks or sites is None:
            return None
        return MaskTrial(
            Candidate(kept.name, sites, file.masks),
            Outcome(np.array(kept.rates), np.array(kept.costs), kept.also),
        )

    def _stem(self, name: str) -> str:
        return hashlib.sha256(f"{self.key}\0{name}".encode()).hexdigest()[:16]
