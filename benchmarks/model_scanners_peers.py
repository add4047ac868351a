"""Programs that scan model files: how each is called, and what its answer means in four words.

Every program is called as its users call it: with the options it has by default, on one path, in a
process of its own.

| word | means |
|---|---|
| `flagged` | the program names a problem that its own documentation counts as one |
| `not looked at` | it says that it could not judge: skipped, no scanner, unsupported, undecided |
| `failed` | it crashed, was stopped at a limit, or says that its scan failed |
| `clean` | it ends with its exit code for "nothing found", and names nothing |
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from benchmarks.model_scanners_process import (
    CLEAN,
    FAILED,
    FLAGGED,
    NOT_LOOKED_AT,
    Ended,
    Scanner,
)

_END: Final = 200


def auditor() -> Scanner:
    """`auditor model scan`: refused is flagged, inconclusive is not looked at (its model-scan.md).

    Exit codes: 0 accepted, 3 inconclusive, 6 refused.
    """
    words = {"refused": FLAGGED, "inconclusive": NOT_LOOKED_AT, "accepted": CLEAN}

    def judge(ended: Ended) -> tuple[str, str]:
        try:
            found = json.loads(ended.out)
        except ValueError:
            return FAILED, ended.err
        said = f"{found.get('rule', '')}: {found.get('reason', '')}"
        return words[found["verdict"]], said if found["problems"] else ""

    python = Path(sys.executable)
    command = (str(python), "-m", "auditor_cli.main", "model", "scan", "--json")
    return Scanner("auditor", python, command, judge)


def picklescan(program: Path) -> Scanner:
    """Dangerous globals are flagged; its README: exit code 1 found malware, 2 the scan failed.

    "Suspicious globals" are counted in the summary and change neither the exit code nor the word.
    With exit code 0 it may say that it scanned no file, or could not parse one as a pickle.
    """

    def judge(ended: Ended) -> tuple[str, str]:
        counts = {name: int(n) for name, n in re.findall(r"^(\w+ \w+): (\d+)$", ended.out, re.M)}
        before = ended.out.partition("-----------")[0]
        if counts.get("Dangerous globals"):
            return FLAGGED, before
        if ended.code != 0:
            return FAILED, before + ended.err
        if not counts["Scanned files"] or re.search(r"could not parse|Invalid file", before):
            return NOT_LOOKED_AT, before or "Scanned files: 0"
        suspicious = counts["Suspicious globals"]
        return CLEAN, f"Suspicious globals: {suspicious}" if suspicious else ""

    command = (str(program), "--path")
    return Scanner("picklescan", program.with_name("python"), command, judge)


def modelscan(program: Path) -> Scanner:
    """An issue of any severity in its JSON is flagged, whatever the exit code.

    Its README: exit code 1 vulnerabilities found, 2 the scan failed, 3 no supported files; 3 also
    ends a scan whose only file failed, which its JSON tells.
    """

    def judge(ended: Ended) -> tuple[str, str]:
        found = _json_of(ended.out)
        if found is None:
            return FAILED, ended.out[-_END:] + ended.err[-_END:]
        if found["issues"]:
            return FLAGGED, str(found["issues"][0].get("description"))
        if found["errors"]:
            return FAILED, str(found["errors"][0].get("description"))
        return {0: CLEAN, 3: NOT_LOOKED_AT}.get(ended.code, FAILED), ""

    command = (str(program), "--reporting-format", "json", "--path")
    return Scanner("modelscan", program.with_name("python"), command, judge)


def fickling(program: Path) -> Scanner:
    """`--check-safety`; its source (constants.py): exit code 1 unsafe, 2 could not be parsed.

    Its command takes one pickle, and neither archives nor folders. What it cannot parse it calls
    untrusted in general, sound files of other formats too: that is counted as not looked at.
    """

    def judge(ended: Ended) -> tuple[str, str]:
        if "Traceback" in ended.err or ended.code not in (0, 1, 2):
            return FAILED, ended.err[-_END:]
        return (CLEAN, FLAGGED, NOT_LOOKED_AT)[ended.code], ended.out or ended.err

    command = (str(program), "--check-safety", "--print-results")
    return Scanner("fickling", program.with_name("python"), command, judge, folders=False)


def modelaudit(program: Path) -> Scanner:
    """Issues of severity warning and critical in its JSON are flagged, whatever the exit code.

    Its README: exit code 1 issues found, 2 scan errors; its docs/user/security-model.md: those of
    severity info are context and no blockers. Exit code 2 without an error of its own is a scan
    that it calls inconclusive. With exit code 0 it may have had no scanner for anything.
    """

    def judge(ended: Ended) -> tuple[str, str]:
        found = _json_of(ended.out)
        if found is None:
            return FAILED, ended.out[-_END:] + ended.err[-_END:]
        told = [str(each["message"]) for each in found["issues"]]
        flags = [each for each in found["issues"] if each["severity"] in ("warning", "critical")]
        if flags or ended.code == 1:
            return FLAGGED, str((flags or [{"message": "exit code 1"}])[0]["message"])
        if ended.code == 0:
            return (CLEAN if found["scanner_names"] else NOT_LOOKED_AT), "; ".join(told)
        word = FAILED if found["has_errors"] or ended.code != 2 else NOT_LOOKED_AT
        return word, "; ".join(told) or "inconclusive"

    command = (str(program), "scan", "--format", "json")
    return Scanner("modelaudit", program.with_name("python"), command, judge)


def _json_of(text: str) -> Any:
    """The object in a text that has lines before it, or None."""
    start = re.search(r"^\{", text, re.M)
    try:
        # modelscan breaks its lines inside of texts.
        decoder = json.JSONDecoder(strict=False)
        return decoder.raw_decode(text, start.start())[0] if start else None
    except ValueError:
        return None


PEERS: Final[Mapping[str, Callable[[Path], Scanner]]] = MappingProxyType(
    {each.__name__: each for each in (picklescan, modelscan, fickling, modelaudit)}
)
"""How a peer is called, given its program."""
