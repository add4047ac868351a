"""Source of checks that misbehave, for packages that are installed as plug-ins."""

from __future__ import annotations

from typing import Final

MISBEHAVING: Final = """\
import os, time

def raises(subject, params, context):
    raise ValueError("the layer is not there")

def dies(subject, params, context):
    os.abort()

def eats(subject, params, context):
    kept = bytearray(os.urandom(1024)) * (1024 * 900)
    time.sleep(60)
    return len(kept)

"""
"""An exception, a crash of the process, and more than 900 MB of memory that are kept."""
