"""A classifier whose activation patterns are known by construction, and inputs for it.

Inputs are one-hot-like rows of 3 values, the class where the largest stands. Hidden neuron
j < 3 is x_j - 0.5: active for class j only. Neuron 3 is x_0 + x_1 + x_2: always active.
Neuron 4 is -1: dead. Neuron 5 is x_3: follows a coin that has nothing to do with the class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.models.tiny import array, relu_network

ALWAYS, DEAD, COIN = 3, 4, 5


def planted_network() -> onnx.ModelProto:
    """Four inputs, six hidden neurons, three classes."""
    weight = np.zeros((6, 4), np.float32)
    weight[:3, :3] = np.eye(3)
    weight[3, :3] = 1.0
    weight[5, 3] = 1.0
    bias = array([-0.5, -0.5, -0.5, 0.0, -1.0, 0.0])
    readout = np.zeros((3, 6), np.float32)
    readout[:, :3] = np.eye(3)
    return relu_network([(weight, bias), (readout, array([0, 0, 0]))])


def planted_samples(
    counts: Sequence[int], coins: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`counts[c]` samples of class c; of those, `coins[c]` with the coin neuron active."""
    labels = np.repeat(np.arange(3), counts)
    inputs = np.zeros((len(labels), 4), np.float32)
    inputs[np.arange(len(labels)), labels] = 1.0
    position = 0
    for count, coin in zip(counts, coins, strict=True):
        inputs[position : position + count, 3] = -1.0
        inputs[position : position + coin, 3] = 1.0
        position += count
    return inputs, labels.astype(np.int64)
