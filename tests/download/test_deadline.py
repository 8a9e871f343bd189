"""Every request ends, whatever a server sends without sending data. Only the deadline may end one:
silence would be waited for far longer than any test here takes."""

import threading
from collections.abc import Callable
from pathlib import Path

from arena.cli import UserError
from arena.download import site as site_module
from arena.download.danbooru import Client
from arena.download.errors import TransientError
from arena.download.site import Site
from tests.download.helpers import answering
from tests.download.hostile import FLOODS, HANDSHAKES, TRICKLES, hostile
from tests.helpers import PATIENCE, until

import pytest

pytestmark = pytest.mark.slow

SILENCE = 10 * PATIENCE
ANSWER = 0.6  # Seconds that a whole answer may take here.


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Client]:
    """A client that tries once, whose answers may take ANSWER seconds, but be silent for longer."""
    monkeypatch.setattr(site_module, "MAX_ANSWER_TIMEOUTS", ANSWER / SILENCE)

    def make(url: str) -> Client:
        return Client(Site(url, api_interval=0, tries=1, timeout=SILENCE), threading.Event())

    return make


@pytest.mark.slow
@pytest.mark.parametrize("trick", TRICKLES)
def test_what_trickles_ends(trick: str, client: Callable[[str], Client]) -> None:
    with hostile(TRICKLES[trick]) as server:
        with pytest.raises(UserError, match=r"timed out|500, server error"):
            client(f"http://{server.address}").posts(100)
        assert server.sent > 3
        until(lambda: server.left)  # The connection is closed, too.


@pytest.mark.slow
@pytest.mark.parametrize("trick", FLOODS)
def test_what_floods_ends(trick: str, client: Callable[[str], Client]) -> None:
    with hostile(FLOODS[trick], slow=False) as server:
        with pytest.raises(UserError, match=r"timed out|not HTTP|dropped|failed|more than"):
            client(f"http://{server.address}").posts(100)
        until(lambda: server.left)


@pytest.mark.parametrize("trick", HANDSHAKES)
def test_a_handshake_that_trickles_ends(trick: str, client: Callable[[str], Client]) -> None:
    with hostile(HANDSHAKES[trick]) as server:
        with pytest.raises(UserError, match=r"timed out|no secure connection"):
            client(f"https://{server.address}").posts(100)
        until(lambda: server.left)


@pytest.mark.parametrize("trick", ["a header a byte at a time", "a body of spaces", "trailers"])
def test_a_file_ends(trick: str, client: Callable[[str], Client], tmp_path: Path) -> None:
    with hostile(TRICKLES[trick]) as server:
        asking = client(f"http://{server.address}")
        with pytest.raises(TransientError, match="timed out"):
            asking.save("/x", tmp_path / "x", size=None, md5="0" * 32, max_bytes=10**9)
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_that_trickles_ends(
    client: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    with hostile(TRICKLES["a header a byte at a time"]) as server:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{server.address}")
        monkeypatch.setenv("no_proxy", "")
        for scheme in ("http", "https"):
            with pytest.raises(UserError, match=r"timed out|connection failed"):
                client(f"{scheme}://8.8.8.8").posts(100)
        until(lambda: server.left == 2)


def test_all_redirects_have_one_deadline(client: Callable[[str], Client]) -> None:
    """Each is quick enough by itself."""
    slow = threading.Event()

    def away(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        slow.wait(ANSWER / 3)
        return 302, {"Location": "/again"}, b""

    with answering(away) as url, pytest.raises(UserError, match="timed out"):
        client(url).posts(100)
