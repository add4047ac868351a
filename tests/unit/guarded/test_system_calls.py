"""The filters of system calls, run by a small interpreter; their numbers against the kernel's."""

from __future__ import annotations

import errno
import os
import platform
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from auditor.guarded.system_calls import (
    ALWAYS_REFUSED,
    JUDGED,
    MACHINES,
    NUMBERS,
    WRITING,
    confining_program,
    offline_program,
    refuse_network,
    refuse_system_calls,
)

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
REFUSED, UNKNOWN = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
THIS_PROCESS = 4321
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def decide(
    machine: str, number: int, *arguments: int, audit: int | None = None, writing: bool = False
) -> int:
    """What the filter of a guarded child answers to a call."""
    known = MACHINES[machine]
    program = confining_program(known, THIS_PROCESS, writing=writing)
    return run(program, known.audit if audit is None else audit, number, *arguments)


def decide_offline(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter of a worker answers to a call."""
    known = MACHINES[machine]
    program = offline_program(known)
    return run(program, known.audit if audit is None else audit, number, *arguments)


def run(program: Sequence[bytes], audit: int, number: int, *arguments: int) -> int:
    """What a filter answers to a call, by the rules of classic BPF."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    at, loaded = 0, 0
    while True:
        code, when, otherwise, value = struct.unpack("=HBBI", program[at])
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}
            at += when if holds[code] else otherwise


def numbers_of(machine: str, calls: Mapping[str, tuple[int | None, int | None]]) -> dict[str, int]:
    """The calls that this machine has."""
    column = MACHINES[machine].column
    found = {name: numbers[column] for name, numbers in calls.items()}
    return {name: number for name, number in found.items() if number is not None}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("writing", [False, True])
def test_calls_of_the_list_are_refused(machine: str, writing: bool) -> None:
    """Those that write only where nothing may be written."""
    always, writes = (numbers_of(machine, calls) for calls in (ALWAYS_REFUSED, WRITING))
    answers = {name: decide(machine, n, writing=writing) for name, n in (always | writes).items()}
    expected = dict.fromkeys(always, REFUSED)
    assert answers == expected | dict.fromkeys(writes, ALLOWED if writing else REFUSED)


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_for_another_architecture_kill(machine: str) -> None:
    """Their numbers mean other calls; x32 is x86-64 with a bit set."""
    assert decide(machine, 0, audit=0x40000003) == KILLED
    x32 = decide(machine, 0x40000000 | numbers_of(machine, ALWAYS_REFUSED)["socket"])
    assert x32 == (KILLED if machine == "x86_64" else ALLOWED)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("clone", (0x3D0F00,), ALLOWED),
        ("clone", (0x1200011,), REFUSED),
        ("clone3", (), UNKNOWN),
        ("kill", (THIS_PROCESS, 9), ALLOWED),
        ("kill", (0, 9), REFUSED),
        ("kill", (2**32 - 1, 9), REFUSED),
        ("tgkill", (THIS_PROCESS, 5000, 6), ALLOWED),
        ("tgkill", (1, 1, 6), REFUSED),
        ("prlimit64", (0, 7, 0, 2**40), ALLOWED),
        ("prlimit64", (0, 7, 2**40, 0), REFUSED),
        ("prlimit64", (0, 7, 1, 0), REFUSED),
        ("open", (2**40, os.O_RDONLY | os.O_CLOEXEC), ALLOWED),
        ("open", (2**40, os.O_RDONLY | os.O_TRUNC), REFUSED),
        ("openat", (3, 2**40, os.O_RDONLY | os.O_DIRECTORY), ALLOWED),
        ("openat", (3, 2**40, os.O_WRONLY), REFUSED),
        ("openat", (3, 2**40, os.O_RDWR), REFUSED),
        ("openat", (3, 2**40, os.O_RDONLY | os.O_CREAT), REFUSED),
        ("openat2", (3,), UNKNOWN),
    ],
)
def test_calls_are_judged_by_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], answer: int
) -> None:
    """Threads, signals to oneself and reading go on."""
    numbers = numbers_of(machine, JUDGED)
    if name == "open" and machine == "aarch64":
        assert name not in numbers
    else:
        assert decide(machine, numbers[name], *arguments) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_are_allowed(machine: str) -> None:
    """read, write, mmap and futex, by the kernel's numbers."""
    ordinary = {"x86_64": (0, 1, 9, 202), "aarch64": (63, 64, 222, 98)}[machine]
    assert [decide(machine, number) for number in ordinary] == [ALLOWED] * 4


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["socket", "socketpair"])
def test_a_worker_makes_sockets_of_its_machine_alone(machine: str, name: str) -> None:
    """The kernel looks at 32 bits of the family, and so does the filter."""
    number = numbers_of(machine, NUMBERS)[name]
    answers = {family: decide_offline(machine, number, family) for family in range(64)}
    assert answers == {
        family: ALLOWED if family == socket.AF_UNIX else REFUSED for family in range(64)
    }
    beyond = 2**32
    assert decide_offline(machine, number, beyond + socket.AF_INET) == REFUSED
    assert decide_offline(machine, number, beyond + socket.AF_UNIX) == ALLOWED


@pytest.mark.parametrize("machine", MACHINES)
def test_a_worker_is_refused_nothing_else(machine: str) -> None:
    """It writes, starts processes and puts further filters on itself; io_uring makes sockets."""
    numbers = numbers_of(machine, NUMBERS)
    answers = {name: decide_offline(machine, number) for name, number in numbers.items()}
    refused = {"socket", "socketpair", "io_uring_setup"}
    assert answers == {name: REFUSED if name in refused else ALLOWED for name in numbers}
    assert decide_offline(machine, MACHINES[machine].seccomp) == ALLOWED


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_a_worker_for_another_architecture_kill(machine: str) -> None:
    """On x86-64 those of 32 bits have one call for all of the network."""
    assert decide_offline(machine, 102, audit=0x40000003) == KILLED
    x32 = decide_offline(machine, 0x40000000 | numbers_of(machine, NUMBERS)["socket"])
    assert x32 == (KILLED if machine == "x86_64" else ALLOWED)


def test_an_unknown_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of another architecture would refuse other calls."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        refuse_network()
    with pytest.raises(OSError, match="riscv64"):
        refuse_system_calls(writing=True)


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    """Calls that are younger than the headers are left out."""
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed")
    text = HEADERS[machine].read_text()
    # Names that are __NR3264_ in the generic header are those of 64 bits.
    stated = {
        name: int(number)
        for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)
    }
    ours = numbers_of(machine, NUMBERS) | {"seccomp": MACHINES[machine].seccomp}
    shared = ours.keys() & stated.keys()
    assert len(shared) > 50
    assert {name: ours[name] for name in shared} == {name: stated[name] for name in shared}
