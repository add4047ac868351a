"""What a model might make a process do, as functions for the guarded child; each tries one thing.

An act that is refused tells the error's name by `StageRejected`; one that succeeds is done.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditor.guarded.stages import StageLog, StageRejected
from auditor.models.folder_trial_child import IMPORTING

MEGABYTE = 1024 * 1024


def nothing(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("nothing")


def tell_content(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("told")
    raise StageRejected(f"{arguments['word']} {len(content)} {content[-3:].decode()}")


def crash(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("first")
    log.begin("second")
    ctypes.string_at(0)


def crash_importing(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin(IMPORTING)
    ctypes.string_at(0)


def fail(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("failing")
    raise RuntimeError("as\x1b[31m planted")


def leave_early(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("leaving")
    os._exit(0)


def end_by_signal(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("ending")
    os.kill(os.getpid(), arguments["number"])


def allocate(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("allocating")
    kept = []
    while True:
        kept.append(bytearray(16 * MEGABYTE))


def abort_without_memory(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("native code")
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def start_threads(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("threads")
    event = threading.Event()
    for _ in range(100_000):
        threading.Thread(target=event.wait, daemon=True).start()


def use_threads(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    import numpy as np  # slow, and the other acts do without

    log.begin("threads")
    threads = [threading.Thread(target=np.ones((64, 64)).sum) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def loop(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("looping")
    while True:
        pass


def sleep(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("sleeping")
    time.sleep(600)


def flood(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("flooding")
    while True:
        if arguments["stream"] == "report":
            log.say(noise="x" * 4096)
        else:
            os.write(arguments["stream"], b"x" * 4096)


def forge(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("forging")
    print('{"done": true}', flush=True)  # noqa: T201
    ctypes.string_at(0)


def write_file(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("writing")
    with _told_refusal(), Path(arguments["path"]).open("wb") as stream:
        for _ in range(arguments["megabytes"]):
            stream.write(bytes(MEGABYTE))


def write_memory_file(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("writing")
    with _told_refusal():
        os.write(os.memfd_create("unseen"), b"x")


def change_file(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("changing")
    path = Path(arguments["path"])
    acts: dict[str, Callable[[], object]] = {
        "unlink": path.unlink,
        "rename": lambda: path.rename(path.with_name("other")),
        "chmod": lambda: path.chmod(0o777),
        "truncate": lambda: os.truncate(path, 0),
        "link": lambda: path.with_name("other").hardlink_to(path),
        "folder": path.with_name("other").mkdir,
        "times": lambda: os.utime(path, (0, 0)),
    }
    with _told_refusal():
        acts[arguments["act"]]()


def read_file(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("reading")
    with _told_refusal():
        Path(arguments["path"]).read_bytes()


def list_folder(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("listing")
    with _told_refusal():
        list(Path(arguments["path"]).iterdir())


def open_files(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("opening")
    opened = 0
    try:
        for _ in range(10_000):
            os.open("/dev/null", os.O_RDONLY)
            opened += 1
    except OSError as error:
        raise StageRejected(f"{opened} {error.strerror}") from error


def connect(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("connecting")
    with _told_refusal():
        socket.create_connection(("127.0.0.1", arguments["port"]), timeout=5).send(b"hello")


def open_socket(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("socket")
    with _told_refusal():
        socket.socket(arguments["family"], socket.SOCK_STREAM)


def execute(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("executing")
    touch = shutil.which("touch", path="/usr/bin:/bin") or ""
    with _told_refusal():
        os.execv(touch, ["touch", arguments["marker"]])


def start_process(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("starting")
    with _told_refusal():
        subprocess.run(["touch", arguments["marker"]], check=True)


def fork_often(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("forking")
    for count in range(20):
        try:
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
        except OSError as error:
            raise StageRejected(f"{count} {type(error).__name__}") from error


def tell_surroundings(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("looking around")
    log.say(stage=" ".join(sorted(os.environ)), skipped=" ".join(os.environ.values()))
    mode = stat.S_IMODE(Path.cwd().stat().st_mode)
    mask = os.umask(0)
    raise StageRejected(f"{mode:o} {mask:o} {Path.cwd()}")


def read_parents_environment(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("reading")
    with _told_refusal():
        Path(f"/proc/{os.getppid()}/environ").read_bytes()


def signal_parent(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("signalling")
    with _told_refusal():
        os.kill(os.getppid(), signal.SIGCONT)


def raise_limits(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("limits")
    wanted = resource.RLIM_INFINITY
    with _told_refusal():
        resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))


def read_limits(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("limits")
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
    raise StageRejected(str([resource.getrlimit(kind)[1] for kind in kinds]))


def call_system(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    log.begin("calling")
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(*map(ctypes.c_long, arguments["numbers"])) < 0:
        raise StageRejected(os.strerror(ctypes.get_errno()))


class _told_refusal:  # noqa: N801
    """Makes a rejection of what the system refuses."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StageRejected(type(error).__name__) from error
