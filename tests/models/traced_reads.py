"""Scans many paths in one child process that records whatever it opens, imports or starts.

The child has limits on its address space, its processor time, and the size of the files that
it may write (none). Python's audit events say what was asked of the system; `system_calls`
sees the same from outside.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ADDRESS_SPACE: Final = 4 * 2**30
PROCESSOR_SECONDS: Final = 180
MARK: Final = "/mark-of-a-traced-scan"
"""A path that does not exist; looking at it marks the system calls of a case."""
LOADERS: Final = frozenset({
    "torch", "onnx", "onnxruntime", "safetensors", "transformers", "diffusers", "tensorflow",
    "keras", "h5py", "joblib", "sklearn", "skops", "gguf", "dill", "cloudpickle", "tokenizers",
})  # fmt: skip
"""Libraries that open models; none of them may be needed to judge one."""
_RECORDED: Final = (
    "open", "import", "os.", "shutil.", "tempfile.", "subprocess.", "socket.", "ctypes.", "pty.",
    "pickle.", "urllib.", "http.", "mmap.", "webbrowser.", "fcntl.", "code.__new__",
)  # fmt: skip
_CODE_ENDINGS: Final = (".py", ".pyc", ".so")
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Traced:
    """What one scan said and did.

    Attributes:
        decision: Of the whole path; empty if the scan raised.
        problems: File, rule, place, problem and decision of each.
        digests: SHA-256 of each file, by name.
        events: Audit events between the beginning and the end, as name and arguments.
        growth: How much more resident memory than before it needed at its peak, in bytes.
        error: The traceback if the scan raised.
    """

    decision: str
    problems: tuple[tuple[str, str, str, str, str], ...]
    digests: Mapping[str, str]
    events: tuple[tuple[str, tuple[str, ...]], ...]
    growth: int
    error: str = ""


@dataclass(frozen=True)
class TracedScans:
    """All of them, by their ids.

    Attributes:
        scans: In the order in which they ran.
        modules: Top-level modules that the process had imported at its end.
        printed: What the libraries wrote to standard error.
    """

    scans: Mapping[str, Traced]
    modules: frozenset[str]
    printed: str = ""


def trace_scans(paths: Mapping[str, Path], warm: Path, wrapped: Sequence[str] = ()) -> TracedScans:
    """Scan the paths in a child process.

    Args:
        paths: By the ids of the cases.
        warm: A harmless folder that is scanned first, so that modules are there before.
        wrapped: A command that runs the child, for example strace.
    """
    order = {"warm": str(warm), "paths": {key: str(path) for key, path in paths.items()}}
    environment = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
    environment["PYTHONPATH"] = os.pathsep.join(str(_ROOT / part) for part in ("", "specs"))
    done = subprocess.run(
        [*wrapped, sys.executable, "-m", "tests.models.traced_reads"],
        input=json.dumps(order), capture_output=True, text=True, check=False, env=environment,
        cwd=warm.parent,
    )  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(f"the child ended with {done.returncode}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    scans = {key: _read_back(value) for key, value in told["scans"].items()}
    return TracedScans(scans, frozenset(told["modules"]), done.stderr)


def _read_back(value: Mapping[str, Any]) -> Traced:
    problems = tuple(tuple(each) for each in value["problems"])
    events = tuple((name, tuple(texts)) for name, texts in value["events"])
    return Traced(value["decision"], problems, value["digests"], events, value["growth"],
                  value["error"])  # fmt: skip


def strange_events(traced: Traced, allowed: Iterable[Path]) -> list[str]:
    """What a scan did besides reading files below the allowed paths and importing its own code."""
    roots = [Path(os.path.realpath(path)) for path in allowed]
    return [
        f"{name} {', '.join(texts)}"
        for name, texts in traced.events
        if not _is_read_below(name, texts, roots) and not _is_import(name, texts)
    ]


def _is_read_below(name: str, texts: tuple[str, ...], roots: Sequence[Path]) -> bool:
    if name == "open":
        if int(texts[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            return False
        if texts[0].isdigit():  # a stream around a descriptor that was opened before
            return True
    elif name not in ("os.scandir", "os.listdir"):
        return False
    # A name alone is relative to an open folder, which the event does not tell; system calls do.
    return os.sep not in texts[0] or is_below(Path(texts[0]), roots)


def is_below(path: Path, roots: Iterable[Path]) -> bool:
    """Whether a path, links resolved, is one of the roots or lies below one."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(root) for root in roots)


def is_code(path: Path) -> bool:
    """Whether a path is a module of Python, of the libraries or of auditor, or their folder."""
    places = {Path(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib", "purelib")}
    places |= {_ROOT / name for name in ("auditor", "specs", "tests")}
    real = Path(os.path.realpath(path))
    inside = any(real.is_relative_to(os.path.realpath(place)) for place in places)
    return inside and (real.suffix in _CODE_ENDINGS or real.is_dir())


def _is_import(name: str, texts: tuple[str, ...]) -> bool:
    if name == "import":
        return texts[0].partition(".")[0] not in LOADERS
    return name in ("open", "os.listdir", "code.__new__") and (
        name == "code.__new__" or is_code(Path(texts[0]))
    )


class _Recorder:
    """Keeps audit events while it is switched on; hooks cannot be taken away again."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[str, ...]]] = []
        self.on = False
        sys.addaudithook(self._see)

    def _see(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.on and name.startswith(_RECORDED) and name != "os.fwalk":
            kept = arguments[:3] if name == "open" else arguments[:2]
            self.events.append((name, tuple(_shown(each) for each in kept)))


def _shown(argument: Any) -> str:
    if isinstance(argument, bytes | os.PathLike):
        return os.fsdecode(argument)
    return str(argument)


def _mark(key: str, what: str) -> None:
    try:
        Path(MARK, what, key).stat()
    except OSError:
        return
    raise AssertionError(f"{MARK} exists")


def _scan_one(key: str, path: str, recorder: _Recorder) -> dict[str, Any]:
    from auditor.models.scan.scanner import scan_path

    _forget_highest_memory()
    before, recorder.events = _memory("VmRSS"), []
    result: Any = None
    error = ""
    _mark(key, "begin")
    recorder.on = True
    try:
        result = scan_path(Path(path))
    except Exception:  # noqa: BLE001 - told to the test, which fails
        error = traceback.format_exc()
    recorder.on = False
    _mark(key, "end")
    problems, digests, decision = [], {}, ""
    if result is not None:
        decision = str(result.decision)
        digests = {file.name: file.sha256 for file in result.files}
        problems = [
            (name, each.rule, each.place, each.problem, str(each.decision))
            for name, each in result.all_problems()
        ]
    return asdict(Traced(
        decision, tuple(problems), digests, tuple(recorder.events),
        _memory("VmHWM") - before, error,
    ))  # fmt: skip


def _memory(key: str) -> int:
    """`VmRSS`, or its highest value so far, `VmHWM`, in bytes.

    What `getrusage` tells instead begins with the memory of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _forget_highest_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Read what to scan from standard input, scan, and tell it on standard output."""
    order = json.load(sys.stdin)
    for kind, limit in (
        (resource.RLIMIT_AS, ADDRESS_SPACE), (resource.RLIMIT_CPU, PROCESSOR_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
    ):  # fmt: skip
        resource.setrlimit(kind, (limit, limit))
    recorder = _Recorder()
    _scan_one("warm", order["warm"], recorder)
    scans = {key: _scan_one(key, path, recorder) for key, path in order["paths"].items()}
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    json.dump({"scans": scans, "modules": modules}, sys.stdout)


if __name__ == "__main__":
    main()
