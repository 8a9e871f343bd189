"""export_sw.py's room: from a SavedModel to an ONNX file."""
