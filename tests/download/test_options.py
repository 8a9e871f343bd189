"""Options that download.py refuses: one line, before anything is written or asked of the site."""

from pathlib import Path

from tests.download.helpers import download

import pytest


@pytest.mark.parametrize(
    "more",
    [
        ["--start-id", "0"],
        ["--start-id", "oldest"],
        ["--posts", "many"],
        ["--rating", "x"],
        ["--timeout", "nan"],
        ["--timeout", "0.01"],
        ["--post-ids", "~no-such-user/ids.txt"],
        ["--workers", "-1"],
        ["--max-file-size", "0"],
    ],
)
def test_options_out_of_range(data: Path, more: list[str]) -> None:
    ended = download(data, "http://127.0.0.1:1", *more, code=2)
    assert ended.err.startswith(f"error: argument {more[0]}: '{more[1]}' ")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", ["0", "nan", "-1", "much"])
def test_a_timeout_that_is_none(seconds: str, data: Path) -> None:
    done = download(data, "http://127.0.0.1:9", "--timeout", seconds, code=2)
    assert "--timeout" in done.err


def test_a_list_that_is_missing_is_an_error_before_any_request(data: Path) -> None:
    done = download(data, "http://127.0.0.1:9", "--post-ids", data / "none", code=2)
    assert "there is no file" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("url", ["file:///etc", "site.example", "http://", "https://me:pw@x.y"])
def test_a_url_that_is_refused(url: str, data: Path) -> None:
    done = download(data, url, code=2)
    assert "me:pw" not in done.err
    assert list(data.iterdir()) == []
