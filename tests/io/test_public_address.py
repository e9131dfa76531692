"""Connections to public addresses only: all spellings of private ones, redirects, names that change their address."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from calipose.errors import ImageError
from calipose.io import public_address
from calipose.io.fetch import fetch_bytes
from calipose.io.public_address import PrivateAddressError, is_public


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::5db8:d70e", True),  # 93.184.215.14 behind NAT64
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # where clouds keep their secrets
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),  # 6to4
        ("ff02::1", False),
        ("no address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


class Net:
    """A server on this computer, and names for it; 127.0.0.2 plays a public address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.names = {"public.example": ["127.0.0.2"], "private.example": ["127.0.0.1"]}
        self.lookups: list[str] = []
        net = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                net.asked.append(f"{self.headers['Host'].partition(':')[0]}{self.path}")
                target = self.path.removeprefix("/to/")
                self.send_response(302 if target != self.path else 200)
                if target != self.path:
                    self.send_header("Location", f"http://{target}:{net.port}/image")
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"image")

            def log_message(self, format: str, *values: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        real_lookup, real_check = socket.getaddrinfo, is_public

        def lookup(host: str, *values: Any, **more: Any) -> Any:
            net.lookups.append(host)
            found = net.names.get(host)
            address = host if found is None else found.pop(0) if len(found) > 1 else found[0]
            return real_lookup(address, *values, **more)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        monkeypatch.setattr(public_address, "is_public", lambda address: address == "127.0.0.2" or real_check(address))

    def get(self, host: str, path: str = "image") -> bytes:
        return fetch_bytes(f"http://{host}:{self.port}/{path}", max_seconds=10, public_only=True)


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    net = Net(monkeypatch)
    yield net
    net.server.shutdown()
    net.server.server_close()


def test_a_public_host_answers(net: Net) -> None:
    assert net.get("public.example") == b"image"
    assert net.get("public.example", "to/public.example") == b"image"


@pytest.mark.parametrize("host", ["private.example", "localhost", "127.0.0.1", "[::1]", "0x7f000001", "2130706433"])
def test_a_private_host_is_not_asked(net: Net, host: str) -> None:
    with pytest.raises(PrivateAddressError, match=r"is not loaded: its address is not public"):
        net.get(host)
    with pytest.raises(PrivateAddressError):
        net.get("public.example", f"to/{host}")
    assert all(asked.startswith("public.example/to/") for asked in net.asked)


def test_a_name_is_looked_up_once_and_the_connection_goes_to_that_address(net: Net) -> None:
    net.names["public.example"] = ["127.0.0.2", "127.0.0.1"]  # changes after the check
    assert net.get("public.example") == b"image"
    assert net.lookups.count("public.example") == 1
    with pytest.raises(PrivateAddressError):
        net.get("public.example")


def test_no_proxy_is_asked(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{net.port}")
    assert net.get("public.example") == b"image"
    assert net.asked == ["public.example/image"]


def test_the_message_names_the_host_but_nothing_of_its_network(net: Net) -> None:
    with pytest.raises(ImageError) as caught:
        net.get("user:secret@private.example")
    assert "private.example" in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    assert "secret" not in str(caught.value)
