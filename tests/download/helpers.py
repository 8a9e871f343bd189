"""What the tests of download.py share: sites for the stand-in, ways to run, and what is on disk."""

import contextlib
import hashlib
import http.server
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from demo.server import Server
from tests.helpers import Ended, call, refused, run

from hypothesis import strategies as st

Json = dict[str, Any]
Respond = Callable[[str, dict[str, str]], tuple[int, dict[str, str], bytes]]

# Without the pauses that a real site is owed; later options win.
FAST = ("--api-interval", "0", "--backoff", "0.01", "--timeout", "10")
# What the environment of whoever runs the tests has for a real site.
NO_LOGIN = dict.fromkeys(("DANBOORU_URL", "DANBOORU_LOGIN", "DANBOORU_API_KEY"), "")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


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


def arguments(data: Path, url: str, *more: object) -> list[object]:
    return ["--data", data, "--url", url, *FAST, *more]


def download(
    data: Path,
    url: str,
    *more: object,
    code: int = 0,
    before: str = "",
    env: dict[str, str] | None = None,
) -> Ended:
    """Run download.py and check its exit code; with `before`, Python code, after that code."""
    args, env = arguments(data, url, *more), NO_LOGIN | (env or {})
    if before:
        script = f"{before}\nimport download\ndownload.run(download.main)"
        ended = run("-c", script, *args, env=env)
    else:
        ended = call("download.py", *args, env=env)
    assert ended.code == code, ended
    assert "Traceback" not in ended.err
    if code == 2:
        refused(ended)
    return ended


def saved_posts(data: Path) -> dict[int, Json]:
    """posts.jsonl by id, without the server's address; no id twice."""
    found = {}
    for line in (data / "posts.jsonl").read_text().splitlines():
        post = json.loads(line)
        assert post["id"] not in found
        found[post["id"]] = {
            key: re.sub(r"^http://127\.0\.0\.1:\d+", "", value)
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


@contextlib.contextmanager
def answering(respond: Respond, host: str = "127.0.0.1") -> Iterator[str]:
    """A server that answers what `respond(path, headers)` returns; its base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = respond(self.path, dict(self.headers.items()))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://{host}:{server.server_address[1]}"
        server.shutdown()
