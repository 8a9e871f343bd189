"""Where a download may lead: public addresses, and the kind of address the site itself is at.

A site could otherwise name files on this machine, its router or the cloud's metadata service. What
counts is the address that a connection has, not the name, so a name that changes its address
between two looks gains nothing.
"""

import ipaddress
import socket
import threading
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

PUBLIC, LOOPBACK = "public", "loopback"
# IPv4 inside IPv6, as translators between the two and old systems write it.
TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))


class OutOfReachError(Exception):
    """A connection that would lead where no file of the site is."""


def place(address: str) -> str:
    """The kind of an IPv4 or IPv6 address: `public`, `loopback`, `link-local` or `private`.

    Raises ValueError for a text that is no address.
    """
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    if found.is_loopback or found.is_unspecified:  # 0.0.0.0 leads to this machine as well.
        return LOOPBACK
    if found.version == 6:
        inside = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inside is None and int(found) > 1 and any(found in net for net in TRANSLATED):
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inside is not None:
            return place(str(inside))
    if found.is_link_local:
        return "link-local"
    local = found.version == 6 and found.is_site_local
    return PUBLIC if found.is_global and not found.is_multicast and not local else "private"


def places(host: str, flags: int = 0) -> set[str]:
    """The kinds of all addresses of a name, empty when it has none."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return set()
    return {place(str(entry[4][0])) for entry in found}


class Reach:
    """What a run may connect to; one for all its threads. `host` is the site's own."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._own: str | None = None
        self._lock = threading.Lock()

    def check(self, host: str, found: set[str]) -> None:
        """Raise OutOfReachError when none of the kinds of address of `host` may be connected to.

        The site is where its own host is first met, and stays there.
        """
        with self._lock:
            if self._own is None and host == self.host and found:
                self._own = PUBLIC if PUBLIC in found else min(found)
            allowed = {PUBLIC, self._own}
        if found and not found & allowed:
            raise OutOfReachError(f"an address that is {min(found)}, where the site is not")

    def check_numeric(self, host: str) -> None:
        """The check of a host that is written as an address, which holds behind a proxy too."""
        self.check(host, places(host, socket.AI_NUMERICHOST))


def _checked(kind: Any, reach: Reach) -> Any:
    """The class of connections `kind`, checked before and after it has connected."""

    class Connection(kind):
        def _new_conn(self) -> socket.socket:
            # Before, as a port that is closed or silent would look like a failure that may pass.
            reach.check(self.host, places(self.host))
            connected: socket.socket = super()._new_conn()
            try:
                reach.check(self.host, {place(str(connected.getpeername()[0]))})
            except BaseException:
                connected.close()
                raise
            return connected

    return Connection


def mount(session: requests.Session, reach: Reach) -> None:
    """Make every direct connection of a session a checked one. Those to a proxy are not."""
    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {
        kind.scheme: type(
            kind.__name__, (kind,), {"ConnectionCls": _checked(kind.ConnectionCls, reach)}
        )
        for kind in (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool)
    }
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
