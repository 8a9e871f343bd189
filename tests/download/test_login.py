"""The user's login: refused, kept from other hosts, and never sent unencrypted over a network."""

import base64
from pathlib import Path

from arena.download.site import login_from_environment
from demo.server import serve
from tests.download.helpers import answering, download, expected, originals, site_posts
from tests.helpers import refused

import pytest

LOGIN = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "s3cret"}


def test_a_bad_login(site: Path, data: Path) -> None:
    env = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "wrong-key"}
    with serve(site, login=("me", "right")) as server:
        done = download(data, server.url, code=2, env=env)
        assert "401, login refused: check DANBOORU_LOGIN and DANBOORU_API_KEY" in done.err
        assert "wrong-key" not in done.out + done.err
        assert len(server.requests) == 1
        del env["DANBOORU_API_KEY"]
        assert "DANBOORU_API_KEY" in download(data, server.url, code=2, env=env).err


def test_access_refused(data: Path) -> None:
    with answering(lambda path, headers: (403, {}, b"{}")) as url:
        done = download(data, url, code=2)
        assert "403, access refused: log in with" in done.err
        env = {"DANBOORU_LOGIN": "me", "DANBOORU_API_KEY": "key"}
        assert "check what the API key" in download(data, url, code=2, env=env).err


def test_the_login_stays_with_the_site(site: Path, data: Path, tmp_path: Path) -> None:
    elsewhere: list[dict[str, str]] = []
    env = LOGIN | {"HOME": str(tmp_path)}
    (tmp_path / ".netrc").write_text("default login me password from-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)

    def other(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        elsewhere.append(headers)
        there = server.files.url if path.startswith("/original") else server.url
        return 302, {"Location": there + path}, b""

    with answering(other) as url, serve(site, login=("me", "s3cret"), file_host=url) as server:
        done = download(data, server.url, "--posts", 30, env=env)
        assert originals(data) == expected(site_posts(site)[-30:])
        right = "Basic " + base64.b64encode(b"me:s3cret").decode()
        for request in server.requests:
            given = None if request.path.startswith("/original") else right
            assert request.headers.get("authorization") == given
        assert len(elsewhere) == len(originals(data))
        assert not any("Authorization" in headers for headers in elsewhere)
        assert "s3cret" not in done.out + done.err
        assert right[6:] not in done.out + done.err
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
@pytest.mark.parametrize("host", ["10.0.0.1", "8.8.8.8", "[fe80::1]", "169.254.1.1"])
def test_the_login_is_not_sent_unencrypted(host: str, data: Path) -> None:
    ended = download(data, f"http://{host}:9", code=2, env=LOGIN)
    refused(ended, f"http://{host}:9", "unencrypted", "https", "unset DANBOORU_LOGIN")
    assert "s3cret" not in ended.err
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_login_may_stay_on_this_machine(host: str, small_site: Path, data: Path) -> None:
    with serve(small_site, login=("me", "s3cret")) as server:
        url = f"http://{host}:{server.server_address[1]}"
        download(data, url, "--tags-only", env=LOGIN)
        assert "authorization" in server.requests[0].headers


def test_a_login_over_https_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    assert login_from_environment("https://site.test") == ("me", "s3cret")
