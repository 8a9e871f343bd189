"""The stand-in, asked by requests and by the hub's own client."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.hub_server import Hub, Xet
from demo.server import Faults, Server, serve
from tests.helpers import PATIENCE

import pytest
import requests

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMED = {"User-Agent": "test"}
RECORDED = json.loads((ROOT / "tests" / "real" / "danbooru" / "errors.json").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "files").mkdir()
    posts: list[dict[str, Any]] = [
        {"id": number, "tag_string": "even" if number % 2 == 0 else "odd", "file_ext": "jpg"}
        for number in range(1, 451)
    ]
    for post in posts[:440]:
        data = f"file {post['id']}".encode() * 50
        post |= {"md5": hashlib.md5(data).hexdigest(), "file_size": len(data)}
        (folder / "files" / f"{post['md5']}.jpg").write_bytes(data)
    rows = [{"id": number, "status": "active"} for number in range(1, 1301)]
    for name, content in (("posts", posts), ("tag_aliases", rows), ("tag_implications", rows)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    (folder / "org" / "name" / "variables").mkdir(parents=True)
    (folder / "org" / "name" / "tags.csv").write_text("name\n")
    (folder / "org" / "name" / "variables" / "data").write_bytes(bytes(range(256)) * 1000)
    (folder / "org" / "gated").mkdir()
    (folder / "org" / "gated" / "file").write_text("secret")
    (folder / "org" / "gated" / ".revisions").write_text("main\n")
    return folder


@pytest.fixture
def server(site: Path, hub: Path) -> Iterator[Server]:
    with serve(site, hub, tokens={"org/gated": "right"}, login=("me", "key")) as running:
        yield running


def ids(server: Server, query: str, name: str = "posts") -> list[int]:
    answer = requests.get(f"{server.url}/{name}.json?{query}", headers=NAMED, timeout=PATIENCE)
    assert answer.status_code == 200
    return [row["id"] for row in answer.json()]


def test_pages(server: Server) -> None:
    assert ids(server, "limit=999&page=b1000") == list(range(450, 250, -1))
    assert ids(server, "limit=200&page=b51") == list(range(50, 0, -1))
    assert ids(server, "limit=3&page=a10") == [13, 12, 11]
    assert ids(server, "page=2&limit=5") == [445, 444, 443, 442, 441]
    assert ids(server, "page=b1") == []
    assert ids(server, "limit=3&tags=even") == [450, 448, 446]
    assert ids(server, "tags=id:5,9999,7") == [7, 5]
    assert ids(server, "limit=9999&page=b5000", "tag_aliases") == list(range(1300, 300, -1))
    assert ids(server, "limit=9&page=b3", "tag_implications") == [2, 1]


def test_files_and_hidden_posts(server: Server) -> None:
    rows = requests.get(
        f"{server.url}/posts.json?tags=id:440,441", headers=NAMED, timeout=PATIENCE
    ).json()
    hidden, shown = rows
    assert "file_url" not in hidden
    assert shown["file_url"].startswith(f"{server.files.url}/original/")
    data = requests.get(shown["file_url"], headers=NAMED, timeout=PATIENCE)
    assert data.headers["Content-Length"] == str(shown["file_size"])
    assert hashlib.md5(data.content).hexdigest() == shown["md5"]
    part = requests.get(shown["file_url"], headers=NAMED | {"Range": "bytes=5-9"}, timeout=PATIENCE)
    assert (part.status_code, part.content) == (206, data.content[5:10])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/posts.json", {}, 403),
        ("/posts.json", NAMED | {"Authorization": "Basic bm8="}, 401),
        ("/posts.json", NAMED | {"Authorization": "Basic bWU6a2V5"}, 200),
        ("/posts.json?page=bx", NAMED, 400),
        ("/posts.json?page=1000", NAMED, 200),
        ("/posts.json?page=1001", NAMED, 410),
        ("/posts.json?page=b1001", NAMED, 200),
        ("/posts.json?tags=even+odd+id:1,2", NAMED, 200),
        ("/posts.json?tags=even+odd+x", NAMED, 422),
        ("/nothing.json", NAMED, 404),
        ("/original/ab/cd/../../posts.json", NAMED, 404),
        ("/org/name/resolve/main/%2e%2e/gated/file", NAMED, 404),
        ("/api/agent-harnesses", NAMED, 404),
        ("/api/models/no/body/revision/main", NAMED, 401),
        ("/no/body/resolve/main/file", NAMED, 401),
        ("/org/gated/resolve/main/file", NAMED, 401),
        ("/org/gated/resolve/main/file", NAMED | {"Authorization": "Bearer wrong"}, 403),
        ("/org/gated/resolve/main/file", NAMED | {"Authorization": "Bearer right"}, 200),
        ("/org/name/resolve/v9/tags.csv", NAMED, 404),
        ("/api/models/org/name/xet-read-token/main", NAMED, 404),
    ],
)
def test_refusals(server: Server, path: str, headers: dict[str, str], status: int) -> None:
    assert requests.get(server.url + path, headers=headers, timeout=PATIENCE).status_code == status


def test_the_site_answers_compressed_and_in_chunks(server: Server) -> None:
    for path in ("/posts.json?limit=200", "/none.json", "/posts.json?page=1001"):
        answer = requests.get(server.url + path, headers=NAMED, timeout=PATIENCE, stream=True)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert "Content-Length" not in answer.headers
        assert answer.json()


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: str(record["status"]))
def test_errors_are_the_recorded_ones(record: dict[str, Any], site: Path) -> None:
    path = record["url"].removeprefix("https://danbooru.donmai.us")
    faults = Faults(1, kinds=["500"]) if record["status"] == 500 else None
    with serve(site, faults=faults) as server:
        answer = requests.get(server.url + path, headers=NAMED, timeout=PATIENCE)
    assert answer.status_code == record["status"]
    assert answer.headers["Content-Type"] == record["content_type"]
    body = answer.json()
    assert body.pop("backtrace")
    assert body == record["body"]


@pytest.mark.parametrize(
    ("kind", "status", "mitigated"),
    [("challenge", 403, "challenge"), ("challenge 503", 503, "challenge"), ("503", 503, None)],
)
def test_pages_for_browsers(kind: str, status: int, mitigated: str | None, site: Path) -> None:
    with serve(site, faults=Faults(1, kinds=[kind])) as server:
        url = f"{server.url}/posts.json"
        answer = requests.get(url, headers=NAMED, timeout=PATIENCE)
    assert (answer.status_code, answer.headers.get("cf-mitigated")) == (status, mitigated)
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_file_host_has_files_only(server: Server) -> None:
    assert (
        requests.get(f"{server.files.url}/posts.json", headers=NAMED, timeout=PATIENCE).status_code
        == 404
    )
    row = requests.get(
        f"{server.url}/posts.json?tags=id:440", headers=NAMED, timeout=PATIENCE
    ).json()[0]
    path = row["file_url"].removeprefix(server.files.url)
    assert requests.get(server.url + path, headers=NAMED, timeout=PATIENCE).status_code == 404
    assert requests.get(row["file_url"], timeout=PATIENCE).status_code == 403


def test_latency_counts_for_each_request_and_each_connection(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    with serve(site, latency=0.05) as server, requests.Session() as session:
        monkeypatch.setattr(time, "sleep", slept.append)
        for _ in range(4):
            session.get(f"{server.url}/posts.json?limit=1", headers=NAMED, timeout=PATIENCE)
        monkeypatch.undo()
        assert slept == [0.05] * 5
        assert server.connections == 1
        assert len(server.requests) == 4


def test_faults_repeat_themselves_and_end() -> None:
    faults = Faults(0.9, seed=3, most=4)
    picked = [faults.pick("/x", n, ("500", "cut")) for n in range(50)]
    assert picked == [faults.pick("/x", n, ("500", "cut")) for n in range(50)]
    assert any(picked[:4])
    assert not any(picked[4:])
    assert faults.pick("/x", 0, ()) is None


HUB_CLIENT = """
import sys, huggingface_hub as hub
from huggingface_hub import errors
folder = hub.snapshot_download("org/name", revision="v2.0")
assert open(folder + "/variables/data", "rb").read() == bytes(range(256)) * 1000
assert open(hub.hf_hub_download("org/name", "tags.csv")).read() == "name\\n"
assert [s.rfilename for s in hub.model_info("org/name").siblings] == ["tags.csv", "variables/data"]
def fails(error, *args, **more):
    try:
        hub.hf_hub_download(*args, **more)
    except errors.HfHubHTTPError as raised:
        assert type(raised) is error, raised
        return
    raise AssertionError(error)
fails(errors.RepositoryNotFoundError, "org/none", "x")
fails(errors.RevisionNotFoundError, "org/name", "tags.csv", revision="v9")
fails(errors.RemoteEntryNotFoundError, "org/name", "none")
fails(errors.GatedRepoError, "org/gated", "file", token=False)
fails(errors.GatedRepoError, "org/gated", "file", token="wrong")
fails(errors.RevisionNotFoundError, "org/gated", "file", revision="v2.0", token="right")
assert open(hub.hf_hub_download("org/gated", "file", token="right")).read() == "secret"
print("all is well")
"""


def test_the_hubs_own_client(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUB_CLIENT],
        env={"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "all is well\n", done.stderr


def test_command_line(site: Path, hub: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "demo.server", "--site", str(site), "--hub", str(hub)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        try:
            assert (
                requests.get(f"{url}/posts.json", headers=NAMED, timeout=PATIENCE).status_code
                == 200
            )
            assert requests.get(f"{url}/api/models/org/name", timeout=PATIENCE).json()["sha"]
        finally:
            process.terminate()


def test_a_site_that_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo.server", "--site", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "posts.json is missing" in done.stderr


def test_the_hubs_redirects(server: Server, hub: Path) -> None:
    def ask(path: str) -> requests.Response:
        where = server.url + path
        return requests.head(where, headers=NAMED, timeout=PATIENCE, allow_redirects=False)

    assert isinstance(server.hub, Hub) and server.storage
    (hub / "org" / "name" / "weights.onnx").write_bytes(b"large")
    small = ask("/org/name/resolve/main/tags.csv")
    assert small.status_code == 307
    assert small.headers["Location"].startswith("/api/resolve-cache/models/org/name/")
    kept = ask(small.headers["Location"])
    assert (kept.status_code, kept.headers["Content-Length"]) == (200, "5")
    for answer in (small, kept):
        assert len(answer.headers["X-Repo-Commit"]) == 40 and len(answer.headers["ETag"]) == 42
    large = ask("/org/name/resolve/main/weights.onnx")
    assert (large.status_code, large.headers["X-Linked-Size"]) == (302, "5")
    assert large.headers["X-Linked-ETag"] == f'"{hashlib.sha256(b"large").hexdigest()}"'
    assert "X-Xet-Hash" not in large.headers and "Link" not in large.headers
    where = large.headers["Location"]
    assert where.startswith(server.storage.url) and server.storage.url != server.url
    assert requests.get(where, timeout=PATIENCE).content == b"large"
    token = {"Authorization": "Bearer right"}
    assert requests.get(where, headers=token, timeout=PATIENCE).status_code == 400
    server.hub.renamed["old/name"] = "org/name"
    for path in ("/api/models/{}/revision/main", "/{}/resolve/main/tags.csv"):
        moved = ask(path.format("old/name"))
        assert (moved.status_code, moved.headers["Location"]) == (307, path.format("org/name"))
    server.hub.xet = Xet("http://127.0.0.1:9")
    large = ask("/org/name/resolve/main/weights.onnx")
    assert len(large.headers["X-Xet-Hash"]) == 64
    token_at = large.links["xet-auth"]["url"]
    given = requests.get(token_at, timeout=PATIENCE).headers
    assert given["X-Xet-Cas-Url"] == "http://127.0.0.1:9"
    assert {"X-Xet-Access-Token", "X-Xet-Token-Expiration"} <= given.keys()
