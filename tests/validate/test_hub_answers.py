"""validate.py and the answers of the real hub: redirects, storage, refusals, Xet."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from demo.hub_server import Xet
from demo.server import serve
from demo.tiny import make_data, make_model
from tests.helpers import Ended, refused, run
from tests.hostile_hub import ANSWERS, dead, hasty, hostile, plain
from tests.validate.helpers import QUICK, TAGS, ok

import onnx
import pytest

pytestmark = pytest.mark.slow
REPO = "some/tagger"
TOKEN = "hf_secret"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The stand-in hub with one tagger, its card, and a way to run validate.py on it."""
    make_data(tmp_path, 6)
    card = make_model(tmp_path, "a", TAGS, card={"source": REPO, "revision": "v2.0"})
    folder = tmp_path / "hub" / REPO
    folder.mkdir(parents=True)
    for name in ("a.onnx", "a.txt"):
        (tmp_path / name).rename(folder / name)
    with serve(hub=tmp_path / "hub", tokens={"gated/tagger": "hf_right"}) as server:
        environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        environment["HF_TOKEN"] = TOKEN

        def validate(source: str = REPO, **changed: str) -> Ended:
            text = card.read_text().replace(f'"{REPO}"', f'"{source}"')
            other = card.with_name("b.toml")
            other.write_text(text)
            args = ("--data", tmp_path, "--models", other, *QUICK)
            ended = hasty("validate.py", *args, env={**environment, **changed})
            assert TOKEN not in ended.out + ended.err
            return ended

        yield SimpleNamespace(
            folder=folder, server=server, env=environment, card=card, data=tmp_path, run=validate
        )


def asked(server: object) -> list[str]:
    return [request.path for request in server.requests]  # type: ignore[attr-defined]


def blob(hub: SimpleNamespace, name: str) -> Path:
    (link,) = (hub.data / "cache").rglob(name)
    return Path(link).resolve()


def test_small_files_and_large_ones_come_as_from_the_real_hub(hub: SimpleNamespace) -> None:
    ok(hub.run())
    assert any(path.startswith("/api/resolve-cache/models/") for path in asked(hub.server))
    large = hub.server.storage.requests
    assert [request.method for request in large] == ["GET"]
    assert "authorization" not in large[0].headers
    assert len(blob(hub, "a.onnx").name) == 64 and len(blob(hub, "a.txt").name) == 40
    count = len(hub.server.requests) + len(large)
    ok(hub.run(HF_HUB_OFFLINE="1"))
    assert len(hub.server.requests) + len(large) == count


def test_a_renamed_repository(hub: SimpleNamespace) -> None:
    hub.server.hub.renamed["old/name"] = REPO
    ok(hub.run("old/name"))


def test_refusals(hub: SimpleNamespace) -> None:
    shutil.copytree(hub.folder, hub.data / "hub" / "gated/tagger")
    refused(hub.run("no/body"), "there is no", "private repository set HF_TOKEN")
    refused(hub.run("no/body", HF_TOKEN=""), "there is no", "private repository set HF_TOKEN")
    refused(hub.run("gated/tagger"), "is gated", "HF_TOKEN")
    refused(hub.run("gated/tagger", HF_TOKEN=""), "is gated", "HF_TOKEN")
    ok(hub.run("gated/tagger", HF_TOKEN="hf_right"))


@pytest.mark.parametrize(
    "token", ["hf_sécret", "hf_one\nhf_two", "hf_\x01"], ids=["letters", "lines", "control"]
)
def test_a_token_that_is_none(hub: SimpleNamespace, token: str) -> None:
    ended = hub.run(HF_TOKEN=token)
    refused(ended, "HF_TOKEN", "copy the token anew")
    assert "hf_" not in ended.err
    assert not hub.server.requests


@pytest.mark.parametrize("how", ["silent", "refuses", "blocked"])
def test_xet_storage_that_is_dead(hub: SimpleNamespace, how: str) -> None:
    with dead(how) as url:
        hub.server.hub.xet = Xet(url)
        ended = ok(hub.run())
    assert ended.err.count("HF_HUB_DISABLE_XET=1") == 1
    assert "127.0.0.1" in ended.err and "xet_secret" not in ended.err
    assert blob(hub, "a.onnx").read_bytes() == (hub.folder / "a.onnx").read_bytes()
    assert not list((hub.data / "cache").rglob("*.incomplete"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_xet_storage_that_gives_no_token(hub: SimpleNamespace, status: int) -> None:
    hub.server.hub.xet = Xet("http://127.0.0.1:9", refusal=status)
    ended = ok(hub.run())
    assert ended.err.count("HF_HUB_DISABLE_XET=1") == 1
    assert f"HTTP {status}" in ended.err


def test_xet_storage_that_has_nothing_is_told_nothing(hub: SimpleNamespace) -> None:
    seen: list[bytes] = []

    def nothing(connection: socket.socket, request: bytes) -> None:
        seen.append(request.partition(b"\r\n")[0])
        plain(b"404 Not Found", b"Connection: close")(connection, request)

    with hostile(nothing) as url:
        hub.server.hub.xet = Xet(url)
        ended = ok(hub.run(HF_XET_TELEMETRY_ENABLED="true"))
    assert ended.err.count("HF_HUB_DISABLE_XET=1") == 1
    assert seen and all(b"/reconstructions/" in line for line in seen), seen


def test_without_xet_storage(hub: SimpleNamespace) -> None:
    hub.server.hub.xet = Xet("http://127.0.0.1:9")
    ended = ok(hub.run(HF_HUB_DISABLE_XET="1"))
    assert "XET" not in ended.err
    assert not any("xet" in path for path in asked(hub.server))


@pytest.mark.parametrize("name", ["a header in drops", "silence"])
def test_a_hub_that_stalls(hub: SimpleNamespace, name: str) -> None:
    with hostile(ANSWERS[name]) as url:
        refused(hub.run(HF_ENDPOINT=url), url, "nothing of use", "run the same command again")
        ok(hub.run())
        ok(hub.run(HF_ENDPOINT=url))  # What is cached is used.


def test_a_pointer_in_place_of_a_file(hub: SimpleNamespace) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    ok(hub.run())
    held = blob(hub, "a.onnx")
    whole = held.read_bytes()
    held.write_bytes(pointer)
    refused(hub.run(), "pointer of Git LFS", f"delete {held} and run the same command again")
    held.unlink()
    ok(hub.run())
    (hub.data / "a.onnx").write_bytes(pointer)
    (hub.data / "a.txt").write_text("\n".join(TAGS))
    local = hub.card.read_text().replace(f'"{REPO}"', '"."').replace('revision = "v2.0"\n', "")
    hub.card.write_text(local)
    args = ("--data", hub.data, "--models", hub.card, *QUICK)
    refused(run("validate.py", *args), "pointer of Git LFS", "put a whole copy of it there")
    (hub.data / "a.onnx").write_bytes(whole)
    ok(run("validate.py", *args))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ir_version", "Unsupported model IR version: 99, max supported IR version: "),
        ("opset", "Current official support for domain ai.onnx is till opset "),
    ],
)
def test_a_network_that_is_too_new(hub: SimpleNamespace, change: str, why: str) -> None:
    path = hub.folder / "a.onnx"
    network = onnx.load(path)
    if change == "opset":
        network.opset_import[0].version = 99
    else:
        network.ir_version = 99
    path.write_bytes(network.SerializeToString())
    ended = hub.run()
    refused(ended, why, "'file'")
    assert "onnxruntime_src" not in ended.err and "onnxruntime::" not in ended.err
