"""Which addresses a run may connect to: public ones, and those of the site's own kind.

Otherwise a site could make a run read files of this machine, its router or the cloud's metadata
service. The address of the open connection is checked, too, as a name may lead to one address when
it is looked up and to another when it is connected to.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any

from arena.download.deadline import Deadline, ending

import requests
from requests.adapters import HTTPAdapter

PUBLIC, LOOPBACK = "public", "loopback"
MAX_CONNECT_TIMEOUTS = 4  # All addresses of a name may take as long as this many time-outs.
# IPv4 inside IPv6, as translators between the two and old systems write it.
TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))


class OutOfReachError(Exception):
    """A connection to a kind of address that the site may not send us to."""


def address_kind(text: str) -> str:
    """The kind of an IPv4 or IPv6 address: `public`, `loopback`, `link-local` or `private`.

    Raises ValueError for a text that is no address.
    """
    address: Any = ipaddress.ip_address(text.partition("%")[0])
    if address.is_loopback or address.is_unspecified:  # 0.0.0.0 leads to this machine as well.
        return LOOPBACK
    if address.version == 6:
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inside is None and int(address) > 1 and any(address in net for net in TRANSLATED):
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return address_kind(str(inside))
    if address.is_link_local:
        return "link-local"
    local = address.version == 6 and address.is_site_local
    return PUBLIC if address.is_global and not address.is_multicast and not local else "private"


def addresses(host: str, flags: int = 0) -> set[str]:
    """All addresses of a host name; empty when it has none."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return set()
    return {str(entry[4][0]) for entry in found}


def address_kinds(host: str, flags: int = 0) -> set[str]:
    """The kinds of all addresses of a host name; empty when it has none."""
    return {address_kind(address) for address in addresses(host, flags)}


class Reach:
    """What a run may connect to, shared by all its threads. `host` is the site's own."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._own: str | None = None
        self._lock = threading.Lock()

    def check(self, host: str, kinds: set[str]) -> None:
        """Raise OutOfReachError when `host` has addresses and all are of kinds not allowed.

        The site's own kind is the one that its host has at the first check.
        """
        with self._lock:
            if self._own is None and host == self.host and kinds:
                self._own = PUBLIC if PUBLIC in kinds else min(kinds)
            allowed = {PUBLIC, self._own}
        if kinds and not kinds & allowed:
            raise OutOfReachError(f"an address that is {min(kinds)}, where the site is not")

    def check_numeric(self, host: str) -> None:
        """Check a host that is written as an address. This can be done behind a proxy, too."""
        self.check(host, address_kinds(host, socket.AI_NUMERICHOST))


def _checked(kind: Any, reach: Reach) -> Any:
    """The connection class `kind`, with a check of the address before and after connecting."""

    class Connection(kind):
        timeout: float

        def _new_conn(self) -> socket.socket:
            found = addresses(self.host)
            # Before, as a port that is closed or silent would only look like a passing failure.
            reach.check(self.host, {address_kind(address) for address in found})
            # A name may have thousands of silent addresses, each of which is waited for.
            self.timeout = min(
                self.timeout, MAX_CONNECT_TIMEOUTS * self.timeout / (len(found) or 1)
            )
            connected: socket.socket = super()._new_conn()
            try:
                reach.check(self.host, {address_kind(str(connected.getpeername()[0]))})
            except BaseException:
                connected.close()
                raise
            return connected

    return Connection


class _Adapter(HTTPAdapter):
    """An adapter with connections of other classes, to a proxy as well."""

    def __init__(self, direct: Callable[[Any], Any], proxied: Callable[[Any], Any]) -> None:
        self.proxied = proxied
        super().__init__()
        _change(self.poolmanager, direct)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        known = proxy in self.proxy_manager
        manager: Any = super().proxy_manager_for(proxy, **options)
        if not known:
            _change(manager, self.proxied)
        return manager


def _change(manager: Any, connection: Callable[[Any], Any]) -> None:
    """Make all connections of urllib3's manager those that `connection` makes of their class."""
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": connection(pool.ConnectionCls)})
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def mount(session: requests.Session, reach: Reach, deadline: Deadline) -> None:
    """Make all answers of a session end at the deadline, and check every connection by `reach`,
    other than those to a proxy."""
    adapter = _Adapter(
        lambda kind: _checked(ending(kind, deadline), reach), lambda kind: ending(kind, deadline)
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
