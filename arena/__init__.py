"""What the four scripts share, and the parts of validate.py."""

import os
import signal
import sys
from pathlib import Path

__version__ = "2.0.0"

# ONNX Runtime reads this when it is imported, which is never before this package; left to itself,
# it makes an id of the device and sends events to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A script spends its first seconds importing, when Ctrl-C must end it as it does later: quietly,
# with 130. arena.cli.run takes over from here.
_script = getattr(sys.modules["__main__"], "__file__", None)
if _script and Path(_script).resolve().parent == Path(__file__).resolve().parent.parent:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
