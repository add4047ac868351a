"""Networks as chains of affine maps and ReLUs, read exactly from ONNX graphs."""

from auditor.verify.network.chain import AffineLayer, Network, ReluLayer
from auditor.verify.network.from_onnx import network_from_onnx

__all__ = ["AffineLayer", "Network", "ReluLayer", "network_from_onnx"]
