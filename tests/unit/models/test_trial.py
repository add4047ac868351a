"""First loads in a child process: success, rejection, crash and limits."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from auditor.models import trial, trial_child
from auditor.models.onnx_model import OnnxModel
from auditor.models.trial import TrialOutcome, TrialStatus, trial_load
from tests.models.onnx_networks import dense_network, make_model

STAGES = ("checker and shape inference", "onnxruntime, not optimised", "onnxruntime, optimised")


def test_a_sound_model_passes_every_stage() -> None:
    outcome = trial_load(OnnxModel.from_proto(dense_network([3, 4, 2])))
    assert outcome == TrialOutcome(TrialStatus.LOADED, stages=STAGES)


def test_shapes_that_cannot_be_are_rejected_by_shape_inference() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"w": np.zeros((3, 2), np.float32)})
    outcome = trial_load(OnnxModel.from_proto(proto))
    assert (outcome.status, outcome.stage) == (TrialStatus.REJECTED, STAGES[0])
    assert outcome.problem


def test_a_trial_that_takes_too_long_is_stopped() -> None:
    outcome = trial_load(OnnxModel.from_proto(dense_network([3, 2])), seconds=0.01)
    assert outcome.status in (TrialStatus.OUT_OF_TIME, TrialStatus.NOT_RUN)


@pytest.mark.skipif(os.name == "nt", reason="address space is not limited on Windows")
def test_the_childs_memory_is_limited() -> None:
    code = (
        "from auditor.models.trial_child import limit_resources\n"
        "limit_resources(2 * 2**30, 60)\n"
        "bytearray(4 * 2**30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stderr.splitlines()[-1] == b"MemoryError"


def test_a_graph_that_unfolds_to_gigabytes_ends_in_an_outcome() -> None:
    # 200 bytes of model; constant folding would make 10 GB of it.
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    tensors = {"s": np.array([50_000, 50_000], np.int64)}
    proto = make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, tensors)
    outcome = trial_load(OnnxModel.from_proto(proto), memory_mb=2048)
    assert outcome.stages[:2] == STAGES[:2]


@pytest.mark.skipif(os.name == "nt", reason="signals end processes on POSIX only")
def test_a_crash_is_told_with_its_signal_and_stage() -> None:
    output = b'{"stage": "checker and shape inference"}\n'
    ending = trial._ending(-signal.SIGSEGV)
    assert trial._read_outcome(output, *ending) == TrialOutcome(
        TrialStatus.CRASHED, STAGES[0], "the child process ended with SIGSEGV"
    )


def test_noise_on_standard_output_is_no_stage() -> None:
    output = b'warning\n[1]\n{"stage": "done"}\n'
    assert trial._read_outcome(output, TrialStatus.LOADED, "") == TrialOutcome(TrialStatus.LOADED)


def test_a_child_that_ends_early_without_a_word_is_not_a_pass() -> None:
    assert trial._read_outcome(b"", TrialStatus.LOADED, "").status is TrialStatus.NOT_RUN


def test_the_child_announces_every_stage_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    # The limits would stay with this process, so they alone are left out.
    monkeypatch.setattr(trial_child, "limit_resources", lambda memory, seconds: None)
    output = io.StringIO()
    content = dense_network([3, 2]).SerializeToString()
    assert trial_child.main(["0", "1"], content, output) == 0
    stages = [json.loads(line)["stage"] for line in output.getvalue().splitlines()]
    assert stages == [*STAGES, "done"]


def test_the_folder_of_the_call_is_not_searched_for_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("from pathlib import Path\nPath('marker').touch()\n")
    monkeypatch.chdir(tmp_path)
    trial_load(OnnxModel.from_proto(dense_network([3, 2])))
    assert not (tmp_path / "marker").exists()
