"""All hostile files that a scan is tried on, one after the other."""

from __future__ import annotations

from tests.models.hostile_files import (
    containers,
    folders,
    frameworks,
    onnx_data_files,
    onnx_files,
    pickles,
    polyglots,
    streams,
    templates,
    texts,
    torch_archives,
    weights,
)
from tests.models.hostile_files.case import HostileCase

CASES: tuple[HostileCase, ...] = (
    *pickles.CASES,
    *polyglots.CASES,
    *torch_archives.CASES,
    *frameworks.CASES,
    *onnx_files.CASES,
    *onnx_data_files.CASES,
    *weights.CASES,
    *containers.CASES,
    *streams.CASES,
    *folders.CASES,
    *templates.CASES,
    *texts.CASES,
)
