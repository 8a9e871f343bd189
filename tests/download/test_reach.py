"""Where download.py connects to, and where not. No test here sends anything off this machine."""

import ipaddress
import re
import socket
import threading
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.download import reach
from arena.download.danbooru import Client
from arena.download.reach import OutOfReachError, Reach
from arena.download.site import Site
from demo.server import serve
from tests.download.helpers import answering, download, failed, fetchable, originals, site_posts
from tests.helpers import refused

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

PUBLIC = "8.8.8.8"  # What a name stands for in these tests; nothing is sent there.
REFUSED = "an address that is {}, where the site is not"


# --- The kinds of address -----------------------------------------------------------------------

V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.200.3.4", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("::ffff:100.64.0.1", "private"),
        ("fc00::1", "private"),
        ("fec0::1", "private"),
        ("224.0.0.1", "private"),
        ("ff02::1", "private"),
        ("255.255.255.255", "private"),
        ("8.8.8.8", "public"),
        ("::ffff:8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
    ],
)
def test_kinds_of_address(address: str, kind: str) -> None:
    assert reach.address_kind(address) == kind


@given(V4)
def test_an_ipv4_address_is_public_exactly_if_global(address: ipaddress.IPv4Address) -> None:
    public = address.is_global and not address.is_multicast
    assert (reach.address_kind(str(address)) == "public") == public


@given(V4)
def test_an_address_in_another_form_is_of_the_same_kind(address: ipaddress.IPv4Address) -> None:
    number, kind = int(address), reach.address_kind(str(address))
    if number > 1:
        for inside in (f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 65535:x}"):
            assert reach.address_kind(inside) == kind
    first, rest = number >> 24, number & 0xFFFFFF
    forms = (str(number), hex(number), f"{first}.{rest}", f"0{first:o}.{rest:#x}", f"[{address}]")
    for form in (*forms, f"[::ffff:{address}]"):
        assert reach.address_kinds(form, socket.AI_NUMERICHOST) == {kind}, form


@given(V6)
def test_an_ipv6_address_that_is_not_global_is_never_public(address: Any) -> None:
    if not address.is_global or address.is_multicast:
        inside = address.ipv4_mapped or address.sixtofour or address.teredo
        assert reach.address_kind(str(address)) != "public" or inside


KINDS = st.sampled_from(["public", "loopback", "link-local", "private"])


@given(st.lists(st.tuples(st.booleans(), st.sets(KINDS, min_size=1)), min_size=1))
def test_only_public_and_the_sites_first_place_are_in_reach(looks: Any) -> None:
    guard, own = Reach("site.test"), None
    for is_site, found in looks:
        if is_site and own is None:
            own = "public" if "public" in found else min(found)
        try:
            guard.check("site.test" if is_site else "other.test", found)
            let = True
        except OutOfReachError:
            let = False
        assert let == bool(found & {"public", own})


# --- Connections --------------------------------------------------------------------------------


class Far(socket.socket):
    """A connection to this machine that seems to lead to a public address."""

    def getpeername(self) -> Any:
        return (PUBLIC, 80)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each name stands for, look by look, the last one staying; public ones lead here."""
    known: dict[str, list[str]] = {}
    whole, connect = socket.getaddrinfo, urllib3.util.connection.create_connection

    def look(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host in known and not options.get("flags"):
            answers = known[host]
            host = answers.pop(0) if len(answers) > 1 else answers[0]
        elif re.search("[g-z]", host) and host != "localhost":
            raise socket.gaierror("not known")  # Nobody is asked about any other name.
        return whole(host, port, *args, **options)

    def far(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        if known.get(address[0]) != [PUBLIC]:
            return connect(address, *args, **options)
        near = socket.create_connection(("127.0.0.1", address[1]))
        return Far(near.family, near.type, near.proto, near.detach())

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", far)
    return known


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "inner.test", "2130706433", "turns"])
def test_a_public_site_leads_nowhere_on_this_machine(
    name: str, small_site: Path, data: Path, names: dict[str, list[str]]
) -> None:
    names |= {"site.test": [PUBLIC], "inner.test": ["127.0.0.1"], "turns": [PUBLIC, "127.0.0.1"]}
    names["turns"] *= 100  # Public whenever it is looked at first, here when it is connected to.
    with serve(small_site) as inner, serve(small_site) as outer:
        assert outer.site
        port = outer.server_address[1]
        outer.site.file_host = f"http://{name}:{inner.files.server_address[1]}"
        download(data, f"http://site.test:{port}", code=2)
        wanted = {post["id"] for post in fetchable(site_posts(small_site))}
        assert failed(data) == dict.fromkeys(wanted, REFUSED.format("loopback"))
        assert inner.requests == []
        assert originals(data) == {}


def test_redirects_of_a_public_site_pass_the_same_checks(
    small_site: Path, data: Path, names: dict[str, list[str]]
) -> None:
    names |= {"site.test": [PUBLIC], "cdn.test": [PUBLIC]}
    with serve(small_site) as inner, serve(small_site) as outer:
        with answering(lambda path, _: (302, {"Location": inner.files.url + path}, b"")) as cdn:
            assert outer.site
            outer.site.file_host = cdn.replace("127.0.0.1", "cdn.test")
            ended = download(data, f"http://site.test:{outer.server_address[1]}", code=2)
        assert set(failed(data).values()) == {REFUSED.format("loopback")}, ended
        assert inner.requests == []
    with answering(
        lambda *_: (302, {"Location": "http://10.0.0.1/secret?key=s3cret"}, b"")
    ) as front:
        ended = download(data, front, "--tags-only", code=2)
    refused(ended, REFUSED.format("private"))
    assert "s3cret" not in ended.err


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("10.0.0.1", "private"),
        ("[::ffff:192.168.0.1]", "private"),
        ("100.64.0.1", "private"),
        ("0xa9fea9fe", "link-local"),
        ("[fe80::1]", "link-local"),
    ],
)
@pytest.mark.parametrize(
    "proxy", [{}, {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}]
)
def test_a_site_on_this_machine_leads_to_no_other(
    host: str, kind: str, proxy: dict[str, str], small_site: Path, data: Path
) -> None:
    """Also behind a proxy, for a host that is written as an address."""
    with serve(small_site, file_host=f"http://{host}") as server:
        download(data, server.url, code=2, env=proxy)
    assert set(failed(data).values()) == {REFUSED.format(kind)}


def test_all_addresses_of_a_name_are_tried_in_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [(2, 1, 6, "", (f"8.8.{n // 250}.{n % 250 + 1}", 80)) for n in range(4000)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: many)
    waits: list[float] = []

    def silent(address: Any, timeout: float, **options: Any) -> None:
        waits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(urllib3.util.connection, "create_connection", silent)
    client = Client(Site("http://site.test", tries=1, timeout=30), threading.Event())
    with pytest.raises(UserError, match="timed out"):
        client.posts(2000)
    (wait,) = waits
    assert wait * len(many) <= 4 * 30


@pytest.mark.parametrize("pair", [("127.0.0.1", "localhost"), ("localhost", "127.0.0.2")])
def test_a_site_on_this_machine_may_lead_about_it(
    pair: tuple[str, str], small_site: Path, data: Path
) -> None:
    def away(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return 302, {"Location": server.files.url + path}, b""

    with serve(small_site) as server, answering(away, "127.0.0.2") as other:
        assert server.site
        port = server.server_address[1]
        there = (
            other
            if pair[1] == "127.0.0.2"
            else f"http://{pair[1]}:{server.files.server_address[1]}"
        )
        server.site.file_host = there
        download(data, f"http://{pair[0]}:{port}")
    assert len(originals(data)) == len(fetchable(site_posts(small_site)))


def test_the_sites_own_name_cannot_turn_to_this_machine(
    small_site: Path, names: dict[str, list[str]]
) -> None:
    names["site.test"] = [PUBLIC]
    with serve(small_site) as server:
        url = f"http://site.test:{server.server_address[1]}"
        client = Client(Site(url, api_interval=0), threading.Event())
        assert client.posts(2000)
        names["site.test"] = ["127.0.0.1"]
        client.session.close()
        asked = len(server.requests)
        with pytest.raises(UserError, match=REFUSED.format("loopback")):
            client.posts(2000)
        assert len(server.requests) == asked
