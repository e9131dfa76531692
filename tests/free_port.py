"""A port for a server that a test starts."""

import random
import socket

PORTS = range(20_000, 32_000)  # below those that systems give to connections, which would take one in between


def free_port() -> int:
    """A port of this computer that nothing listens at; another test is unlikely to get the same one."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError(f"no free port among 100 of {PORTS}")
