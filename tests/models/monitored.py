"""Networks and inputs of which it is known by construction what a monitor has to say."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from auditor.models.onnx_model import OnnxModel
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import PatternSet
from tests.models.tiny import array, relu_network

# Hidden neurons are the inputs a, b; scores are (a+, 2 a+ - 3), so class 1 is a > 3 whatever
# b is. Samples of class 0 have b < 0 and those of class 1 have b > 0.
MINED_INPUTS = array([[1, -1], [2, -1], [4, 1], [5, 1]])
MINED_LABELS = np.array([0, 0, 1, 1])
# One input each: like class 0; like class 1; read as 1 with the states of 0; read as 0 with
# the states of 1; with states of neither, which reads as 0.
PROBED_INPUTS = array([[1, -2], [4, 2], [4, -1], [1, 1], [-1, -1]])
PROBED_LABELS = [0, 0, 1, 1, 2]
PROBED_DISTANCES = [[0, 1], [1, 0], [0, 1], [1, 0], [1, 2]]


def magnitude_network(*, last: str = "") -> onnx.ModelProto:
    """The network described above; `last` names an operator put behind the scores."""
    readout = array([[1, 0], [2, 0]])
    return relu_network([(array(np.eye(2)), array([0, 0])), (readout, array([0, -3]))], last=last)


def magnitude_patterns(model: OnnxModel) -> PatternSet:
    """Class 0: a active, b inactive. Class 1: both active."""
    return mine_patterns(model, MINED_INPUTS, MINED_LABELS, [1, 0.9])


def as_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 model's weights, inputs and outputs as float16."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in half.graph.initializer:
        values: NDArray[np.float16] = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return half
