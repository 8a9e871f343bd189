"""What the site and its file host say when they refuse or fail, and what the user is told of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arena.download import danbooru
from demo.server import Faults, serve
from tests.download.helpers import Json, Respond, answering, download, failed, originals
from tests.helpers import ROOT, refused

import pytest

pytestmark = pytest.mark.slow

ERRORS = json.loads((ROOT / "tests" / "real" / "danbooru" / "errors.json").read_text())
PAGE = b"<!DOCTYPE html><html><title>No</title></html>"
HTML = {"Content-Type": "text/html; charset=UTF-8"}
JSON = {"Content-Type": "application/json; charset=utf-8"}


def always(status: int, headers: dict[str, str], body: bytes = PAGE) -> Respond:
    return lambda path, _: (status, headers, body)


def no_posts_but(row: Json) -> Respond:
    """A site of one post and no aliases, which has no files."""

    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        rows = [row] if path.startswith("/posts.json") and "b6800000" in path else []
        return 200, JSON, json.dumps(rows).encode()

    return respond


@pytest.mark.parametrize("record", ERRORS, ids=lambda record: str(record["status"]))
def test_the_sites_own_words_are_shown(record: dict[str, Any], data: Path) -> None:
    body = json.dumps(record["body"]).encode()
    with answering(always(record["status"], JSON, body)) as url:
        ended = download(data, url, "--tries", 2, code=2)
    refused(ended, str(record["status"]), f'("{record["body"]["message"]}")')


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"message": 5}', b'{"message": ""}', b"[" * 99_999, b" " * 99_999 + b"{}"],
)
def test_an_error_without_words(body: bytes, data: Path) -> None:
    with answering(always(500, JSON, body)) as url:
        refused(download(data, url, "--tries", 1, code=2), "500, server error; run the same")


def test_hostile_words_are_short_and_safe_for_a_terminal(data: Path) -> None:
    words = "\x1b[2J\r\nerror: \u202e " + "x" * 5000
    body = json.dumps({"success": False, "message": words}).encode()
    with answering(always(422, JSON, body)) as url:
        ended = download(data, url, code=2)
    refused(ended, r'("\x1b[2J error: \u202e xxx', "…")
    assert len(ended.err) < 400
    assert ended.err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (503, HTML, "503, down for maintenance; run the same command later"),
        (503, HTML | {"cf-mitigated": "challenge"}, "a challenge page for browsers"),
        (403, HTML | {"cf-mitigated": "challenge"}, "a challenge page for browsers"),
        (403, HTML, "403, access refused: try fewer --workers, another --user-agent"),
        (200, HTML, "a web page instead of data: check --url"),
        (410, JSON, "410, not found"),
    ],
)
def test_pages_for_browsers(status: int, headers: dict[str, str], words: str, data: Path) -> None:
    with answering(always(status, headers)) as url:
        refused(download(data, url, "--tries", 2, code=2), words)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (HTML, "403, access refused: "),
        (HTML | {"cf-mitigated": "challenge"}, "a challenge page for browsers instead of data: "),
    ],
)
def test_a_file_host_that_refuses_gets_no_login(
    headers: dict[str, str], words: str, small_site: Path, data: Path
) -> None:
    env = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "s3cret"}
    with (
        answering(always(403, headers)) as files,
        serve(small_site, file_host=files, login=("me", "s3cret")) as server,
    ):
        ended = download(data, server.url, "--tries", 1, code=2, env=env)
    remedy = "try fewer --workers, another --user-agent, or another address of yours"
    assert set(failed(data).values()) == {words + remedy}
    refused(ended, words + remedy)
    assert "LOGIN" not in ended.err


def test_cookies_are_not_sent_back(data: Path) -> None:
    sent: list[dict[str, str]] = []

    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        sent.append(headers)
        return 200, JSON | {"Set-Cookie": "id=1; Max-Age=99999", "Set-Cookie2": "x=1"}, b"[]"

    with answering(respond) as url:
        download(data, url)
    assert len(sent) == 3
    assert not any("Cookie" in headers for headers in sent)


@pytest.mark.slow
def test_a_pause_that_the_site_asks_for_is_told_once(small_site: Path, data: Path) -> None:
    faults = Faults(1, kinds=["429"], retry_after=1, most=1)
    with serve(small_site, faults=faults) as server:
        ended = download(data, server.url, "--workers", 4)
        assert server.failed["429"] > 10
    told = [line for line in ended.err.splitlines() if "Retry-After" in line]
    assert told == ["warning: the site asks for a pause of 1 s (Retry-After); the run goes on then"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_json_has_not(number: str, data: Path) -> None:
    with answering(always(200, JSON, b'[{"id": 5, "score": %s}]' % number.encode())) as url:
        refused(download(data, url, "--tries", 1, code=2), "an answer that is not whole JSON")
    (data / "posts.jsonl").write_text(f'{{"id": 5, "score": {number}}}\n{{"id": 6}}\n')
    with answering(always(200, JSON, b"[]")) as url:
        ended = download(data, url)
    assert "skipped 1 line: line 1 is not JSON" in ended.err


def test_a_compression_that_was_not_asked_for(data: Path) -> None:
    with answering(always(200, JSON | {"Content-Encoding": "br"}, b"[]")) as url:
        refused(download(data, url, "--tries", 1, code=2), "compression that was not asked for")


# --- The user's name ----------------------------------------------------------------------------


def agents(data: Path, *more: object, env: dict[str, str] | None = None) -> set[str]:
    """The User-Agents that a run sends."""
    seen: set[str] = set()

    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        seen.add(headers["User-Agent"])
        return 200, JSON, b"[]"

    with answering(respond) as url:
        download(data, url, *more, env=env)
    return seen


def test_the_user_agent_names_program_and_user(data: Path) -> None:
    login = {"DANBOORU_LOGIN": "Löb (x)", "DANBOORU_API_KEY": "s3cret"}
    own = "validation-arena/2.0.0 (compares anime image taggers{})"
    again = ("--tags-only",)
    assert agents(data) == {own.format("")}
    assert agents(data, *again, env=login) == {own.format("; user L%C3%B6b%20%28x%29")}
    env = login | {"DANBOORU_USER_AGENT": "mine/1.0 (é)"}
    assert agents(data, *again, env=env) == {"mine/1.0 (é)"}
    assert agents(data, *again, "--user-agent", "ours/2", env=env) == {"ours/2"}


@pytest.mark.parametrize("text", ["a\nb: c", "a\x1b", "名", "a\udcff", "a\x7f"])
def test_a_user_agent_that_no_header_can_hold(text: str, data: Path) -> None:
    for more, env in ((["--user-agent", text], {}), ([], {"DANBOORU_USER_AGENT": text})):
        refused(
            download(data, "http://127.0.0.1:9", *more, code=2, env=env),
            "argument --user-agent: ",
            "DANBOORU_USER_AGENT",
        )


# --- Files --------------------------------------------------------------------------------------


@pytest.fixture
def one_file() -> Iterator[tuple[str, Json]]:
    """A site with a file /x, and the post that needs only a file_url for it."""
    post: Json = {"id": 7, "file_ext": "jpg", "file_size": 1}
    post["md5"] = "9dd4e461268c8034f5c8564e155c67a6"

    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path == "/x":
            return 200, {"Content-Type": "image/jpeg"}, b"x"
        return no_posts_but(post)(path, headers)

    with answering(respond) as url:
        yield url, post


@pytest.mark.parametrize("form", ["/x", "x", "//{}/x", "http://{}/x"])
def test_a_file_url_without_scheme_or_host_is_the_sites(
    form: str, one_file: tuple[str, Json], data: Path
) -> None:
    url, post = one_file
    post["file_url"] = form.format(url.removeprefix("http://"))
    download(data, url)
    assert originals(data) == {"7": post["md5"]}


@pytest.mark.parametrize("size", [3000, None])
def test_a_folder_in_the_way_costs_one_post(size: int | None, small_site: Path, data: Path) -> None:
    (data / "originals" / "1005" / "inside").mkdir(parents=True)
    with serve(small_site) as server:
        if size is None:
            assert server.site
            for post in server.site.posts:
                del post["file_size"]
        ended = download(data, server.url)
        assert "failed 1: originals/ has a folder of that name: move it away" in ended.out
        assert failed(data).keys() == {1005}
        (data / "originals" / "1005" / "inside").rmdir()
        (data / "originals" / "1005").rmdir()
        download(data, server.url)
    assert (data / "originals" / "1005").is_file()


@pytest.mark.parametrize("size", ["9" * 5000, "1e3", "²", "-1", "1001"])
def test_a_size_that_is_none(size: str, small_site: Path, data: Path) -> None:
    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Length": size}, b"x" * 1000

    with answering(respond) as files, serve(small_site, file_host=files) as server:
        assert server.site
        for post in server.site.posts:
            del post["file_size"]
        download(data, server.url, "--tries", 1, code=2)
    reasons = {"MD5 is not the post's", "connection dropped", "larger than --max-file-size"}
    assert set(failed(data).values()) <= reasons


def test_exit_2_where_not_one_file_could_be_had(small_site: Path, data: Path) -> None:
    with serve(small_site) as server, answering(always(404, HTML)) as files:
        assert server.site
        server.site.file_host = files
        ended = download(data, server.url, code=2)
        refused(ended, "not one of", "404, not found")
        server.site.file_host = None
        download(data, server.url, "--posts", 3)
        server.site.file_host = files
        download(data, server.url)  # Some are there.


def test_a_page_too_large_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(danbooru, "MAX_JSON_BYTES", 1000)
    with answering(always(200, JSON, b"[" + b" " * 1000 + b"]")) as url:
        refused(download(data, url, "--tries", 1, code=2), "more than 1000 bytes")
