"""Requests and replies of the loopback Hub, the faults of them, and the server of HTTP."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

Headers = dict[str, str]


@dataclass(frozen=True)
class Request:
    """What a client sent. `path` is unquoted, without the query."""

    method: str
    path: str
    query: dict[str, str]
    headers: Headers
    body: bytes = field(repr=False, default=b"")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong with the requests of a method whose path holds a match of a pattern.

    `times`: with how many of them (all where `None`), after the first `skip`. With a `status`, that
    is the reply; else the true reply is made, and then: `edit` may change it, `cut` is the number
    of bytes of its body after which the server hangs up, `reset` hangs up at once. `before` is
    called first (another client at work); `delay` is in seconds.
    """

    method: str
    path: str
    times: int | None = None
    skip: int = 0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    body: bytes | None = None
    headers: Headers = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    delay: float = 0.0
    edit: Callable[[Reply], Reply] | None = None
    before: Callable[[], object] | None = None
    hits: int = 0

    def reply(self) -> Reply:
        headers = dict(self.headers)
        if self.code:
            headers["X-Error-Code"] = self.code
        if self.message:
            headers["X-Error-Message"] = self.message.replace("\n", " ")
        body = self.body
        if body is None:
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps({"error": self.message or f"fault {self.status}"}).encode()
        return Reply(self.status or 500, body, headers)


class Refused(Exception):
    """A refusal: the reply that says so."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = json_reply({"error": message}, status)
        self.reply.headers |= headers


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    body = json.dumps(value).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})


class Answering(Protocol):
    requests: list[Request]

    def fault_for(self, request: Request) -> Fault | None: ...

    def reply(self, request: Request) -> Reply: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the connections that clients keep alive."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is no news


class Handler(BaseHTTPRequestHandler):
    hub: Answering
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self._body()
        request = Request(
            self.command,
            unquote(url.path),
            {name: values[-1] for name, values in parse_qs(url.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            body,
        )
        self.hub.requests.append(request)
        fault = self.hub.fault_for(request)
        if fault and fault.before:
            fault.before()
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.reset:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        reply = fault.reply() if fault and fault.status else self.hub.reply(request)
        if fault and fault.edit:
            reply = fault.edit(reply)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            cut = fault.cut if fault else None
            self.wfile.write(reply.body if cut is None else reply.body[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        self.wfile.flush()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer
