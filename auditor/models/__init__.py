"""Opening a model file: pre-flight, digest, ONNX."""
