"""What the four scripts share, and a room for each of them."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

__version__ = "2.0.0"

# ONNX Runtime reads this when it is imported, which is never before this package; left to itself,
# it makes an id of the device and sends events to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Where several processes lose each other, torch writes its stack; a line of ours says which one.
if "TORCHELASTIC_RUN_ID" in os.environ:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

_ROOT = Path(__file__).resolve().parent.parent
_script = getattr(sys.modules["__main__"], "__file__", None)
if _script and Path(_script).resolve().parent == _ROOT:
    # Where stdin, stdout or stderr is closed, the next file that is opened would take its number,
    # and what libraries print would end up in that file.
    for _number, _name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(_number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest free number: this one.
            setattr(sys, _name, os.fdopen(_number, "w" if _number else "r"))
    # A script spends its first seconds importing, when Ctrl-C must end it as it does later:
    # quietly, with 130. arena.cli.run takes over from here.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # Read by any Python 3 that a shell may find, so nothing here is newer than Python 3.8.
    _needed = ("numpy", "torch", "PIL", "requests", "tqdm", "onnxruntime", "huggingface_hub")
    _lacking = [name for name in _needed if importlib.util.find_spec(name) is None]
    if _lacking or sys.version_info < (3, 11):
        _python = ".venv/bin/python"
        _first = "" if (_ROOT / ".venv" / "runtime").exists() else "run make venv once, and "
        print(
            f"error: this Python {sys.version_info[0]}.{sys.version_info[1]} is without the"
            f" packages of requirements.txt ({', '.join(_lacking) or 'it is too old'}):"
            f" {_first}start it as {_python} {Path(_script).name}",
            file=sys.stderr,
        )
        sys.exit(2)
