"""A guarded child: what it cannot do, how it ends, and what its parent is told."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardOutcome, GuardStatus, Protections
from auditor.guarded.process import read_outcome, run_guarded
from auditor.guarded.supervision import Supervised
from auditor.guarded.system_calls import MACHINES

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the acts are those of POSIX systems")

LIMIT_NAMES = ("memory", "processor time", "file size", "open files", "core dumps")
LIMITS = GuardLimits(seconds=30, memory_mb=1024)


def act(
    name: str, limits: GuardLimits = LIMITS, readable: tuple[Path, ...] = (), **arguments: Any
) -> GuardOutcome:
    """Let the guarded child do one of the acts."""
    return run_guarded(
        f"tests.unit.guarded.guarded_acts:{name}", arguments, readable=readable, limits=limits
    )


@cache
def protections() -> Protections:
    """What this system can put in force."""
    held = act("nothing").protections
    assert held is not None
    return held


def require(word: str) -> None:
    """Skip where a protection is not in force."""
    if getattr(protections(), word) == "open":
        pytest.skip(f"this system leaves {word} open")


def refused(outcome: GuardOutcome) -> str:
    """What the system said to an act; it must have said something."""
    assert outcome.status is GuardStatus.REJECTED, outcome
    return outcome.problem


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES,
    reason="the filter knows Linux on x86-64 and AArch64",
)
def test_what_the_system_has_is_in_force() -> None:
    """A protection that this kernel offers and the child lacks is a mistake of ours."""
    held, kernel = protections(), Path("/proc/sys/kernel/seccomp/actions_avail")
    assert held.limits == LIMIT_NAMES
    if kernel.exists() and "errno" in kernel.read_text():
        assert (held.network, held.processes) == ("none (system call filter)",) * 2
    version = ctypes.CDLL(None).syscall(*map(ctypes.c_long, (444, 0, 0, 1)))
    if version > 0:
        assert held.reading == "what it was given (Landlock)"
        assert held.writing == "none (system call filter and Landlock)"


def test_a_child_that_does_its_work_is_done_and_measured() -> None:
    """Stages, protections, memory and processor time are told."""
    outcome = act("nothing")
    assert (outcome.status, outcome.stages, outcome.problem) == (GuardStatus.DONE, ("nothing",), "")
    assert 1 < outcome.peak_memory_mb < LIMITS.memory_mb
    assert 0 < outcome.cpu_seconds < LIMITS.seconds


def test_arguments_and_content_reach_the_child() -> None:
    """Content may be longer than a pipe holds at once."""
    content = bytes(2**20) + b"end"
    function = "tests.unit.guarded.guarded_acts:tell_content"
    outcome = run_guarded(function, {"word": "told"}, content=content, limits=LIMITS)
    assert refused(outcome) == f"told {len(content)} end"


def test_a_segmentation_fault_is_a_crash_with_its_signal_and_stage() -> None:
    """The steps before it were passed."""
    outcome = act("crash")
    assert (outcome.status, outcome.stage) == (GuardStatus.CRASHED, "second")
    assert "SIGSEGV" in outcome.problem
    assert outcome.stages == ("first",)


def test_an_exception_nobody_expects_is_a_crash_and_its_text_is_harmless() -> None:
    """Control characters of a message do not reach the report."""
    outcome = act("fail")
    assert outcome.status is GuardStatus.CRASHED
    assert outcome.problem.endswith("RuntimeError: as\N{REPLACEMENT CHARACTER}[31m planted")


def test_a_child_that_leaves_early_is_not_done() -> None:
    """Exit code 0 alone is no success."""
    assert act("leave_early").status is GuardStatus.NOT_RUN


def test_a_function_that_does_not_exist_is_not_done() -> None:
    """A mistake of ours is not a pass."""
    assert act("no_such_act").status is GuardStatus.CRASHED


def test_memory_without_end_is_out_of_memory() -> None:
    """Python's own error, told by the child."""
    outcome = act("allocate", GuardLimits(seconds=30, memory_mb=512))
    assert (outcome.status, outcome.stage) == (GuardStatus.OUT_OF_MEMORY, "allocating")
    assert outcome.peak_memory_mb < 512 * 1.1


def test_native_code_without_memory_is_no_crash() -> None:
    """The text C++ leaves tells an abort for lack of memory from another."""
    assert act("abort_without_memory").status is GuardStatus.OUT_OF_MEMORY


def test_threads_are_bounded_by_the_address_space() -> None:
    """A hundred thousand of them do not come to life."""
    assert act("start_threads").status in (GuardStatus.OUT_OF_MEMORY, GuardStatus.CRASHED)


@pytest.mark.parametrize("name", ["loop", "sleep"])
def test_a_child_without_an_end_is_out_of_time(name: str) -> None:
    """Whether it works or waits."""
    outcome = act(name, GuardLimits(seconds=1, memory_mb=1024))
    assert (outcome.status, outcome.stages) == (GuardStatus.OUT_OF_TIME, ())


@pytest.mark.parametrize("stream", ["report", 1, 2])
def test_a_flood_of_output_is_cut(stream: str | int) -> None:
    """On the way of the report, on standard output and on standard error."""
    outcome = act("flood", stream=stream)
    assert (outcome.status, outcome.stage) == (GuardStatus.FLOODED, "flooding")


def test_what_a_library_prints_is_no_report() -> None:
    """A line that looks like ours does not make a pass of a crash."""
    assert act("forge").status is GuardStatus.CRASHED


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGXCPU, GuardStatus.OUT_OF_TIME),
        (signal.SIGKILL, GuardStatus.OUT_OF_MEMORY),
        (signal.SIGBUS, GuardStatus.CRASHED),
        (signal.SIGRTMAX if hasattr(signal, "SIGRTMAX") else signal.SIGILL, GuardStatus.CRASHED),
    ],
)
def test_a_signal_says_what_ended_the_child(number: int, status: GuardStatus) -> None:
    """The processor's limit, the system's memory killer, and crashes."""
    assert act("end_by_signal", number=int(number)).status is status


def test_an_interpreter_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an exception: the check has to answer."""
    monkeypatch.setattr(sys, "executable", "/no/such/interpreter")
    assert act("nothing").status is GuardStatus.NOT_RUN


@pytest.mark.parametrize(
    "lines",
    [
        b"[1]\n{\n\xff\n",
        b'{"stage": 1, "rejected": ["\\ud800"]}',
        b'{"protections": {"limits": 3}}',
        b'{"done": "yes"}',
        b"[" * 100_000,
    ],
)
def test_no_line_of_a_child_breaks_its_parent(lines: bytes) -> None:
    """And none of these is a pass."""
    outcome = read_outcome(Supervised(None, 0, lines, b"", 0, 0), LIMITS)
    assert outcome.status in (GuardStatus.NOT_RUN, GuardStatus.REJECTED)
    json.dumps(outcome.problem).encode()
    outcome.problem.encode()


def test_a_connection_fails_and_the_listener_sees_nothing() -> None:
    """Not even to this machine."""
    require("network")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = act("connect", port=listener.getsockname()[1])
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert refused(outcome) == "PermissionError"


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"])
def test_no_socket_of_any_family_is_made(family: str) -> None:
    """Local services speak through them too."""
    require("processes")
    assert refused(act("open_socket", family=int(getattr(socket, family)))) == "PermissionError"


@pytest.mark.parametrize("name", ["execute", "start_process"])
def test_no_other_program_is_started(tmp_path: Path, name: str) -> None:
    """Neither in its place nor beside it."""
    require("processes")
    outcome = act(name, marker=str(tmp_path / "marker"))
    assert refused(outcome) == "PermissionError"
    assert not (tmp_path / "marker").exists()


def test_no_process_is_forked() -> None:
    """The first of them fails already."""
    require("processes")
    assert refused(act("fork_often")) == "0 PermissionError"


def test_threads_still_work() -> None:
    """Numerical libraries need them."""
    assert act("use_threads").status is GuardStatus.DONE


def test_secrets_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are let through by name; the private folder is private, and gone afterwards."""
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "https_proxy", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "planted-secret")
    outcome = act("tell_surroundings")
    ((names, values),) = outcome.skipped
    assert "planted-secret" not in values
    assert {"HF_HUB_OFFLINE", "ORT_DISABLE_TELEMETRY", "PYTHONPATH"} < set(names.split())
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "https_proxy", "SSH_AUTH_SOCK"} & set(
        names.split()
    )
    mode, mask, folder = refused(outcome).split()
    assert (mode, mask) == ("700", "77")
    assert not Path(folder).exists()


def test_the_environment_of_its_parent_is_closed() -> None:
    """/proc shows it to every process of the same user."""
    require("reading")
    assert refused(act("read_parents_environment")) == "PermissionError"


def test_its_parent_gets_no_signal() -> None:
    """A kill of the audit is no way out."""
    require("processes")
    assert refused(act("signal_parent")) == "PermissionError"


def test_it_reads_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    """A file beside the given one stays closed, and so does the folder."""
    require("reading")
    given, other = tmp_path / "given", tmp_path / "other"
    given.write_bytes(b"1")
    other.write_bytes(b"2")
    assert act("read_file", readable=(given,), path=str(given)).status is GuardStatus.DONE
    for name, path in (("read_file", other), ("list_folder", tmp_path)):
        assert refused(act(name, readable=(given,), path=str(path))) == "PermissionError"


def test_a_given_folder_may_be_listed_and_its_files_stay_closed(tmp_path: Path) -> None:
    """The weights beside a configuration are not for the child."""
    require("reading")
    (tmp_path / "weights").write_bytes(b"1")
    listed = act("list_folder", readable=(tmp_path,), path=str(tmp_path))
    assert listed.status is GuardStatus.DONE
    outcome = act("read_file", readable=(tmp_path,), path=str(tmp_path / "weights"))
    assert refused(outcome) == "PermissionError"


def test_a_link_that_was_given_is_followed(tmp_path: Path) -> None:
    """Models in the Hugging Face cache are links."""
    (tmp_path / "blob").write_bytes(b"1")
    link = tmp_path / "config.json"
    link.symlink_to("blob")
    assert act("read_file", readable=(link,), path=str(link)).status is GuardStatus.DONE


def test_a_gigabyte_is_not_written(tmp_path: Path) -> None:
    """Not a byte of it, neither outside nor in its own folder."""
    for path in (str(tmp_path / "large"), "large"):
        outcome = act("write_file", path=path, megabytes=1024)
        assert refused(outcome) in ("PermissionError", "OSError")
    assert not (tmp_path / "large").exists() or not (tmp_path / "large").stat().st_size


def test_a_file_in_memory_is_not_written() -> None:
    """It would not count as address space."""
    assert refused(act("write_memory_file")) == "OSError"


@pytest.mark.parametrize(
    "name", ["unlink", "rename", "chmod", "truncate", "link", "folder", "times"]
)
def test_files_it_may_read_stay_as_they_are(tmp_path: Path, name: str) -> None:
    """Also what Landlock does not judge."""
    require("processes" if name in ("chmod", "times") else "writing")
    path = tmp_path / "config.json"
    path.write_bytes(b"{}")
    before = path.stat()
    assert refused(act("change_file", readable=(path,), path=str(path), act=name)) in (
        "PermissionError", "OSError",
    )  # fmt: skip
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]
    assert (path.stat().st_mode, path.stat().st_size) == (before.st_mode, before.st_size)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_files_up_to_a_limit_are_written_where_that_was_asked_for(tmp_path: Path) -> None:
    """In its own folder and nowhere else."""
    limits = GuardLimits(seconds=30, memory_mb=1024, file_mb=2)
    assert act("write_file", limits, path="small", megabytes=1).status is GuardStatus.DONE
    assert refused(act("write_file", limits, path="large", megabytes=3)) == "OSError"
    require("reading")
    outcome = act("write_file", limits, path=str(tmp_path / "small"), megabytes=1)
    assert refused(outcome) == "PermissionError"


def test_descriptors_are_bounded() -> None:
    """Ten thousand of them are not opened."""
    opened, _, problem = refused(act("open_files")).partition(" ")
    assert problem == os.strerror(errno.EMFILE)
    assert int(opened) < LIMITS.open_files


def test_limits_are_read_and_not_raised() -> None:
    """Neither by a superuser, who might raise them without the filter."""
    told = refused(act("read_limits"))
    assert told == str([LIMITS.memory_mb * 1024 * 1024, 0, 0])
    if os.geteuid() == 0:
        require("processes")
    assert act("raise_limits").status in (GuardStatus.REJECTED, GuardStatus.CRASHED)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is of x86-64 alone")
def test_calls_by_the_numbers_of_another_architecture_kill() -> None:
    """The list would not know them."""
    require("processes")
    outcome = act("call_system", numbers=[0x40000000 | 41, 2, 1, 0])
    assert (outcome.status, "SIGSYS" in outcome.problem) == (GuardStatus.CRASHED, True)


def test_the_folder_of_the_call_is_not_searched_for_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is called like a module of Python's is not imported."""
    (tmp_path / "json.py").write_text("from pathlib import Path\nPath('marker').touch()\n")
    monkeypatch.chdir(tmp_path)
    assert act("nothing").status is GuardStatus.DONE
    assert not (tmp_path / "marker").exists()
