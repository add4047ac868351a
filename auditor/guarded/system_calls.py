"""Filters of system calls (seccomp-BPF) that a process puts on itself and cannot take off.

What is refused fails with EPERM, so that libraries go on where they can. A call for another
architecture (32 bits, x32) has other numbers and would pass the list by, so it kills. A filter
holds for every thread of the process and for all it starts, which also cannot gain privileges.

Numbers: Linux, asm/unistd_64.h (x86-64) and asm-generic/unistd.h (AArch64). Program: Linux,
Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_FAIL: Final = 0x00050000  # plus the error number

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_UNIX: Final = 1  # the family of sockets that stay on this machine
_WRITING_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Machine(NamedTuple):
    """An architecture: its audit number, the column of its call numbers, and `seccomp` itself."""

    audit: int
    column: int
    seccomp: int


MACHINES: Final = {"x86_64": Machine(0xC000003E, 0, 317), "aarch64": Machine(0xC00000B7, 1, 277)}

# Each call with its number on x86-64 and AArch64; None where there is no such call.
ALWAYS_REFUSED: Final[dict[str, tuple[int | None, int | None]]] = {
    # The network, and local services behind sockets. io_uring would open sockets unseen.
    "socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425),
    # Other programs and other processes.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # Other namespaces and file trees.
    "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41),
    "mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428),
    "open_tree_attr": (467, 467), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    # Parts of the kernel that a model has no business with and that had faults of their own.
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "personality": (135, 92), "modify_ldt": (154, None),
    # The machine itself, for a child of the superuser.
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "iopl": (172, None),
    "ioperm": (173, None),
    # The limits that were set before.
    "setrlimit": (160, 164),
}  # fmt: skip

WRITING: Final[dict[str, tuple[int | None, int | None]]] = {
    "creat": (85, None), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None), "mkdirat": (258, 34),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None),
    "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}  # fmt: skip

JUDGED: Final[dict[str, tuple[int | None, int | None]]] = {
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131),
    "prlimit64": (302, 261), "open": (2, None), "openat": (257, 56), "openat2": (437, 437),
}  # fmt: skip

NUMBERS: Final = ALWAYS_REFUSED | WRITING | JUDGED


def refuse_system_calls(*, writing: bool) -> None:
    """Take from this process what a guarded child has no business with.

    Args:
        writing: Whether files may be written, made, renamed and removed.

    Raises:
        OSError: The system has no such filter, or this machine is not known here.
    """
    machine = _this_machine()
    _install(machine, confining_program(machine, os.getpid(), writing=writing))


def refuse_network() -> None:
    """Take every socket but those of this machine (AF_UNIX) from this process, and nothing else.

    Raises:
        OSError: The system has no such filter, or this machine is not known here.
    """
    machine = _this_machine()
    _install(machine, offline_program(machine))


def _this_machine() -> Machine:
    machine = MACHINES.get(platform.machine())
    if sys.platform != "linux" or sys.byteorder != "little" or machine is None:
        raise OSError(errno.ENOSYS, f"no filter for {sys.platform} on {platform.machine()}")
    return machine


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _install(machine: Machine, instructions: list[bytes]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    content = ctypes.create_string_buffer(b"".join(instructions))
    program = _Program(len(instructions), ctypes.cast(content, ctypes.c_void_p))
    values = (machine.seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.addressof(program))
    failed = library.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    failed = failed or library.syscall(*map(ctypes.c_long, values))
    if failed:
        # A positive answer is a thread that has a filter of its own, which this one does not.
        number = ctypes.get_errno() if failed < 0 else errno.EBUSY
        raise OSError(number, os.strerror(number))


def confining_program(machine: Machine, process: int, *, writing: bool) -> list[bytes]:
    """The filter of a guarded child: neither network nor other processes."""
    refused = ALWAYS_REFUSED if writing else ALWAYS_REFUSED | WRITING
    return _build_program(machine, refused, _judgements(process, writing=writing))


def offline_program(machine: Machine) -> list[bytes]:
    """The filter of a worker: no network.

    Sockets of this machine stay, by which processes hand each other descriptors and drivers of
    accelerators work. Netlink reaches no other machine, but a superuser sets up networks by it.
    """
    local = _allowed_if(_EQUAL, 0, _UNIX)
    return _build_program(machine, ["io_uring_setup"], [("socket", local), ("socketpair", local)])


def _build_program(
    machine: Machine, refused: Iterable[str], judged: Iterable[tuple[str, list[bytes]]]
) -> list[bytes]:
    """A filter's instructions, eight bytes each; the calls by their names."""
    made = [
        _load(_ARCHITECTURE), _jump(_EQUAL, machine.audit, 1, 0), _return(_KILL_PROCESS),
        _load(_NUMBER),
    ]  # fmt: skip
    if machine.column == 0:
        made += [_jump(_AT_LEAST, _X32_BIT, 0, 1), _return(_KILL_PROCESS)]
    for name in refused:
        made += _for_call(NUMBERS[name][machine.column], [_return(_FAIL | errno.EPERM)])
    for name, block in judged:
        made += _for_call(NUMBERS[name][machine.column], block)
    return [*made, _return(_ALLOW)]


def _judgements(process: int, *, writing: bool) -> Iterator[tuple[str, list[bytes]]]:
    """What to do with calls that depend on their arguments."""
    # A pointer hides the flags of clone3 and openat2; libraries know the older calls.
    unknown = [_return(_FAIL | errno.ENOSYS)]
    yield "clone3", unknown
    yield "clone", _allowed_if(_ANY_BIT, 0, _CLONE_THREAD)
    yield "kill", _allowed_if(_EQUAL, 0, process)
    yield "tgkill", _allowed_if(_EQUAL, 0, process)
    # Reading limits is harmless; the new ones are a pointer of 64 bits.
    yield "prlimit64", [
        _load(_ARGUMENTS + 8 * 2), _jump(_EQUAL, 0, 1, 0), _return(_FAIL | errno.EPERM),
        _load(_ARGUMENTS + 8 * 2 + 4), _jump(_EQUAL, 0, 1, 0), _return(_FAIL | errno.EPERM),
        _return(_ALLOW),
    ]  # fmt: skip
    if not writing:
        yield "openat2", unknown
        yield "open", _refused_if(_ANY_BIT, 1, _WRITING_FLAGS)
        yield "openat", _refused_if(_ANY_BIT, 2, _WRITING_FLAGS)


def _allowed_if(test: int, argument: int, value: int) -> list[bytes]:
    return [
        _load(_ARGUMENTS + 8 * argument), _jump(test, value, 1, 0),
        _return(_FAIL | errno.EPERM), _return(_ALLOW),
    ]  # fmt: skip


def _refused_if(test: int, argument: int, value: int) -> list[bytes]:
    return [
        _load(_ARGUMENTS + 8 * argument), _jump(test, value, 0, 1),
        _return(_FAIL | errno.EPERM), _return(_ALLOW),
    ]  # fmt: skip


def _for_call(number: int | None, block: list[bytes]) -> list[bytes]:
    return [] if number is None else [_jump(_EQUAL, number, 0, len(block)), *block]


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, when: int, otherwise: int) -> bytes:
    return struct.pack("=HBBI", test, when, otherwise, value)


def _return(value: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, value)
