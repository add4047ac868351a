"""The guarded child: protects itself, then calls one function of our own.

Called as `python -P -B -m auditor.guarded.child` with a JSON line on standard input, which
names the function, its arguments, the limits and what may be read; the rest of standard input
is the model. It imports nothing large before the protections are in force.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from auditor.guarded.limits import GuardLimits
from auditor.guarded.protections import protect_process
from auditor.guarded.stages import StageLog, StageRejected

GuardedFunction = Callable[[StageLog, dict[str, Any], bytes], None]


def main() -> int:
    """Do the job; 0 also when the model is rejected in an orderly way."""
    # Libraries print; what they print must not stand between our lines.
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.buffer.readline())
    limits = GuardLimits(**job["limits"])
    readable = [Path(name) for name in job["readable"]]
    protections = protect_process(limits, readable, Path.cwd())
    if os.name == "posix" and os.getppid() != job["parent"]:
        return 1  # it died before the child could ask to end with it
    # Libraries look for such a place when they are imported, by writing a file.
    tempfile.tempdir = str(Path.cwd())
    log = StageLog(output)
    log.say(protections=asdict(protections))
    return run_function(job["function"], log, job["arguments"])


def run_function(name: str, log: StageLog, arguments: dict[str, Any]) -> int:
    """Import `module:function` and call it with what is left on standard input."""
    module, _, function = name.partition(":")
    try:
        guarded: GuardedFunction = getattr(importlib.import_module(module), function)
        guarded(log, arguments, sys.stdin.buffer.read())
    except StageRejected as rejection:
        log.end(str(rejection))
        return 0
    except MemoryError:
        log.exhausted()
        return 0
    log.say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
