"""The nodes of a monitor, added to a model's graph.

States of all layers stand side by side and meet the patterns in one product: with weight
+1 on neurons fixed as inactive, -1 on those fixed as active, and the number of the latter
added, the product is the number of contradicted neurons, exact in float32 (and in TF32).
The operators are those of opset 9, so old models need no conversion.

What is not finite is found by a product with zeros, which is 0 for numbers and NaN else;
added to the distances it makes every comparison with a threshold false. (Joining the layers
before the comparison instead of after it was measured: faster for one input, slower for 64.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from auditor.activations.capture import Granularity
from auditor.errors import UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.monitor import Monitor

LABEL_OUTPUT: Final = "monitor_label"
DISTANCE_OUTPUT: Final = "monitor_distance"
PREFIX: Final = "auditor_monitor/"
_ABOVE: Final = 2.0**30  # any threshold: there are at most 2^24 neurons

Array = NDArray[Any]


class MonitorNodes:
    """Adds a monitor's nodes and constants to a graph."""

    def __init__(self, graph: onnx.GraphProto, model: OnnxModel, monitor: Monitor) -> None:
        self._graph, self._model, self._monitor = graph, model, monitor

    def add(self, tensors: Sequence[str], seen: Mapping[str, Array]) -> None:
        """Add the whole monitor.

        Args:
            tensors: What goes into the watched activation functions, layer by layer.
            seen: These and the model's outputs for one sample: their types and shapes.

        Raises:
            UnsupportedModel: Scores or values have no axis of samples, or other sizes than
                the patterns say.
        """
        classes = self._monitor.patterns.num_classes
        scores = self._scores(seen)
        states, sound = [], [self._soundness_of_scores(scores)]
        for number, tensor in enumerate(tensors):
            state, finite = self._watch(number, tensor, seen[tensor])
            states.append(state)
            sound.append(finite)
        distance = self._distance(states)
        limits = (self._monitor.thresholds + 0.5).astype(np.float32)
        checked = self._node("Sum", [distance, *sound], "checked")
        follows = self._node("Less", [checked, self._constant("limits", limits)], "follows")
        best = self._node("ArgMax", [scores], "predicted", axis=1, keepdims=1)
        numbers = self._constant("classes", np.arange(classes, dtype=np.int64)[None])
        own = self._node("Equal", [best, numbers], "own")
        self._label(follows, own, classes)
        self._output(DISTANCE_OUTPUT, "Cast", [distance], [classes], to=TensorProto.INT64)

    def _scores(self, seen: Mapping[str, Array]) -> str:
        """The first output as float [batch, classes]."""
        spec = self._model.outputs[0]
        value = seen[spec.name]
        if value.ndim == 0 or value.shape[0] != 1:
            raise UnsupportedModel(
                f"scores of shape {list(value.shape)} for one sample",
                way_out="use a classifier that puts out one row of scores for each sample",
            )
        flat = self._flat(spec.name, value.ndim, "scores")
        if value.dtype != np.float16:  # no runtime need pick the largest of these
            return flat
        return self._node("Cast", [flat], "scores/float", to=TensorProto.FLOAT)

    def _soundness_of_scores(self, scores: str) -> str:
        """[batch, 1]: above any limit where a score is NaN, else 0; infinity is a score."""
        wrong = self._node("IsNaN", [scores], "scores/is_nan")
        parts = [self._constant(f"scores/{v}", np.array(v, np.float32)) for v in (_ABOVE, 0)]
        marked = self._node("Where", [wrong, *parts], "scores/marked")
        ones = np.ones((self._monitor.patterns.num_classes, 1), np.float32)
        return self._node("MatMul", [marked, self._constant("scores/ones", ones)], "scores/sound")

    def _watch(self, number: int, tensor: str, value: Array) -> tuple[str, str]:
        """A layer's states, bool [batch, neurons], and whether it is finite, [batch, 1]."""
        layer, place = self._monitor.patterns.layers[number], f"layer{number}"
        by_channel = self._monitor.patterns.granularity is Granularity.CHANNEL and value.ndim > 2
        neurons = value.shape[1] if by_channel else value[:1].size
        if value.ndim == 0 or value.shape[0] != 1 or neurons != layer.neurons:
            raise UnsupportedModel(
                f"values of shape {list(value.shape)} for one sample; the patterns speak of "
                f"{layer.neurons} neurons",
                place=f"layer '{layer.name}'",
                way_out="mine layers that treat samples one by one",
            )
        thresholds: Array = np.zeros(1) if layer.thresholds is None else layer.thresholds
        limits = round_down(thresholds, value.dtype)
        if value.dtype == np.float16:
            tensor = self._node("Cast", [tensor], f"{place}/float", to=TensorProto.FLOAT)
            limits = above_half(limits)
        flat = self._flat(tensor, value.ndim, place)
        zeros = self._constant(f"{place}/zeros", np.zeros((value.size, 1), limits.dtype))
        finite = self._node("MatMul", [flat, zeros], f"{place}/sound")
        if limits.dtype != np.float32:
            finite = self._node("Cast", [finite], f"{place}/sound/float", to=TensorProto.FLOAT)
        limit = self._constant(f"{place}/threshold", limits)
        if not by_channel:
            return self._node("Greater", [flat, limit], f"{place}/active"), finite
        return self._channels(tensor, limit, place), finite

    def _channels(self, tensor: str, limit: str, place: str) -> str:
        """Whether any unit of a channel is above its threshold, bool [batch, channels]."""
        axes = self._constant(f"{place}/axes", np.array([0, 0, -1], np.int64))
        units = self._node("Reshape", [tensor, axes], f"{place}/units")
        # The largest unit: windows do not depend on the opset as reductions do.
        pooled = self._node("GlobalMaxPool", [units], f"{place}/largest")
        return self._node(
            "Greater", [self._node("Flatten", [pooled], f"{place}/channels", axis=1), limit],
            f"{place}/active",
        )  # fmt: skip

    def _distance(self, states: Sequence[str]) -> str:
        """Contradicted neurons, float [batch, classes]."""
        patterns = self._monitor.patterns
        active, inactive = (part[0].astype(np.float32) for part in patterns.states)
        bias = active.sum(axis=1, dtype=np.float64)
        bias[patterns.totals == 0] = self._monitor.far
        joined = states[0]
        if len(states) > 1:
            joined = self._node("Concat", states, "states", axis=1)
        numbers = self._node("Cast", [joined], "states/float", to=TensorProto.FLOAT)
        weight = self._constant("patterns", np.ascontiguousarray((inactive - active).T))
        return self._node(
            "Gemm", [numbers, weight, self._constant("active", bias.astype(np.float32))], "distance"
        )

    def _label(self, follows: str, own: str, classes: int) -> None:
        """0, 1 or 2 as the largest of three lines over s = sum of followed classes' weights.

        The model's class weighs classes + 1 and others 1, so s is 0 where nothing is
        followed, below classes + 0.5 where only others are, and above it else. The lines
        2 s - (classes + 1), s - 0.5 and 0 meet at those two points, and nothing hits them.
        """
        weights = [
            self._constant(f"weight/{name}", np.array(value, np.float32))
            for name, value in {"own": classes + 1, "other": 1, "none": 0}.items()
        ]
        weight = self._node("Where", [own, *weights[:2]], "weight")
        counted = self._node("Where", [follows, weight, weights[2]], "followed")
        slopes = np.tile(np.array([2, 1, 0], np.float32), (classes, 1))
        starts = np.array([-(classes + 1), -0.5, 0], np.float32)
        lines = self._node(
            "Gemm",
            [counted, self._constant("slopes", slopes), self._constant("starts", starts)],
            "lines",
        )
        self._output(LABEL_OUTPUT, "ArgMax", [lines], [], axis=1, keepdims=0)

    def _flat(self, tensor: str, axes: int, place: str) -> str:
        return tensor if axes == 2 else self._node("Flatten", [tensor], f"{place}/flat", axis=1)

    def _constant(self, name: str, value: Array) -> str:
        full = f"{PREFIX}{name}"
        self._graph.initializer.append(numpy_helper.from_array(value, full))
        return full

    def _node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        full = f"{PREFIX}{name}"
        self._graph.node.append(helper.make_node(operator, inputs, [full], full, **attributes))
        return full

    def _output(
        self,
        name: str,
        operator: str,
        inputs: Sequence[str],
        axes: Sequence[int],
        **attributes: Any,
    ) -> None:
        self._graph.node.append(
            helper.make_node(operator, inputs, [name], f"{PREFIX}{name}", **attributes)
        )
        value = helper.make_tensor_value_info(name, TensorProto.INT64, [None, *axes])
        kind = self._graph.output[0].type.tensor_type
        if kind.HasField("shape") and kind.shape.dim:
            value.type.tensor_type.shape.dim[0].CopyFrom(kind.shape.dim[0])
        self._graph.output.append(value)


def round_down(values: Array, dtype: np.dtype[Any]) -> Array:
    """The largest numbers of a type that are not above the given ones.

    For every number v of the type, v > value exactly where v > round_down(value).
    """
    found: Array = values.astype(dtype)
    above = found.astype(np.float64) > values
    found[above] = np.nextafter(found[above], np.array(-np.inf, dtype))
    return found


def above_half(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """Midway between each float16 number and the next, in float32.

    On processors onnxruntime computes float16 in float32 and does not always round in
    between. A number is above this exactly where, rounded to float16, it is above the value.
    """
    following = np.nextafter(values, np.float16(np.inf)).astype(np.float32)
    found: NDArray[np.float32] = (values.astype(np.float32) + following) / np.float32(2)
    return found
