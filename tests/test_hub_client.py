"""A hub, or a host that it names, that never comes to an end."""

import gzip
import random
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from arena import hub, hub_client
from arena.cli import UserError
from demo.server import serve
from tests.helpers import PATIENCE
from tests.hostile_hub import ANSWERS, BODIES, FILES, hostile

import huggingface_hub
import pytest
from huggingface_hub import constants

pytestmark = pytest.mark.slow

TOKEN = "hf_secret"
HASTE = 0.2  # Seconds of patience, where a test waits for its end.
REPO = "a/b"


@pytest.fixture(autouse=True)
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hub_client, "SECONDS", HASTE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield
    hub_client.patience.end = float("inf")
    huggingface_hub.close_session()


def point(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does where huggingface_hub is not imported yet."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def failure(many: bool) -> str:
    """The line that a fetch of one file, or of many, ends with."""
    with pytest.raises(UserError) as ended:
        if many:
            hub.fetch_many(REPO, "main", ["*"])
        else:
            hub.fetch(REPO, "main", "file.bin")
    line = str(ended.value)
    assert "\n" not in line and TOKEN not in line
    return line


ENDS = (
    "nothing of use",
    "does not answer like a model hub",
    "does not end",
    "was interrupted",
    "in circles",
    "not asked for",
    "fewer requests",
)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_ends(name: str, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(ANSWERS[name]) as url:
        point(monkeypatch, url)
        line = failure(many)
    assert any(end in line for end in ENDS), line
    assert url in line


@pytest.mark.parametrize("name", ["a header in drops", "notices", "silence"])
def test_every_answer_ends_behind_a_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(ANSWERS[name]) as url:
        for address in ("http://hub.invalid", "https://hub.invalid"):
            monkeypatch.setenv("HTTP_PROXY", url)
            monkeypatch.setenv("HTTPS_PROXY", url)
            huggingface_hub.close_session()
            point(monkeypatch, address)
            assert any(end in failure(many=False) for end in ENDS)


@pytest.mark.parametrize("name", BODIES)
def test_every_list_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(BODIES[name]) as url:
        point(monkeypatch, url)
        line = failure(many=True)
    assert any(end in line for end in ENDS), line


@pytest.mark.parametrize("name", FILES)
def test_every_file_ends(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(FILES[name], files_only=True) as url:
        point(monkeypatch, url)
        line = failure(many=False)
    assert any(end in line for end in (*ENDS, "is failing")), line
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


@pytest.mark.parametrize("size", [0, 1, hub_client.CHUNK, 3_000_001])
@pytest.mark.parametrize("piece", [1000, 10**6])
def test_what_a_hub_compresses_unasked(size: int, piece: int) -> None:
    data = bytes(size // 2) + random.Random(0).randbytes(size - size // 2)
    packed = gzip.compress(data)
    pieces = [packed[start : start + piece] for start in range(0, len(packed), piece)]
    unpacked = list(hub_client._gunzip(pieces))
    assert b"".join(unpacked) == data
    assert max(map(len, unpacked)) <= hub_client.CHUNK


def test_a_file_may_take_as_long_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    patience = hub_client._Patience()
    patience.begin()
    for _ in range(1000):  # A little more than the least rate, for far more than the patience.
        now += 0.1
        patience.extend(0.11 * hub_client.RATE)
        assert not patience.over()
    patience.extend(1e9)
    now += HASTE + 0.01  # However much has come, no more silence than the patience.
    assert patience.over()


def test_a_hub_that_stalls_leaves_what_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "SECONDS", PATIENCE)
    (tmp_path / "hub" / REPO).mkdir(parents=True)
    (tmp_path / "hub" / REPO / "file.bin").write_bytes(b"whole")
    with serve(hub=tmp_path / "hub") as server:
        point(monkeypatch, server.url)
        first = hub.fetch(REPO, "main", "file.bin")
        many = hub.fetch_many(REPO, "main", ["*"])
    monkeypatch.setattr(hub_client, "SECONDS", HASTE)
    for name in ("a header in drops", "notices"):
        with hostile(ANSWERS[name]) as url:
            point(monkeypatch, url)
            assert hub.fetch(REPO, "main", "file.bin") == first
            assert hub.fetch_many(REPO, "main", ["*"]) == many


def test_all_of_it_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: str(tmp_path / f"{name}.pem") for name in ("key", "certificate")}
    make = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"]
    make += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    if shutil.which(make[0]) is None:
        # .ci/run installs it, so there this test always runs.
        pytest.skip("no openssl to make a certificate with")
    make += ["-keyout", files["key"], "-out", files["certificate"]]
    subprocess.run(make, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", files["certificate"])
    monkeypatch.setattr(hub_client, "SECONDS", PATIENCE)
    huggingface_hub.close_session()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["certificate"], files["key"])
    (tmp_path / "hub" / REPO).mkdir(parents=True)
    (tmp_path / "hub" / REPO / "file.txt").write_bytes(b"whole")
    with serve(hub=tmp_path / "hub") as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        point(monkeypatch, server.url.replace("http:", "https:"))
        assert hub.fetch(REPO, "main", "file.txt").read_bytes() == b"whole"
        monkeypatch.setattr(hub_client, "SECONDS", HASTE)
        monkeypatch.setattr(server, "finish_request", lambda *_: time.sleep(2))
        huggingface_hub.close_session()
        assert "nothing of use" in failure(many=False)
