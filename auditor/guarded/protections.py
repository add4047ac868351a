"""A process gives up what it does not need; what it could not give up it says.

The order matters: resource limits need no rights, files have to be restricted while `openat`
still takes every flag, and the filter of system calls comes last because it refuses the rest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from auditor.guarded.landlock import restrict_files
from auditor.guarded.limits import MEGABYTE, GuardLimits
from auditor.guarded.outcome import Protections
from auditor.guarded.system_calls import refuse_system_calls

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_CAPABILITY_VERSION: Final = 0x20080522
_READ_OF_OTHERS: Final = 1 << 2  # CAP_DAC_READ_SEARCH: a superuser may audit a user's files

# What interpreters and numerical libraries read besides their own folders.
_SYSTEM_TREES: Final = (
    "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local/lib", "/usr/local/lib64",
    "/usr/local/cuda", "/usr/share/zoneinfo", "/usr/share/locale", "/usr/share/misc", "/lib",
    "/lib64", "/proc/self", "/proc/sys/kernel", "/proc/sys/vm", "/sys/devices/system",
    "/sys/fs/cgroup", "/etc/ld.so.conf.d",
)  # fmt: skip
_SYSTEM_FILES: Final = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.preload", "/etc/localtime",
    "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/ssl/openssl.cnf", "/etc/os-release",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems",
    "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random",
)  # fmt: skip


def protect_process(limits: GuardLimits, readable: Sequence[Path], folder: Path) -> Protections:
    """Put every protection this system has on this process.

    Args:
        limits: What it may use.
        readable: Files it may read, and folders it may list, besides the interpreter's own.
        folder: Its private folder; writable only where `limits` let it write.

    Returns:
        What is in force, as far as it could be tried.
    """
    _end_with_parent()
    taken = limit_resources(limits)
    _drop_capabilities()
    writing = limits.file_mb > 0
    confined = _try_to_confine(readable, folder, writing=writing)
    filtered = _try_to_filter(writing=writing)
    if not filtered:
        _leave_network()
    return Protections(
        limits=taken,
        network=network_left(),
        processes="none (system call filter)" if filtered else "open",
        writing=_writing(filtered=filtered, confined=confined, writing=writing),
        reading="what it was given (Landlock)" if confined else "open",
    )


def limit_resources(limits: GuardLimits) -> tuple[str, ...]:
    """Bound memory, processor time, files and descriptors; which of them the system took."""
    try:
        import resource
    except ImportError:  # Windows
        return ()
    wanted = (
        ("memory", resource.RLIMIT_AS, limits.memory_mb * MEGABYTE, 0),
        # SIGXCPU at the first, which tells the end of the time from a kill; SIGKILL after it.
        ("processor time", resource.RLIMIT_CPU, limits.cpu_seconds, 1),
        ("file size", resource.RLIMIT_FSIZE, limits.file_mb * MEGABYTE, 0),
        ("open files", resource.RLIMIT_NOFILE, limits.open_files, 0),
        ("core dumps", resource.RLIMIT_CORE, 0, 0),
    )
    taken = []
    for name, kind, value, above in wanted:
        hard = resource.getrlimit(kind)[1]
        ceiling = value + above if hard == resource.RLIM_INFINITY else min(hard, value + above)
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (min(value, ceiling), ceiling))
            taken.append(name)
    return tuple(taken)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def _drop_capabilities() -> None:
    """Leave a superuser's child the right to read files of others, if it had it."""
    if sys.platform == "linux":
        header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
        kept = struct.pack("=6I", _READ_OF_OTHERS, _READ_OF_OTHERS, 0, 0, 0, 0)
        # A process that never had the right may not keep it; then nothing is to be dropped.
        ctypes.CDLL(None).capset(header, kept)


def _try_to_confine(readable: Sequence[Path], folder: Path, *, writing: bool) -> bool:
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path]
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    trees = [Path(name) for name in {*own, *libraries, *_SYSTEM_TREES} if name]
    files = [Path(name) for name in _SYSTEM_FILES] + [path for path in readable if path.is_file()]
    listed = [path for path in readable if path.is_dir()]
    try:
        restrict_files([*trees, folder], files, listed, folder if writing else None)
    except OSError:
        return False
    return True


def _try_to_filter(*, writing: bool) -> bool:
    try:
        refuse_system_calls(writing=writing)
    except OSError:
        return False
    return True


def _leave_network() -> None:
    """Move into a network of its own that leads nowhere, where the system lets users do so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)


def network_left() -> str:
    """What this process has of the network: `none (...)` with the means, or `open`.

    Found out rather than believed: no socket, or no interface that is up.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            if sys.platform == "linux":
                # Connecting a datagram socket sends nothing; it only looks for a route.
                probe.connect(("127.0.0.1", 9))
    except PermissionError:
        return "none (system call filter)"
    except OSError:
        return "none (own namespace)"
    return "open"


def _writing(*, filtered: bool, confined: bool, writing: bool) -> str:
    if writing:
        return "own folder (Landlock)" if confined else "open"
    if filtered:
        return f"none (system call filter{' and Landlock' if confined else ''})"
    # Landlock does not judge modes, owners and times.
    return "attributes of files alone (Landlock)" if confined else "open"
