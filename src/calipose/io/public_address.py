"""Connections to addresses of the public internet only, for services that load what strangers name."""

from __future__ import annotations

import http.client
import ipaddress
import socket
from typing import Any
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from calipose.errors import ImageError

NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address
SHARED_V6 = (ipaddress.ip_network("fec0::/10"), ipaddress.ip_network("64:ff9b:1::/48"))  # site-local, local NAT64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PrivateAddressError(ImageError):
    """A host's address is private, loopback, link-local or otherwise not of the public internet."""


def is_public(address: str) -> bool:
    """Whether an address lies in the public internet, whatever IPv6 form an IPv4 address is wrapped in.

    Args:
        address: of IPv4 or IPv6, with or without a zone ("fe80::1%eth0").

    Example:
        >>> is_public("93.184.215.14"), is_public("::ffff:127.0.0.1")
        (True, False)
    """
    try:
        found: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if any(found in network for network in SHARED_V6):
            return False
        if found in NAT64:
            return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
        wrapped = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if any(inner is not None for inner in wrapped):
            return all(is_public(str(inner)) for inner in wrapped if inner is not None)
    return found.is_global and not found.is_multicast and not found.is_reserved


def public_socket(host: str, port: int, timeout: float | None) -> socket.socket:
    """A TCP connection to a host, opened to the very address that was checked.

    The name is looked up once. A name with one address that is not public is refused as a whole.

    Args:
        host: a name or an address.
        port: the port.
        timeout: seconds for each address; None for no limit.

    Raises:
        PrivateAddressError: one of the host's addresses is not public.
        OSError: the host is unknown, or none of its addresses answers.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not is_public(str(address[0])):
            raise PrivateAddressError("its address is not public")  # the address itself is nobody's business
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
        except OSError as error:
            connection.close()
            problem = error
            continue
        return connection
    raise problem


class _Http(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = public_socket(self.host, self.port, self.timeout)


class _Https(http.client.HTTPSConnection):
    def connect(self) -> None:
        connection = public_socket(self.host, self.port, self.timeout)
        # The certificate is that of the name, not of the address.
        self.sock = self._context.wrap_socket(connection, server_hostname=self.host)  # type: ignore[attr-defined]


class _HttpHandler(HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, req)


class _HttpsHandler(HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, req)


def public_opener(*handlers: Any) -> OpenerDirector:
    """An opener of URLs that connects to public addresses only, and to no proxy: a proxy would look names up itself."""
    return build_opener(ProxyHandler({}), _HttpHandler, _HttpsHandler, *handlers)
