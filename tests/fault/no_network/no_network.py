"""No test reaches another machine: connections and names that are not local raise.

To import this is enough. An audit hook sees what Python's sockets do, in whatever library. It
cannot be taken out again, so there is a switch, an environment variable that the processes inherit
which a test starts.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

FOLDER = str(Path(__file__).parent)
VARIABLE = "TALKPLAY_TEST_NO_NETWORK"
ADDRESSED = ("socket.connect", "socket.sendto", "socket.sendmsg")
NAMED = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
LOCAL_NAMES = {"", "localhost", "localhost.localdomain", socket.gethostname()}
# what was tried in this process
attempts: list[str] = []


class NetworkBlockedError(RuntimeError):
    """Something tried to leave this machine. No OSError, which a library might take for an outage
    and pass over."""


def is_local(host: Any) -> bool:
    """Whether a host, by name or number, is this machine."""
    if host is None or host == 0:
        return True
    text = os.fsdecode(host) if isinstance(host, str | bytes) else str(host)
    # `datasets` makes a name of the loopback Hub's address, which no name server can know
    if text.lower() in LOCAL_NAMES or text.lower().endswith((".localhost", ".127.0.0.1")):
        return True
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def hear(event: str, args: tuple[Any, ...]) -> None:
    """The audit hook."""
    if event in ADDRESSED:
        address = args[1]
        # sockets of this machine have a path, those of other families a number
        if not isinstance(address, tuple) or is_local(address[0]):
            return
        host = address[0]
    elif event in NAMED:
        host = args[0]
        if is_local(host):
            return
    else:
        return
    if os.environ.get(VARIABLE) == "1":
        attempts.append(f"{event} {host!r}")
        raise NetworkBlockedError(f"{event}: {host!r} is not this machine")


sys.addaudithook(hear)
