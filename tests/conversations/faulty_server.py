"""A scripted OpenAI-compatible server on the loopback interface, well or faulty as a script says.

In a test:

    with FaultyServer([status(429, headers={"Retry-After": "2"}), answer("hello")]) as server:
        ...  # server.base_url, server.requests

The script is a list of replies, the last of which goes on for ever, or a function from a request to
a reply.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a client sent: `number` counts from 0, in the order of arrival."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server does with a request. `cut`: bytes of the body after which it hangs up."""

    name: str
    status: int = 200
    body: bytes | Callable[[dict[str, Any]], bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: bool = False
    reset: bool = False
    cut: int | None = None


def answer(
    text: str = "hello",
    *,
    finish_reason: str | None = "stop",
    usage: bool = True,
    delay: float = 0.0,
) -> Reply:
    """A chat completion with a text."""

    def body(request: dict[str, Any]) -> bytes:
        value: dict[str, Any] = {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": request.get("model"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": finish_reason,
                }
            ],
        }
        if usage:
            value["usage"] = usage_of(request, text)
        return json.dumps(value).encode()

    return Reply("answer", body=body, delay=delay)


def usage_of(request: dict[str, Any], text: str) -> dict[str, int]:
    """The usage that `answer` reports: a token for every four characters, rounded up."""
    prompt = -(-sum(len(message["content"]) for message in request["messages"]) // 4)
    completion = -(-len(text) // 4)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def status(
    code: int,
    message: str = "",
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """An error in the form of OpenAI's, or with a body of one's own."""
    if body is None:
        body = json.dumps({"error": {"message": message or f"fault {code}", "code": code}}).encode()
    return Reply(str(code), code, body, headers or {})


def hang() -> Reply:
    """Takes the request and says nothing until the server stops."""
    return Reply("hang", hang=True)


def reset() -> Reply:
    """Takes the request and resets the connection."""
    return Reply("reset", reset=True)


def cut(after: int = 40) -> Reply:
    """Hangs up in the middle of the body of a good answer."""
    good = answer("an answer that never arrives whole")
    return Reply("cut", body=good.body, cut=after)


def raw(body: bytes, name: str = "raw") -> Reply:
    """Status 200 with any body."""
    return Reply(name, body=body)


REPLIES: dict[str, Callable[[], Reply]] = {
    "answer": answer,
    "cut": cut,
    "empty": lambda: raw(b"", "empty"),
    "no_content": lambda: answer("", finish_reason=None),
    "not_json": lambda: raw(b"<html>gateway</html>", "not_json"),
    "other_shape": lambda: raw(b'{"result": ["hello"]}', "other_shape"),
    **{str(code): partial(status, code) for code in (400, 429, 500)},
}

Script = Sequence[Reply] | Callable[[Request], Reply]


class FaultyServer:
    """The server. A context manager that listens from `__enter__` to `__exit__`.

    Args:
        script: Replies in order, the last of which goes on for ever, or a function of the request.
        port: The port; 0 takes a free one.
        log: A file that gets a line of JSON a request, `number` and `reply`, before it is replied.
    """

    def __init__(self, script: Script, port: int = 0, log: Path | None = None) -> None:
        self.script = script
        self.log = log
        self.requests: list[Request] = []
        self.active = 0
        self.most_at_once = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.requests)

    def __enter__(self) -> "FaultyServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        """Count a request and say what to do with it."""
        with self._lock:
            request = Request(len(self.requests), path, headers, body)
            self.requests.append(request)
            self.active += 1
            self.most_at_once = max(self.most_at_once, self.active)
            if callable(self.script):
                reply = self.script(request)
            else:
                reply = self.script[min(request.number, len(self.script) - 1)]
            if self.log is not None:
                with self.log.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps({"number": request.number, "reply": reply.name}) + "\n")
        return reply

    def done(self) -> None:
        """A request was dealt with."""
        with self._lock:
            self.active -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    owner: FaultyServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = owner.take(self.path, headers, body)
        done = False
        try:
            if reply.hang or reply.delay:
                owner.stopping.wait(None if reply.hang else reply.delay)
            payload = reply.body(body) if callable(reply.body) else reply.body
            if reply.hang or reply.reset:
                if reply.reset:  # a linger of 0 seconds makes the close a reset
                    linger = b"\x01\0\0\0\0\0\0\0"
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    os.close(self.connection.detach())
                self.close_connection = True
                return
            # a client that has its answer may ask again before this thread goes on
            owner.done()
            done = True
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload[: reply.cut])
            self.wfile.flush()
            self.close_connection = self.close_connection or reply.cut is not None
        finally:
            if not done:
                owner.done()

    def log_message(self, format: str, *args: Any) -> None:
        pass
