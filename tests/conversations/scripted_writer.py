"""A writer that stands in for a language model: it reads the tracks out of the prompt and answers
with a good conversation, or, now and then, with a bad one. The same chat gets the same answer.

Alone, for a synthesis in another process:

    python tests/conversations/scripted_writer.py --port 8000 --delay 0.02 --log FILE
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulty_server import FaultyServer, Reply, Request, answer

from talkplay_hf.conversations.llm.language_model import Answer

_BLOCK = re.compile(r"^\[(\S+)\]\ntitle: (.*)\nartist: (.*)$", re.M)
ASKS = (
    "Could you find me a song for a quiet evening?",
    "Nice, what would go well after that?",
    "I would love to hear another one in that vein.",
    "Good choice! Something a little different now, maybe?",
    "And which one would you play next?",
    "That one was lovely. Do you have one more?",
    "Keep going, I am enjoying this.",
    "What else do you know that sounds like it?",
    "Let us stay with this mood for a while.",
    "Now surprise me with a change of pace.",
)


@dataclass(frozen=True)
class Told:
    """A track as the prompt tells of it."""

    label: str
    title: str
    artist: str


def tracks_in(chat: Sequence[Mapping[str, str]]) -> tuple[list[Told], list[Told]]:
    """The tracks of the playlist and of the negative set that a prompt tells of."""
    prompt = chat[0]["content"].rpartition("The dialogue to write")[2]
    wanted, _, unwanted = prompt.partition("NEGATIVE SET")
    return tuple([Told(*found) for found in _BLOCK.findall(part)] for part in (wanted, unwanted))


def number_of(chat: Sequence[Mapping[str, str]]) -> int:
    """A number that stands for a chat."""
    text = json.dumps([[message["role"], message["content"]] for message in chat])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def messages(tracks: Sequence[Told], first: int = 0) -> list[dict[str, str]]:
    """A turn for each track."""
    made = []
    for number, track in enumerate(tracks):
        made += [
            {"role": "user", "content": f"{ASKS[(first + number) % len(ASKS)]}"},
            {"role": "assistant", "content": f'Here is "{track.title}" by {track.artist}.'},
            {"role": "music", "content": track.label},
        ]
    return made


def good(chat: Sequence[Mapping[str, str]]) -> str:
    """A conversation that keeps all the rules."""
    tracks, unwanted = tracks_in(chat)
    number = number_of(chat)
    played = tracks[: math.ceil(len(tracks) / 2)]
    if unwanted and number % 3 == 0:
        played = [played[0], unwanted[0], *played[1:]]
    return json.dumps(messages(played, number), ensure_ascii=False)


def _fenced(chat: Sequence[Mapping[str, str]]) -> str:
    return f"```json\n{good(chat)}\n```"


def _with_prose(chat: Sequence[Mapping[str, str]]) -> str:
    return f"Sure! Here is the dialogue:\n{good(chat)}\nI hope that it helps."


def _invented(chat: Sequence[Mapping[str, str]]) -> str:
    return good(chat).replace(tracks_in(chat)[0][0].label, "4uLU6hMCjMI75M1A2tKUQC")


def _repeated(chat: Sequence[Mapping[str, str]]) -> str:
    track = tracks_in(chat)[0][0]
    return json.dumps(messages([track, track]))


def _too_few(chat: Sequence[Mapping[str, str]]) -> str:
    return json.dumps(messages(tracks_in(chat)[0][:1]) if len(tracks_in(chat)[0]) > 2 else [])


BAD: dict[str, Callable[[Sequence[Mapping[str, str]]], str]] = {
    "invented": _invented,
    "repeated": _repeated,
    "too_few": _too_few,
    "cut": lambda chat: good(chat)[:40],
    "prose": lambda chat: "I am sorry, but I cannot write a dialogue about that.",
    "empty": lambda chat: "",
    "half a pair": lambda chat: "what \ud800 is this",
}
MENDED: dict[str, Callable[[Sequence[Mapping[str, str]]], str]] = {
    "fenced": _fenced,
    "with prose": _with_prose,
}


def write(chat: Sequence[Mapping[str, str]], bad_share: float = 0.0) -> str:
    """Answer a chat: badly with a share of the chats, else well, some of it in need of repair."""
    number = number_of(chat)
    if (number >> 16) % 1000 < 1000 * bad_share:
        kinds = list(BAD.values())
    else:
        kinds = [good, good, good, *MENDED.values()]
    return kinds[number % len(kinds)](chat)


def reply_to(request: Request, bad_share: float = 0.0, delay: float = 0.0) -> Reply:
    """The reply of a server to a request."""
    return answer(write(request.body["messages"], bad_share), delay=delay)


@dataclass
class ScriptedModel:
    """A language model without a server; it answers some time later, in another order."""

    bad_share: float = 0.0
    name: str = "scripted"
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 1.0})
    concurrency: int = 4
    before: Callable[[int], None] = lambda number: None
    chats: list[Sequence[Mapping[str, str]]] = field(default_factory=list)
    answered: int = 0

    def write(self, chat: Sequence[Mapping[str, str]]) -> str:
        return write(chat, self.bad_share)

    async def complete(
        self, chat: Sequence[Mapping[str, str]], schema: Mapping[str, Any] | None = None
    ) -> Answer:
        self.chats.append(chat)
        self.before(len(self.chats))
        for _ in range(number_of(chat) % 5):
            await asyncio.sleep(0)
        text = self.write(chat)
        self.answered += 1
        return Answer(text, "stop", len(chat[0]["content"]) // 4, len(text) // 4)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bad-share", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, at most")
    parser.add_argument("--log", type=Path, help="file that gets a line a request")
    args = parser.parse_args()

    def script(request: Request) -> Reply:
        share = number_of(request.body["messages"]) % 101 / 100
        return reply_to(request, args.bad_share, args.delay * share)

    with FaultyServer(script, args.port, args.log) as server:
        print(server.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.stopping.wait()


if __name__ == "__main__":
    main()
