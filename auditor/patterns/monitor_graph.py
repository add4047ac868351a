"""A monitor behind a model, in a new file that any onnxruntime runs; see `monitor_nodes`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import onnx
from numpy.typing import NDArray

from auditor.activations.capture import CaptureOptions
from auditor.activations.layers import activation_layers, choose_layers
from auditor.activations.onnx_capture import exposed_graph
from auditor.errors import UnsupportedModel
from auditor.files import refuse_existing, write_atomically
from auditor.models.onnx_model import OnnxModel
from auditor.models.probes import probe_inputs
from auditor.patterns.evaluate import capture_for
from auditor.patterns.monitor import Monitor, join_labels
from auditor.patterns.monitor_nodes import DISTANCE_OUTPUT, LABEL_OUTPUT, PREFIX, MonitorNodes

METADATA_KEY: Final = "auditor.monitor"
MIN_OPSET: Final = 9
_MAX_BYTES: Final = 2**31 - 1  # what protobuf can write
_REPLAYED: Final = 8

Array = NDArray[Any]


def write_monitored(monitor: Monitor, model: OnnxModel, path: Path) -> OnnxModel:
    """Write a model with its monitor as a new file.

    Args:
        monitor: From patterns of this model.
        model: The model; neither it nor its file is changed.
        path: A file that does not exist yet.

    Returns:
        The monitored model as it stands in the file.

    Raises:
        OutputNotWritable: There is a file already, or the place cannot be written.
        PatternMismatch, UnsupportedModel: As for `append_monitor`.
    """
    refuse_existing(path, "a monitored model")
    monitored = append_monitor(monitor, model)
    write_atomically(path, monitored.proto.SerializeToString(deterministic=True))
    return replace(monitored, path=path)


def append_monitor(monitor: Monitor, model: OnnxModel) -> OnnxModel:
    """A copy of a model that also puts out what the monitor says.

    New outputs: `monitor_label`, int64 [batch], see `InputLabel`, and `monitor_distance`,
    int64 [batch, classes], see `MonitorLabels`. All else is as before, a batch axis that is
    fixed at 1 too. The metadata entry `auditor.monitor` says in JSON which model and which
    patterns. Before it is returned, the copy is run on probes and has to agree with
    `Monitor.label`.

    Raises:
        PatternMismatch: The monitor is another model's.
        UnsupportedModel: Opset below 9, a monitor already there, a layer whose values have no
            axis of samples, a model of more than 2 GiB, or a copy that does not agree.
    """
    monitor.patterns.require_model(model.digest, "the monitor")
    _refuse_unfit(model)
    layers = choose_layers(
        activation_layers(model.proto.graph), [layer.name for layer in monitor.patterns.layers]
    )
    tensors = [layer.before for layer in layers]
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    MonitorNodes(proto.graph, model, monitor).add(tensors, _run_once(model, tensors))
    proto.ir_version = max(proto.ir_version, 4)  # before, constants had to be inputs too
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, _metadata(monitor)
    if proto.ByteSize() > _MAX_BYTES:
        raise UnsupportedModel(f"{proto.ByteSize()} bytes with the monitor; one file holds 2 GiB")
    monitored = OnnxModel.from_proto(proto, model.path)
    _replay(monitor, model, monitored)
    return monitored


def _refuse_unfit(model: OnnxModel) -> None:
    if model.opset < MIN_OPSET:
        raise UnsupportedModel(
            f"opset {model.opset}; the monitor's operators need {MIN_OPSET}",
            way_out="export the model for a newer opset",
        )
    graph = model.proto.graph
    taken = {name for node in graph.node for name in node.output}
    taken |= {value.name for value in (*graph.input, *graph.output)}
    if {LABEL_OUTPUT, DISTANCE_OUTPUT} & taken or any(name.startswith(PREFIX) for name in taken):
        raise UnsupportedModel(
            f"it has a monitor, or tensors called like one's ('{LABEL_OUTPUT}')",
            way_out="use the model without monitor",
        )


def _run_once(model: OnnxModel, tensors: Sequence[str]) -> dict[str, Array]:
    """What the tensors hold for one sample: their types and shapes."""
    exposed = replace(model, proto=exposed_graph(model.proto, tensors, free_batch=False))
    return exposed.session().run(probe_inputs(model.inputs, random_probes=0)[0])


def _metadata(monitor: Monitor) -> str:
    patterns = monitor.patterns
    return json.dumps(
        {
            "version": 1,
            "model": patterns.model_digest,
            "delta": str(monitor.delta),
            "thresholds": monitor.thresholds.tolist(),
            "quantile": None if monitor.quantile is None else str(monitor.quantile),
            "heldout": None if monitor.heldout is None else monitor.heldout.tolist(),
            "members": patterns.members,
            "granularity": patterns.granularity,
            "layers": [layer.name for layer in patterns.layers],
            "labels": ["explained", "contradicted", "unexplained"],
        },
        sort_keys=True,
    )


def _replay(monitor: Monitor, model: OnnxModel, monitored: OnnxModel) -> None:
    """Run the copy on probes, each alone, and compare with the monitor."""
    capture = capture_for(monitor.patterns, model, CaptureOptions(batch_size=1))
    session = monitored.session()
    for probe in probe_inputs(model.inputs, random_probes=_REPLAYED):
        expected = join_labels(monitor.label(capture.batches(probe)))
        found = session.run(probe)
        same = found[LABEL_OUTPUT].tolist() == expected.labels.tolist()
        if not same or found[DISTANCE_OUTPUT].tolist() != expected.distances.tolist():
            raise UnsupportedModel(
                "the monitored copy and the monitor differ on a probe",
                place=str(model.path),
                way_out="mine layers that treat samples one by one",
            )
