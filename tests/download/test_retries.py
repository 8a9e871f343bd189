"""download.py on a bad day: failures that pass leave no trace, those that stay are one line."""

import time
from pathlib import Path

from arena.download import answer
from demo.server import FAULTS, Faults, serve
from tests.download.helpers import download, originals, saved_posts

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault(kind: str, site: Path, data: Path, undisturbed: object) -> None:
    faults = Faults(0.4, kinds=[kind], retry_after=0, stall=1.2, most=2)
    if kind == "stall":
        faults = Faults(0.02, kinds=[kind], stall=1.2, most=2)
    with serve(site, faults=faults) as server:
        download(data, server.url, "--timeout", 0.6)
        assert server.failed[kind] > 0
    assert (saved_posts(data), originals(data)) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_faults_at_once(seed: int, site: Path, data: Path, undisturbed: object) -> None:
    with serve(site, faults=Faults(0.4, seed, retry_after=0)) as server:
        done = download(data, server.url)
        assert sum(server.failed.values()) > 100
        assert len(server.failed) > 7
    assert (saved_posts(data), originals(data)) == undisturbed
    assert "failed 0" in done.out


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
    assert low <= answer.retry_after(header) <= high
    began = time.time()
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(began + 100))
    seconds = answer.retry_after(later)
    assert 99 - (time.time() - began) <= seconds <= 100


@pytest.mark.slow
@given(st.text())
def test_any_retry_after_gives_seconds(header: str) -> None:
    assert 0 <= answer.retry_after(header) <= answer.MAX_RETRY_AFTER_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("challenge", "a challenge page for browsers"),
        ("challenge 503", "a challenge page for browsers"),
        ("html", "a web page instead of data: check --url"),
        ("503", "503, down for maintenance"),
        ("429", "429, too many requests"),
        ("500", '500, server error ("The database timed out running your query.")'),
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
        assert f"error: {server.url}: {words}" in done.err
        assert len(server.requests) == 3


def test_a_site_that_is_not_there(data: Path) -> None:
    with serve() as server:
        url = server.url
    done = download(data, url, code=2)
    assert f"error: {url}: connection failed" in done.err
