"""Every performance figure the README quotes, one command each: `python -m bench.NAME`."""

import arena  # noqa: F401 (turns ONNX Runtime's telemetry off before a benchmark imports it)
