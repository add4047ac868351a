"""Runs a race in a child process.

An audit event comes just before a file is opened and before a stream is made of it; that is
when the exchange happens, so each race is lost or won the same way every time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from types import FrameType
from typing import Any

from tests.models.hostile_files.case import outside
from tests.models.hostile_files.races import RACES, SECRET, Race


def run_race(race: Race, folder: Path, marker: Path) -> Mapping[str, Any]:
    """What came of it: `words` (rules, decision, error), `digests`, and whether it `ran`."""
    path = race.build(folder, marker)
    outside(folder, SECRET)
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.hostile_files.racing", race.id, path, folder],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(done.stderr[-2000:])
    told: Mapping[str, Any] = json.loads(done.stdout)
    return told


class _Swapper:
    """Exchanges the victim at its n-th opening, or at its n-th reading."""

    def __init__(self, race: Race, folder: Path) -> None:
        self.race, self.victim = race, folder / race.victim
        self.secret = folder / "outside" / "secret.bin"
        self.opened, self.read, self.ran, self.busy = 0, 0, False, False
        sys.addaudithook(self._see)
        if race.at < 0:
            sys.setprofile(self._profile)

    def _see(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name != "open" or self.busy or not self._is_victim(arguments[0]):
            return
        self.opened += 1
        self._exchange_at(self.opened)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or self.busy or called.__name__ not in ("read", "readinto", "read1"):
            return
        stream = called.__self__
        if isinstance(stream, BufferedReader) and self._is_victim(stream.fileno()):
            self.read += 1
            self._exchange_at(-self.read)

    def _is_victim(self, opened: object) -> bool:
        self.busy = True
        try:
            if isinstance(opened, int):
                opened = Path(f"/proc/self/fd/{opened}").readlink()
            if not isinstance(opened, str | bytes | os.PathLike):
                return False
            return self.victim.name == Path(os.fsdecode(opened)).name
        finally:
            self.busy = False

    def _exchange_at(self, count: int) -> None:
        if count == self.race.at and not self.ran:
            self.busy = self.ran = True
            self.race.exchange(self.victim, self.secret)
            self.busy = False


def _open(race: Race, path: Path, digest: str) -> tuple[set[str], list[str]]:
    if race.opener == "scan":
        from auditor.models.scan.scanner import scan_path

        found = scan_path(path)
        words = {str(found.decision), *(each.rule for _, each in found.all_problems())}
        return words, [file.sha256 for file in found.files]
    if race.opener == "folder":
        from auditor.models.transformers_folder import read_folder

        read_folder(path)
    else:
        from auditor.models.onnx_model import OnnxModel

        OnnxModel.open(path, expected_digest=digest)
    return {"accepted"}, []


def main(race_id: str, path: Path, folder: Path) -> None:
    """Run one race and tell what came of it."""
    from auditor.errors import AuditorError, RefusedModel
    from auditor.models.digest import file_digest

    (race,) = (race for race in RACES if race.id == race_id)
    digest = file_digest(path) if race.opener == "onnx" else ""
    swapper, digests = _Swapper(race, folder), list[str]()
    try:
        words, digests = _open(race, path, digest)
    except RefusedModel as refusal:
        words = {refusal.rule}
    except AuditorError as error:
        words = {type(error).__name__}
    swapper.busy = True
    json.dump({"words": sorted(words), "digests": digests, "ran": swapper.ran}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
