"""TLS that trickles, in the handshake's records and below HTTP, from a site and through a proxy."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from arena.cli import UserError
from arena.download import site as site_module
from arena.download.danbooru import Client
from arena.download.site import Site
from tests.download.hostile import CHUNKED, HANDSHAKES, TRICKLES
from tests.helpers import PATIENCE

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate"),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with key and certificate of 127.0.0.1."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    out = ("-keyout", file, "-out", file.with_suffix(".crt"))
    make = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    subprocess.run([*make, *name, *out], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + file.with_suffix(".crt").read_bytes())
    return file


@pytest.fixture
def posts(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Asks a URL for posts, once; the answer may be silent for long, but take half a second."""
    monkeypatch.setattr(site_module, "MAX_ANSWER_TIMEOUTS", 0.5 / PATIENCE)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    def ask(url: str) -> object:
        site = Site(url, api_interval=0, tries=1, timeout=PATIENCE)
        return Client(site, threading.Event()).posts(100)

    return ask


@contextlib.contextmanager
def serving(
    certificate: Path, talk: Callable[[ssl.SSLSocket, threading.Event], None]
) -> Iterator[str]:
    """A TLS server that talks so with each client; its host and port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), context.wrap_socket(client, True) as wrapped:
                    talk(wrapped, ended)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("trick", ["a header a byte at a time", "trailers", "1xx answers"])
def test_http_over_tls(trick: str, certificate: Path, posts: Callable[[str], object]) -> None:
    def talk(client: ssl.SSLSocket, ended: threading.Event) -> None:
        client.recv(65536)
        for piece in TRICKLES[trick]():
            client.sendall(piece)
            if ended.wait(0.02):
                return

    with serving(certificate, talk) as address, pytest.raises(UserError, match="timed out"):
        posts(f"https://{address}")


def test_a_record_of_tls(certificate: Path, posts: Callable[[str], object]) -> None:
    """A whole answer lies in one record, of which a byte comes at a time."""

    def talk(client: ssl.SSLSocket, ended: threading.Event) -> None:
        client.recv(65536)
        plain = socket.socket(fileno=client.detach())
        with plain:
            for byte in b"\x17\x03\x03\x3f\xff" + CHUNKED * 100:
                plain.sendall(bytes([byte]))
                if ended.wait(0.02):
                    return

    with serving(certificate, talk) as address, pytest.raises(UserError, match="timed out"):
        posts(f"https://{address}")


# requests itself does not verify a proxy for addresses in plain http.
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_tls_and_plain_http_through_a_tls_proxy(
    certificate: Path, posts: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def site(client: ssl.SSLSocket, ended: threading.Event) -> None:
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def proxy(client: ssl.SSLSocket, ended: threading.Event) -> None:
        asked = client.recv(65536)
        if not asked.startswith(b"CONNECT "):
            return client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", int(there.split(":")[1]))) as inner:
            back = threading.Thread(target=pump, args=(inner, client), daemon=True)
            back.start()
            pump(client, inner)
        return back.join()

    with serving(certificate, site) as there, serving(certificate, proxy) as address:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"https://{address}")
        monkeypatch.setenv("no_proxy", "")
        assert posts(f"https://{there}") == []
        assert posts("http://127.0.0.1:9") == []


@pytest.mark.parametrize("trick", HANDSHAKES)
def test_a_handshake_through_a_tls_proxy(
    trick: str,
    certificate: Path,
    posts: Callable[[str], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def talk(client: ssl.SSLSocket, ended: threading.Event) -> None:
        asked.append(client.recv(65536))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        client.recv(65536)
        for piece in HANDSHAKES[trick]():
            client.sendall(piece)
            if ended.wait(0.02):
                return

    with serving(certificate, talk) as address:
        monkeypatch.setenv("https_proxy", f"https://{address}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(UserError, match=r"timed out|no secure connection|connection failed"):
            posts("https://8.8.8.8")
    assert asked[0].startswith(b"CONNECT 8.8.8.8:443 ")
