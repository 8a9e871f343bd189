"""download.py through its command line, against the stand-in at its best and at its worst."""

import base64
import contextlib
import datetime
import hashlib
import http.server
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arena.download import danbooru, fetch, walk
from arena.download.fetch import Original
from demo.server import FAULTS, Faults, Server, serve
from tests.helpers import PATIENCE, doomed, kills, until

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


def make_site(folder: Path, count: int = 260, *, size: int = 3000, first: int = 1001) -> list[Json]:
    """A site of `count` posts, of which some are hidden and some are no still images."""
    dice = random.Random(count)
    (folder / "files").mkdir(parents=True)
    made = []
    for number in range(first, first + count):
        data = dice.randbytes(size + number % 7 * 100)
        ext = "zip" if number % 29 == 0 else "gif" if number % 31 == 0 else "jpg"
        post = {
            "id": number,
            "created_at": "2023-10-22T00:00:00.000-04:00",
            "tag_string": "1girl >_< \\m/",
            "rating": "gsqe"[number % 4],
            "file_ext": ext,
            "file_size": len(data),
            "score": None,
        }
        if number % 23:
            post["md5"] = hashlib.md5(data).hexdigest()
            (folder / "files" / f"{post['md5']}.{ext}").write_bytes(data)
        made.append(post)
    write_posts(folder, made)
    rows = [
        {"id": n, "antecedent_name": f"a{n}", "consequent_name": "b", "status": "active"}
        for n in range(1, 1203)
    ]
    (folder / "tag_aliases.json").write_text(json.dumps(rows))
    (folder / "tag_implications.json").write_text(json.dumps(rows[:5]))
    return made


def write_posts(folder: Path, posts: list[Json]) -> None:
    (folder / "posts.json").write_text(json.dumps(posts))


def fetchable(posts: list[Json]) -> list[Json]:
    return [post for post in posts if post.get("md5") and post["file_ext"] == "jpg"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    make_site(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


TWO_HOURS_LATER = """
import time
now = time.time
time.time = lambda: now() + 7200
import download
download.run(download.main)
"""
# Without the pauses that a real site is owed; later options win.
FAST = ("--api-interval", "0", "--backoff", "0.01", "--timeout", "10")


def command(data: Path, url: str, *more: object, script: str = "") -> list[str]:
    """download.py, or Python code that runs it otherwise."""
    args = ["--data", data, "--url", url, *FAST, *more]
    return [sys.executable, *(["-c", script] if script else ["download.py"]), *map(str, args)]


def download(
    data: Path, url: str, *more: object, code: int = 0, script: str = "", **options: Any
) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("DANBOORU_")}
    done = subprocess.run(
        command(data, url, *more, script=script),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **{"env": env | options.pop("env", {})} | options,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if code == 2:
        assert [line[:7] for line in done.stderr.splitlines()].count("error: ") == 1
    return done


def held(data: Path) -> dict[int, Json]:
    """posts.jsonl by id, without the server's address; no id twice."""
    found = {}
    for line in (data / "posts.jsonl").read_text().splitlines():
        post = json.loads(line)
        assert post["id"] not in found
        found[post["id"]] = {
            key: value.split("/original/")[-1]
            if key.endswith("_url") and isinstance(value, str)
            else value
            for key, value in post.items()
        }
    return found


def originals(data: Path) -> dict[str, str]:
    """The MD5 of every file in originals/, temporary ones included."""
    return {
        path.name: hashlib.md5(path.read_bytes()).hexdigest()
        for path in (data / "originals").iterdir()
    }


def expected(posts: list[Json]) -> dict[str, str]:
    return {str(post["id"]): post["md5"] for post in fetchable(posts)}


def failed(data: Path) -> dict[int, str]:
    path = data / "failed_posts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["id"]: row["reason"] for row in rows}


def asked(server: Server, start: str) -> list[str]:
    return [request.path for request in server.requests if request.path.startswith(start)]


def site_posts(site: Path) -> list[Json]:
    found: list[Json] = json.loads((site / "posts.json").read_text())
    return found


# --- A good day ---------------------------------------------------------------------------------


def test_a_whole_site(site: Path, data: Path) -> None:
    posts = site_posts(site)
    with serve(site) as server:
        done = download(data, server.url)
        requests, connections = list(server.requests), server.connections
    assert originals(data) == expected(posts)
    found = held(data)
    assert found.keys() == {post["id"] for post in posts}
    for post in posts:
        assert post.items() <= found[post["id"]].items()
    hidden = sum("md5" not in post for post in posts)
    others = sum("md5" in post and post["file_ext"] != "jpg" for post in posts)
    counts = f"downloaded {len(expected(posts))}, already there 0, hidden {hidden}, "
    assert counts + f"not images {others}, too large 0, failed 0" in done.stdout
    assert "the site has no more posts below ID 6800000: 260 of 65536 found" in done.stdout
    assert done.stderr == ""
    assert connections <= 5  # Kept alive: one for the API, one for each worker.
    files = [request.path for request in requests if "/original/" in request.path]
    assert len(files) == len(set(files)) == len(expected(posts))
    assert {request.headers["user-agent"] for request in requests} == {danbooru.USER_AGENT}
    assert not any("authorization" in request.headers for request in requests)


def test_metadata_is_fetched_when_missing_and_refreshed_when_asked(site: Path, data: Path) -> None:
    aliases = data / "metadata" / "tag_aliases000000000000.json"
    with serve(site) as server:
        download(data, server.url, "--tags-only")
        rows = [json.loads(line) for line in aliases.read_text().splitlines()]
        assert rows == json.loads((site / "tag_aliases.json").read_text())[::-1]
        assert not (data / "posts.jsonl").exists()
        aliases.write_text("{}\n")
        download(data, server.url, "--posts", 1)
        assert aliases.read_text() == "{}\n"
        download(data, server.url, "--tags-only")
        assert len(aliases.read_text().splitlines()) == 1202


@pytest.mark.slow
def test_images_come_while_pages_are_walked(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url, "--api-interval", "0.3")
        paths = [request.path for request in server.requests]
    pages = [number for number, path in enumerate(paths) if path.startswith("/posts.json")]
    assert any("/original/" in path for path in paths[pages[0] : pages[-1]])


@pytest.mark.slow
def test_api_calls_keep_their_distance(site: Path, data: Path) -> None:
    with serve(site) as server:
        began = time.monotonic()
        download(data, server.url, "--api-interval", "0.4", "--posts", 300)
        calls = len([request for request in server.requests if ".json" in request.path])
        assert calls >= 6
        assert time.monotonic() - began >= (calls - 1) * 0.4


@pytest.mark.slow
def test_exactly_as_many_posts_as_asked_and_no_page_twice(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url, "--posts", 250)
        assert sorted(held(data)) == list(range(1011, 1261))
        server.requests.clear()
        download(data, server.url, "--posts", 250)
        assert server.requests == []
        download(data, server.url, "--posts", 260)
        assert asked(server, "/posts") == ["/posts.json?limit=200&page=b1011"]
        assert sorted(held(data)) == list(range(1001, 1261))


def test_a_higher_start_walks_only_what_is_new(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url, "--start-id", 1101, "--posts", 90)
        server.requests.clear()
        download(data, server.url, "--start-id", 1201, "--posts", 200)
        assert asked(server, "/posts") == [
            "/posts.json?limit=200&page=b1201",
            "/posts.json?limit=200&page=b1011",
        ]
        assert sorted(held(data)) == list(range(1001, 1201))


def test_lost_lines_are_walked_again(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url)
        whole = held(data)
        lines = (data / "posts.jsonl").read_bytes().splitlines(keepends=True)
        (data / "posts.jsonl").write_bytes(b"".join(lines[:-30]) + lines[-30][:50])
        done = download(data, server.url)
    assert held(data) == whole
    assert "warning" not in done.stderr


@pytest.mark.slow
def test_ratings(site: Path, data: Path) -> None:
    with serve(site) as server:
        done = download(data, server.url, "--rating", "s,g", "--posts", 100)
        assert {post["rating"] for post in held(data).values()} == {"g", "s"}
        assert len(held(data)) == 100
        assert "left out as of another rating: " in done.stdout
        server.requests.clear()
        download(data, server.url, "--rating", "g,s", "--posts", 100)
        assert server.requests == []
        download(data, server.url, "--posts", 100)
        assert len(held(data)) == 150


def test_young_posts_are_left_out_until_they_are_old_enough(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 450)
    now = datetime.datetime.now(datetime.UTC)
    for post in posts[150:]:
        post["created_at"] = (now - datetime.timedelta(days=10)).isoformat()
    posts[150]["created_at"] = (now - datetime.timedelta(days=60, hours=-1)).isoformat()
    write_posts(tmp_path / "site", posts)
    with serve(tmp_path / "site") as server:
        done = download(data, server.url, "--posts", 100)
        assert "left out as too young: 300" in done.stdout
        assert sorted(held(data)) == list(range(1051, 1151))
        server.requests.clear()
        download(data, server.url, "--posts", 100)
        assert server.requests == []
        download(data, server.url, "--posts", 101, script=TWO_HOURS_LATER)
        assert sorted(held(data)) == list(range(1051, 1152))
        assert len(asked(server, "/posts")) == 1  # Only the page with the post that came of age.
        download(data, server.url, "--posts", 100, "--min-age-days", 0)
        assert set(held(data)) >= set(range(1351, 1451))


def test_file_size_limit(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 3)
    big = tmp_path / "site" / "files" / f"{posts[1]['md5']}.jpg"
    posts[1]["file_size"] = 1_000_001
    posts[2].pop("file_size")  # Then the size announced with the file counts.
    big2 = tmp_path / "site" / "files" / f"{posts[2]['md5']}.jpg"
    big2.write_bytes(bytes(1_000_001))
    write_posts(tmp_path / "site", posts)
    with serve(tmp_path / "site") as server:
        done = download(data, server.url, "--max-file-size", 1)
        assert "downloaded 1, already there 0, hidden 0, not images 0, too large 1" in done.stdout
        assert failed(data) == {1003: "larger than --max-file-size"}
        assert not any(big.name in path for path in asked(server, "/original"))
        assert len(asked(server, "/original")) == 2


# --- --post-ids ---------------------------------------------------------------------------------


def test_exactly_the_posts_of_a_list(site: Path, data: Path, tmp_path: Path) -> None:
    wanted = [*range(1010, 1230), 77, 9_999_999]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, wanted)) + "\n")
    with serve(site) as server:
        done = download(data, server.url, "--post-ids", tmp_path / "ids.txt")
        assert sorted(held(data)) == list(range(1010, 1230))
        assert "not shown by the site: 77, 9999999" in done.stdout
        assert failed(data) == dict.fromkeys((77, 9_999_999), "not shown by the site")
        assert len(asked(server, "/posts")) == 2
        wants = [post for post in site_posts(site) if post["id"] in range(1010, 1230)]
        assert originals(data) == expected(wants)
        server.requests.clear()
        download(data, server.url, "--post-ids", tmp_path / "ids.txt")
        assert asked(server, "/") == ["/posts.json?limit=200&tags=id%3A9999999%2C77"]


@pytest.mark.parametrize("text", ["12\n-3\n", "../x\n", "", "1 2\n"])
def test_a_list_that_is_not_one(site: Path, data: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "ids.txt").write_text(text)
    with serve(site) as server:
        done = download(data, server.url, "--post-ids", tmp_path / "ids.txt", code=2)
    assert "ids.txt" in done.stderr


# --- Faults -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[int, Json], dict[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with serve(site) as server:
        download(folder, server.url)
    return held(folder), originals(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault(kind: str, site: Path, data: Path, undisturbed: object) -> None:
    faults = Faults(0.4, kinds=[kind], retry_after=0, stall=1.2, most=2)
    if kind == "stall":
        faults = Faults(0.02, kinds=[kind], stall=1.2, most=2)
    with serve(site, faults=faults) as server:
        download(data, server.url, "--timeout", 0.6)
        assert server.failed[kind] > 0
    assert (held(data), originals(data)) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_faults_at_once(seed: int, site: Path, data: Path, undisturbed: object) -> None:
    with serve(site, faults=Faults(0.4, seed, retry_after=0)) as server:
        done = download(data, server.url)
        assert sum(server.failed.values()) > 100
        assert len(server.failed) > 7
    assert (held(data), originals(data)) == undisturbed
    assert "failed 0" in done.stdout


@pytest.mark.slow
def test_killed_at_random_moments(
    site: Path, data: Path, tmp_path: Path, undisturbed: tuple[Any, dict[str, str]]
) -> None:
    dice = random.Random(0)
    report = tmp_path / "steps"

    def files() -> list[Path]:
        return list((data / "originals").glob("[!.]*"))

    with serve(site, faults=Faults(0.2, retry_after=0)) as server:
        args = ("--url", server.url, *FAST, "--workers", 2)
        for kill in range(kills(20)):
            if kill % 2:
                # Few steps are left near the end: then it may get through.
                step = dice.randint(1, 200)
                doomed("download", data, *args, step=step, report=report)
            else:
                process = subprocess.Popen(
                    command(data, server.url, "--workers", 2),
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
                goal = len(files()) + dice.randint(0, 60)
                until(lambda goal=goal, ran=process: len(files()) >= goal or ran.poll() == 0)  # type: ignore[misc]
                process.kill()
                assert b"Traceback" not in process.communicate()[1]
            for path in files():
                assert undisturbed[1][path.name] == hashlib.md5(path.read_bytes()).hexdigest()
            if len(files()) == len(undisturbed[1]):  # Take something away and go on.
                for path in files()[::2]:
                    path.unlink()
        download(data, server.url)
    assert (held(data), originals(data)) == undisturbed


def test_a_post_deleted_between_page_and_file(site: Path, data: Path) -> None:
    gone = {post["id"] for post in fetchable(site_posts(site))[10:40:10]}
    with serve(site, vanishing=gone) as server:
        done = download(data, server.url)
        assert "failed 0" in done.stdout
        before = (data / "posts.jsonl").read_bytes()
        disturbed = (held(data), originals(data))
        (data / "posts.jsonl").unlink()
        download(data, server.url)  # The site as it is now, undisturbed.
    assert not gone & {int(name) for name in disturbed[1]}
    assert len(gone) == 3
    assert (held(data), originals(data)) == disturbed
    assert len(before.splitlines()) == 260


def test_a_failed_file_is_listed_and_tried_again(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 40)
    lost = fetchable(posts)[5]
    path = tmp_path / "site" / "files" / f"{lost['md5']}.jpg"
    path.rename(tmp_path / "aside")
    with serve(tmp_path / "site") as server:
        done = download(data, server.url)
        assert "failed 1: 404, not found" in done.stdout
        assert failed(data) == {lost["id"]: "404, not found"}
        (tmp_path / "aside").rename(path)
        server.requests.clear()
        done = download(data, server.url)
        assert "downloaded 1," in done.stdout
        assert len(asked(server, "/original")) == 1
    assert not (data / "failed_posts.jsonl").exists()
    assert originals(data) == expected(posts)


def test_a_replaced_file_comes_with_its_new_record(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 40)
    files = tmp_path / "site" / "files"
    changed = fetchable(posts)[5]
    old = files / f"{changed['md5']}.jpg"
    old.unlink()
    with serve(tmp_path / "site") as server:
        download(data, server.url)
    changed["md5"] = hashlib.md5(b"new").hexdigest()
    changed["file_size"] = 3
    (files / f"{changed['md5']}.jpg").write_bytes(b"new")
    write_posts(tmp_path / "site", posts)
    old.write_bytes(b"no longer the file of the post")
    with serve(tmp_path / "site") as server:
        download(data, server.url)
    assert originals(data) == expected(posts)
    assert held(data)[changed["id"]]["md5"] == changed["md5"]
    assert len(held(data)) == 40


@pytest.mark.slow
def test_retry_after_is_honoured(site: Path, data: Path) -> None:
    faults = Faults(1, kinds=["429"], retry_after=1, most=1)
    with serve(site, faults=faults) as server:
        began = time.monotonic()
        download(data, server.url, "--posts", 1)
        # Two pages each of aliases and implications, a page of posts and a file, one by one.
        assert server.failed["429"] >= 5
        assert time.monotonic() - began >= 5


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("99999", 3600, 3600), ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0)],
)
def test_retry_after(header: str, low: float, high: float) -> None:
    assert low <= danbooru.retry_after(header) <= high
    began = time.time()
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(began + 100))
    seconds = danbooru.retry_after(later)
    assert 99 - (time.time() - began) <= seconds <= 100


@pytest.mark.slow
@given(st.text())
def test_any_retry_after_gives_seconds(header: str) -> None:
    assert 0 <= danbooru.retry_after(header) <= danbooru.MAX_RETRY_AFTER


# --- A bad day: one line each -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("challenge", "a challenge page for browsers"),
        ("html", "a challenge page for browsers"),
        ("429", "429, too many requests"),
        ("500", "500, server error"),
        ("reset", "connection failed"),
        ("cut", "connection dropped"),
        ("cut json", "an answer that is not whole JSON"),
        ("stall", "timed out"),
    ],
)
def test_a_fault_that_stays(kind: str, words: str, site: Path, data: Path) -> None:
    with serve(site, faults=Faults(1, kinds=[kind], most=999, retry_after=0)) as server:
        timeout = 0.3 if kind == "stall" else 60
        done = download(data, server.url, "--tries", 3, "--timeout", timeout, code=2)
        assert f"error: {server.url}: {words}" in done.stderr
        assert len(server.requests) == 3


def test_a_site_that_is_not_there(data: Path) -> None:
    with serve() as server:
        url = server.url
    done = download(data, url, code=2)
    assert f"error: {url}: connection failed" in done.stderr


@pytest.mark.slow
def test_files_that_all_fail_end_the_run(site: Path, data: Path) -> None:
    with serve() as elsewhere:
        nowhere = elsewhere.url
    with serve(site, file_host=nowhere) as server:
        done = download(data, server.url, code=2)
    assert "20 files in a row failed, the last with: connection failed" in done.stderr
    assert set(failed(data).values()) == {"connection failed"}
    assert originals(data) == {}
    with serve(site) as server:  # The file host has moved: the posts held are asked about again.
        download(data, server.url)
    assert originals(data) == expected(site_posts(site))


def test_a_bad_login(site: Path, data: Path) -> None:
    env = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "wrong-key"}
    with serve(site, login=("me", "right")) as server:
        done = download(data, server.url, code=2, env=env)
        assert "401, login refused: check DANBOORU_LOGIN and DANBOORU_API_KEY" in done.stderr
        assert "wrong-key" not in done.stdout + done.stderr
        assert len(server.requests) == 1
        del env["DANBOORU_API_KEY"]
        assert "DANBOORU_API_KEY" in download(data, server.url, code=2, env=env).stderr


Respond = Callable[[str, dict[str, str]], tuple[int, dict[str, str], bytes]]


@contextlib.contextmanager
def answering(respond: Respond) -> Iterator[str]:
    """A server that answers what `respond(path, headers)` returns; its base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = respond(self.path, dict(self.headers.items()))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_access_refused(data: Path) -> None:
    with answering(lambda path, headers: (403, {}, b"{}")) as url:
        done = download(data, url, code=2)
        assert "403, access refused: log in with" in done.stderr
        env = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "key"}
        assert "check what the API key" in download(data, url, code=2, env=env).stderr


def test_the_login_stays_with_the_site(site: Path, data: Path, tmp_path: Path) -> None:
    elsewhere: list[dict[str, str]] = []
    env = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "s3cret", "HOME": str(tmp_path)}
    (tmp_path / ".netrc").write_text("default login me password from-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)

    def other(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        elsewhere.append(headers)
        return 302, {"Location": server.url + path}, b""

    with answering(other) as url, serve(site, login=("me", "s3cret"), file_host=url) as server:
        done = download(data, server.url, "--posts", 30, env=env)
        assert originals(data) == expected(site_posts(site)[-30:])
        right = "Basic " + base64.b64encode(b"me:s3cret").decode()
        assert {request.headers.get("authorization") for request in server.requests} == {right}
        assert len(elsewhere) == len(originals(data))
        assert not any("Authorization" in headers for headers in elsewhere)
        assert "s3cret" not in done.stdout + done.stderr
        assert right[6:] not in done.stdout + done.stderr
        everything = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
        assert b"s3cret" not in everything

    def away(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return 302, {"Location": url + path}, b""

    elsewhere.clear()
    with answering(other) as url, answering(away) as front, serve(site) as server:
        download(data, front, "--tags-only", env=env)
        assert elsewhere
        assert not any("Authorization" in headers for headers in elsewhere)
        assert not any("authorization" in request.headers for request in server.requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file:///etc/passwd", "not an http or https URL"),
        ("ftp://127.0.0.1/x", "not an http or https URL"),
        ("http://[", "a redirect to what is no URL"),
        ("http://[::zz]/", "a redirect to what is no URL"),
        ("/again", "too many redirects"),
    ],
)
def test_redirects_that_lead_nowhere(place: str, words: str, data: Path) -> None:
    with answering(lambda path, headers: (302, {"Location": place}, b"")) as url:
        assert words in download(data, url, code=2).stderr


@pytest.mark.slow
@pytest.mark.parametrize("url", ["file:///etc", "site.example", "http://", "https://me:pw@x.y"])
def test_a_url_that_is_refused(url: str, data: Path) -> None:
    done = download(data, url, code=2)
    assert "me:pw" not in done.stderr
    assert list(data.iterdir()) == []


def test_a_host_that_is_none(data: Path) -> None:
    done = download(data, "http://é..x", "--tries", 2, "--backoff", 0, code=2)
    assert "not a valid URL" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seconds", ["0", "nan", "-1", "much"])
def test_a_timeout_that_is_none(seconds: str, data: Path) -> None:
    done = download(data, "http://127.0.0.1:9", "--timeout", seconds, code=2)
    assert "--timeout" in done.stderr


def test_a_list_that_is_missing_is_told_before_any_request(data: Path) -> None:
    done = download(data, "http://127.0.0.1:9", "--post-ids", data / "none", code=2)
    assert "there is no file" in done.stderr


def test_hostile_posts(data: Path, tmp_path: Path) -> None:
    md5 = hashlib.md5(b"x").hexdigest()
    good = {"file_ext": "jpg", "md5": md5, "file_size": 1, "rating": "g"}
    rows: list[Any] = [
        good | {"id": "../../evil", "file_url": "http://h/x"},
        good | {"id": -5, "file_url": "http://h/x"},
        good | {"id": 2**60, "file_url": "http://h/x"},
        good | {"id": True, "file_url": "http://h/x"},
        good | {"id": 1.0, "file_url": "http://h/x"},
        None,
        [],
        "text",
        good | {"id": 90, "file_url": "file:///etc/passwd"},
        good | {"id": 91, "file_url": ["http://h/x"]},
        good | {"id": 92, "file_url": "http://h/x", "md5": "../../../evil"},
        good | {"id": 93, "file_url": "http://h/x", "file_size": "12"},
        good | {"id": 94, "file_url": "http://h/x", "file_ext": "../x"},
        good | {"id": 95, "file_url": "http://[::zz]/x"},
        good | {"id": 96, "file_url": "http://\udc80/\x00"},
        good | {"id": 97, "file_url": "http://h/x", "file_ext": None, "created_at": 5},
        good | {"id": 98, "created_at": "9999-12-31T23:59:59", "rating": ["g"]},
        good | {"id": 99, "file_url": "URL/x", "note": "\ud800 ‮ \0", "created_at": "x"},
        good | {"id": 89, "tag_string": "a" * 2_000_000},
    ]

    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path == "/x":
            return 200, {}, b"x"
        if not path.startswith("/posts.json") or "b6800000" not in path:
            return 200, {}, b"[]"
        return 200, {}, json.dumps(rows).replace("URL", url).encode()

    with answering(respond) as url:
        done = download(data, url, "--min-age-days", 30, "--tries", 2)
    assert originals(data) == {"99": md5}
    assert set(held(data)) == {*range(90, 98), 99}
    assert failed(data).keys() == {90, 91, 92, 93, 95, 96}
    assert "left out as too young: 1" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


@pytest.mark.slow
def test_a_site_that_repeats_one_page_for_ever(data: Path) -> None:
    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, b'[{"id":9},{"id":8}]' if "posts" in path else b"[]"

    with answering(respond) as url:
        done = download(data, url, code=2)
    assert "an earlier page instead of the one asked for" in done.stderr
    assert set(held(data)) == {8, 9}


def test_hostile_posts_file(site: Path, data: Path) -> None:
    good = [b'{"id":%d}' % number for number in range(1200, 1260)]
    bad = [b"\xef\xbb\xbf{}", b"\xff\xfe\0", b'{"id":"7"}', b"[" * 100_000, b'{"id":1e400}']
    (data / "posts.jsonl").write_bytes(b"\r\n".join([*bad, *good, b'{"id":1, "cut']))
    with serve(site) as server:
        done = download(data, server.url)
    assert f"warning: {data / 'posts.jsonl'}: skipped {len(bad)} lines: line 1" in done.stderr
    lines = (data / "posts.jsonl").read_bytes().splitlines()
    assert lines[: len(bad)] == bad
    ids = [json.loads(line)["id"] for line in lines[len(bad) :]]
    assert sorted(ids) == list(range(1001, 1261))


def test_hostile_journal(site: Path, data: Path) -> None:
    page = {
        "below": 6800000,
        "lowest": 5,
        "kept": 0,
        "ratings": "egqs",
        "min_age_days": 60,
        "until": None,
    }
    rows: list[Any] = [{}, [], None, 3, page | {"below": "6800000"}, page | {"lowest": -1}]
    rows += [page | {"kept": 9}, page | {"until": "x"}, page | {"lowest": 6800000}, page | {"x": 1}]
    text = "\n".join([*map(json.dumps, rows), "\0", "[" * 100_000, "{"])
    (data / "walked.jsonl").write_text(text)
    with serve(site) as server:
        download(data, server.url)
    assert len(held(data)) == 260


# --- Ending early -------------------------------------------------------------------------------


def test_ctrl_c_ends_at_once(site: Path, data: Path) -> None:
    silence = 2 * PATIENCE  # Longer than this test would wait.
    faults = Faults(0.3, kinds=["stall"], stall=silence)
    with serve(site) as server:
        process = subprocess.Popen(
            command(data, server.url, "--timeout", silence),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(list(data.glob("originals/*"))) >= 5, process)
        server.faults = faults
        until(lambda: server.failed["stall"] >= 4, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == "stopped; finished work is kept, run the same command to go on\n"
    left = originals(data)
    assert len(left) >= 5
    assert left.items() <= expected(site_posts(site)).items()
    assert not list(data.rglob(".*.tmp"))


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, data: Path) -> None:
    make_site(tmp_path / "site", 30, size=100_000)

    def limit(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    with serve(tmp_path / "site") as server:
        download(data, server.url, "--tags-only")
        done = download(data, server.url, code=2, preexec_fn=limit(80_000))
        assert done.stderr.startswith("error: File too large")
        assert originals(data) == {}
        done = download(tmp_path, server.url, code=2, preexec_fn=limit(200))
        assert not list(tmp_path.glob("metadata/*"))
        (data / "posts.jsonl").unlink()
        (data / "walked.jsonl").unlink()
        download(data, server.url, code=2, preexec_fn=limit(2000))
        assert (data / "posts.jsonl").read_bytes() == b""
        download(data, server.url)
    assert len(originals(data)) == len(fetchable(site_posts(tmp_path / "site")))


def test_folders_that_cannot_be_written(site: Path, data: Path, tmp_path: Path) -> None:
    with serve(site) as server:
        (data / "originals").write_text("a file")
        assert str(data / "originals") in download(data, server.url, code=2).stderr
        missing = tmp_path / "missing"
        assert "missing is not a folder" in download(missing, server.url, code=2).stderr
        download(Path("/proc"), server.url, code=2)


def test_two_at_once(site: Path, data: Path) -> None:
    with serve(site) as server:
        first = subprocess.Popen(command(data, server.url), cwd=ROOT, stdout=subprocess.DEVNULL)
        until(lambda: server.requests, first)
        first.send_signal(signal.SIGSTOP)  # So that it cannot end too soon.
        done = download(data, server.url, code=2)
        first.send_signal(signal.SIGCONT)
        assert f"{data} is in use by download.py (process {first.pid}" in done.stderr
        assert first.wait(PATIENCE) == 0
    assert originals(data) == expected(site_posts(site))


@pytest.mark.parametrize(
    "more",
    [
        ["--start-id", "0"],
        ["--posts", "many"],
        ["--rating", "x"],
        ["--timeout", "nan"],
        ["--workers", "-1"],
        ["--max-file-size", "0"],
    ],
)
def test_options_out_of_range(data: Path, more: list[str]) -> None:
    assert more[0] in download(data, "http://127.0.0.1:1", *more, code=2).stderr


# --- Parts --------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["file_url", "md5", "file_size", "file_ext"]), ANY), ANY)
def test_any_record_is_judged(record: Json, created: Any) -> None:
    found = fetch.original(record | {"id": 1}, 100)
    assert isinstance(found, Original) or found in (*fetch.COUNTED, "failed")
    walk.Filter("gs", 60, 0.0).old_enough_at({"created_at": created})
    walk.Filter("gs", 60, 0.0).has_rating({"rating": created})


@given(st.lists(ANY | st.fixed_dictionaries({"id": ANY | st.integers(1, 9)})))
def test_rows_come_sorted_and_once(rows: list[Any]) -> None:
    ids = [row["id"] for row in danbooru.newest_first(rows)]
    assert ids == sorted(set(ids), reverse=True)
    assert all(type(number) is int and number > 0 for number in ids)
