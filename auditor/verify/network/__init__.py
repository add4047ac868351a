"""Networks as chains or graphs of linear maps and ReLUs, read exactly from ONNX models."""

from auditor.verify.network.chain import AffineLayer, Network, ReluLayer
from auditor.verify.network.from_onnx import network_from_onnx, read_network
from auditor.verify.network.graph import GraphLayer, GraphNetwork, Term

__all__ = [
    "AffineLayer",
    "GraphLayer",
    "GraphNetwork",
    "Network",
    "ReluLayer",
    "Term",
    "network_from_onnx",
    "read_network",
]
