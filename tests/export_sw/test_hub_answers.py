"""export_sw.py and the answers of the real hub; files that are not whole."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from demo.answer import Answer
from demo.hub_server import Xet
from tests.export_sw.running import NAME, REPO
from tests.helpers import Ended, refused
from tests.hostile_hub import BODIES, dead, hasty, hostile

import pytest

pytestmark = pytest.mark.slow
TOKEN = "hf_secret"


def export(hub: SimpleNamespace, data: Path, *args: object, **changed: str) -> Ended:
    environment = {**hub.environment, "HF_TOKEN": TOKEN, **changed}
    ended = hasty("export_sw.py", "--data", data, *args, env=environment)
    assert TOKEN not in ended.out + ended.err
    return ended


def fetched(hub: SimpleNamespace) -> list[str]:
    """The files that were sent, from the hub and from its storage."""
    requests = [*hub.server.requests, *hub.server.storage.requests]
    sent = [request.path.partition("?")[0] for request in requests if request.method == "GET"]
    return [path.rpartition("/")[2] for path in sent if "/revision/" not in path]


def cached(hub: SimpleNamespace, name: str) -> Path:
    (link,) = Path(hub.environment["HF_HOME"]).rglob(name)
    return link.resolve()


@pytest.mark.parametrize("how", ["silent", "refuses", "blocked", "no token"])
def test_xet_storage_that_does_not_work(hub: SimpleNamespace, data: Path, how: str) -> None:
    with dead(how) as url:
        hub.server.hub.xet = Xet(url, refusal=403 if how == "no token" else 0)
        ended = export(hub, data)
    assert ended.code == 0, ended.err
    assert ended.err.count("HF_HUB_DISABLE_XET=1") == 1
    assert (data / f"{NAME}.onnx").is_file()
    assert not list(Path(hub.environment["HF_HOME"]).rglob("*.incomplete"))


def test_a_renamed_repository(hub: SimpleNamespace, data: Path) -> None:
    hub.server.hub.renamed["Old/tagger"] = REPO
    ended = export(hub, data, "--repo", "Old/tagger")
    assert ended.code == 0, ended.err
    assert (data / "tagger.onnx").is_file()
    assert all("authorization" not in one.headers for one in hub.server.storage.requests)


@pytest.mark.parametrize("name", ["a body in drops", "a bomb"])
def test_a_hub_without_end(hub: SimpleNamespace, data: Path, name: str) -> None:
    with hostile(BODIES[name]) as url:
        refused(export(hub, data, HF_ENDPOINT=url), url, "HF_ENDPOINT")


def test_a_rerun_fetches_what_is_missing(hub: SimpleNamespace, data: Path) -> None:
    storage = hub.server.storage
    answer = storage.hub.answer

    def failing(path: str, token: str | None) -> Any:
        large = "variables.data" in path
        return Answer(503, "text/plain", b"") if large else answer(path, token)

    storage.hub.answer = failing
    refused(export(hub, data), "is failing (HTTP 503)")
    kept = cached(hub, "saved_model.pb")
    storage.hub.answer = answer
    hub.server.requests.clear()
    storage.requests.clear()
    ended = export(hub, data)
    assert ended.code == 0, ended.err
    assert "saved_model.pb" not in fetched(hub) and kept == cached(hub, "saved_model.pb")
    assert sum(name.startswith("variables.data") for name in fetched(hub)) >= 1


def test_files_that_are_not_whole(hub: SimpleNamespace, data: Path) -> None:
    assert export(hub, data).code == 0
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    held = cached(hub, "variables.data-00000-of-00001")
    for damage, why in ((held.read_bytes()[:500], "is cut short"), (pointer, "pointer of Git LFS")):
        held.write_bytes(damage)
        remedy = f"delete {held} and run the same command again"
        refused(export(hub, data), why, remedy)
        held.unlink()
        ended = export(hub, data)
        assert ended.code == 0, ended.err
