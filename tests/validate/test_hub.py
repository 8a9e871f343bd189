"""Models from the Hugging Face Hub."""

from pathlib import Path

from demo.server import serve
from demo.tiny import make_data, make_model
from tests.helpers import refused, run
from tests.validate.helpers import QUICK, TAGS, ok

import pytest


@pytest.mark.slow
def test_models_from_the_hub(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS, card={"source": "some/tagger", "revision": "v2.0"})
    repository = tmp_path / "hub" / "some" / "tagger"
    repository.mkdir(parents=True)
    for name in ("a.onnx", "a.txt"):
        (tmp_path / name).rename(repository / name)
    with serve(hub=tmp_path / "hub") as server:
        hub = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        args = ("--data", tmp_path, "--models", model, *QUICK)
        ended = run("validate.py", *args, env={**hub, "HF_HUB_OFFLINE": "1"})
        refused(ended, "some/tagger", "HF_HUB_OFFLINE")
        ok(run("validate.py", *args, env=hub))
        asked = len(server.requests)
        ok(run("validate.py", *args, env={**hub, "HF_HUB_OFFLINE": "1"}))
        assert len(server.requests) == asked
        # A file that was cut on the disk: what the error says to do mends it.
        (file,) = (path.resolve() for path in (tmp_path / "cache").rglob("a.onnx"))
        file.write_bytes(file.read_bytes()[:900])
        refused(run("validate.py", *args, "--fresh", env=hub), "a.onnx", f"delete {file} and run")
        file.unlink()
        ok(run("validate.py", *args, "--fresh", env=hub))
        model.write_text(model.read_text().replace("v2.0", "v9"))
        refused(run("validate.py", *args, env=hub), "v9")
