"""What the four scripts share, and the parts of validate.py."""

import os
import signal
import sys
from pathlib import Path

# A script spends its first seconds importing, when Ctrl-C must end it as it does later: quietly,
# with 130. arena.cli.run takes over from here.
_script = getattr(sys.modules["__main__"], "__file__", None)
if _script and Path(_script).resolve().parent == Path(__file__).resolve().parent.parent:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
