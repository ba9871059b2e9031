"""The default suite cannot reach another machine, nor can the processes that it starts."""

import asyncio
import os
import socket
import subprocess
import sys

import no_network
import pytest

TRIES = [
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
    lambda: socket.getaddrinfo("huggingface.co", 443),
    lambda: socket.gethostbyname("pypi.org"),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 53)),
    lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
    lambda: asyncio.run(asyncio.open_connection("192.0.2.1", 80)),
]


@pytest.mark.parametrize("number", range(len(TRIES)))
def test_another_machine_cannot_be_reached(number: int):
    with pytest.raises(no_network.NetworkBlockedError, match="is not this machine"):
        TRIES[number]()
    assert len(no_network.attempts) == 1
    no_network.attempts.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_can(host: str):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = (host, server.getsockname()[1])
        socket.create_connection(address, timeout=5).close()
    left, right = socket.socketpair()
    left.close()
    right.close()


def test_a_process_that_a_test_starts_cannot_either():
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NetworkBlockedError" in done.stderr


@pytest.mark.slow
def test_slow_tests_may_ask_the_package_registry():
    assert os.environ[no_network.VARIABLE] == "0"
