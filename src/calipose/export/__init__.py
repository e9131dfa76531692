"""One ONNX file, decoding inside."""
