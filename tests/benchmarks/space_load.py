"""Many listeners at once on one page: speed, mixed-up sessions, and memory.

    python tests/benchmarks/space_load.py MODEL --users 25 --turns 5 --sessions 1000

Serves the page in a process of its own, with one thread for the model. Each user holds a
conversation, first one user after the other, then all at once: through the endpoint, where every
answer must be the one that the user got alone, and through the page's own events, where a session
must show the user's own messages and nobody else's. Last, the memory of the server before and after
many sessions of one turn. The page of a browser then asks why the track was played; so do these
users, outside the time of their turns.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import httpx

MOODS = ("calm", "upbeat", "sad", "loud", "old")
MARK = re.compile(r"u\d{4}t\d{2}")


def text_of(user: int, turn: int) -> str:
    return f"something {MOODS[(user + turn) % len(MOODS)]} please u{user:04}t{turn:02}"


@dataclass
class Server:
    """The page, served by `talkplay serve`."""

    url: str
    process: subprocess.Popen

    def megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def serve(model: str) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "talkplay_hf.cli", "serve", model, "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "is ready" in line:
            return Server(f"http://127.0.0.1:{port}", process)
    raise SystemExit(f"the server ended with status {process.wait()}")


def events_of(answer: httpx.Response) -> list[tuple[str, Any]]:
    """What a stream of server-sent events says, to its end."""
    name, found = "", []
    for line in answer.iter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            found.append((name, json.loads(value)))
    return found


class Endpoint:
    """A user of the typed endpoint, who sends the history along."""

    def __init__(self, http: httpx.Client, user: int) -> None:
        self.http, self.user = http, user
        self.history: list[dict[str, Any]] = []
        info = http.get("/gradio_api/info").json()["named_endpoints"]["/recommend"]
        self.parameters = info["parameters"]

    def after(self, turn: int) -> None:
        """The endpoint needs nothing more."""

    def turn(self, turn: int) -> Any:
        text = text_of(self.user, turn)
        given = {"message": text, "history": self.history}
        data = [given.get(p["parameter_name"], p.get("parameter_default")) for p in self.parameters]
        started = self.http.post("/gradio_api/call/recommend", json={"data": data})
        started.raise_for_status()
        with self.http.stream(
            "GET", f"/gradio_api/call/recommend/{started.json()['event_id']}"
        ) as s:
            (name, value) = events_of(s)[-1]
        if name != "complete":
            raise RuntimeError(f"{text}: {name} {value}")
        (answer,) = value
        track = answer["tracks"][0] if "tracks" in answer else answer["track"]
        said = [
            {"role": "user", "content": text},
            {"role": "music", "track_id": track["track_id"]},
            {"role": "assistant", "content": answer["reply"]},
        ]
        if answer.get("history", [*self.history, *said]) != [*self.history, *said]:
            raise RuntimeError(f"{text}: the history that came back is not the user's own")
        self.history += said
        return track["track_id"], answer["reply"]


class Page:
    """A user of the page, whose conversation is kept in the session."""

    def __init__(self, http: httpx.Client, user: int) -> None:
        self.http, self.user = http, user
        http.get("/").raise_for_status()
        config = http.get("/config").json()
        self.session = f"session{user}"
        ids = {c["id"]: c["props"].get("elem_id") for c in config["components"]}
        wanted = {
            (ids.get(target[0]), target[1]): (dependency, target[0])
            for dependency in config["dependencies"]
            for target in dependency["targets"]
        }
        self.wanted = {event: wanted["tp-bridge", event] for event in ("turn", "act")}
        self.parts = {c["id"]: c for c in config["components"]}
        self.n = 0
        self.shown = ""

    def send(self, event: str, data: dict[str, Any]) -> None:
        dependency, trigger = self.wanted[event]
        self.n += 1
        asked = {
            "data": [self.parts[one]["props"].get("value") for one in dependency["inputs"]],
            "event_data": {**data, "n": self.n},
            "fn_index": dependency["id"],
            "trigger_id": trigger,
            "session_hash": self.session,
        }
        self.http.post("/gradio_api/queue/join", json=asked).raise_for_status()
        query = {"session_hash": self.session}
        with self.http.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            events = [value for _, value in events_of(stream)]
        last = [value for value in events if value["msg"] == "process_completed"][-1]
        if not last["success"]:
            raise RuntimeError(f"{data}: {last['output']}")
        self.shown += json.dumps(events)

    def after(self, turn: int) -> None:
        self.send("act", {"act": "why", "turn": turn, "place": 0})

    def turn(self, turn: int) -> Any:
        text = text_of(self.user, turn)
        self.send("turn", {"act": "say", "text": text})
        marks = set(MARK.findall(self.shown))
        own = {f"u{self.user:04}t{before:02}" for before in range(turn + 1)}
        if marks != own:
            raise RuntimeError(f"{text}: the session shows {sorted(marks)}")
        return None


@dataclass
class Told:
    """A user's conversation: seconds of each turn, of what the page does after it, and answers."""

    seconds: list[float] = field(default_factory=list)
    panels: list[float] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)


def converse(
    make: Callable[[httpx.Client, int], Endpoint | Page], url: str, turns: int, user: int
) -> Told:
    told = Told()
    with httpx.Client(base_url=url, timeout=600) as http:
        one = make(http, user)
        for turn in range(turns):
            started = time.perf_counter()
            told.answers.append(one.turn(turn))
            answered = time.perf_counter()
            one.after(turn)
            told.seconds.append(answered - started)
            told.panels.append(time.perf_counter() - answered)
    return told


def at(share: float, seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def compare(
    name: str, make: type[Endpoint] | type[Page], url: str, users: int, turns: int, offset: int
) -> None:
    """Rows: alone, all at once, their ratio, and how many answers are other ones."""
    # every way asks for the same, and sessions of the page are new each time
    ask = partial(converse, make, url, turns)
    alone = [ask(offset + user) for user in range(users)]
    same = 0 if make is Endpoint else users
    with ThreadPoolExecutor(users) as pool:
        together = list(pool.map(ask, range(offset + same, offset + same + users)))
    other = sum(
        a != b
        for mine, then in zip(alone, together, strict=True)
        for a, b in zip(mine.answers, then.answers, strict=True)
    )
    row(name, [one.seconds for one in alone], [one.seconds for one in together], other)
    if make is Page:
        row("why", [one.panels for one in alone], [one.panels for one in together], other)


def row(name: str, alone: list[list[float]], together: list[list[float]], other: int) -> None:
    quick, slow = list(chain(*alone)), list(chain(*together))
    told = [at(0.5, quick), at(0.95, quick), at(0.5, slow), at(0.95, slow)]
    cells = " | ".join(f"{one:.2f}" for one in told)
    ratio = at(0.95, slow) / at(0.95, quick)
    print(f"| {name} | {cells} | {ratio:.1f} | {len(slow)} | {other} |", flush=True)


def grow(server: Server, sessions: int) -> None:
    """How much memory the server takes as visitors come, each for one turn."""
    one_turn = partial(converse, Page, server.url, 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one_turn, range(20)))
        before = server.megabytes()
        marks = []
        for start in range(1000, 1000 + sessions, 250):
            stop = min(start + 250, 1000 + sessions)
            found = list(pool.map(one_turn, range(start, stop)))
            marks.append(f"{stop - 1000}: {server.megabytes() - before:+.1f}")
    waits = statistics.median(s for one in found for s in one.seconds)
    print(f"memory after sessions, MB over {before:.0f}: {', '.join(marks)}")
    print(f"({waits:.2f} s a turn, four sessions at once)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model folder")
    parser.add_argument("--users", type=int, default=25)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=1000)
    args = parser.parse_args()
    server = serve(args.model)
    try:
        converse(Page, server.url, 1, 0)
        print(
            "| way | alone p50, s | alone p95, s | at once p50, s | at once p95, s | ratio of p95 "
            "| turns | other answers |"
        )
        print("|" + "---|" * 8)
        compare("endpoint", Endpoint, server.url, args.users, args.turns, 100)
        compare("page", Page, server.url, args.users, args.turns, 200)
    finally:
        server.end()
    server = serve(args.model)
    try:
        grow(server, args.sessions)
    finally:
        server.end()


if __name__ == "__main__":
    main()
