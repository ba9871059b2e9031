"""Answers of known truth: good ones in many voices, and ones with exactly one fault.

The truth comes from how an answer is made, never from the checks.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scripted_texts import (
    DISLIKES,
    LATE_REPLIES,
    LATE_WRONG_REPLIES,
    LIKES,
    MORE_REPLIES,
    MORE_WRONG_REPLIES,
    OPENINGS,
    OTHER_REPLIES,
    OTHER_WRONG_REPLIES,
    REPLIES,
    WRONG_BARE_REPLIES,
    WRONG_REPLIES,
)

from talkplay_hf.catalog.schema import Track
from talkplay_hf.conversations.pieces import Piece

Item = dict[str, Any]
PARTS = ("tuned", "heldout", "late", "other")
_MORE = {REPLIES: MORE_REPLIES, WRONG_REPLIES: MORE_WRONG_REPLIES}
_APART = {
    "late": {REPLIES: LATE_REPLIES, WRONG_REPLIES: LATE_WRONG_REPLIES},
    "other": {REPLIES: OTHER_REPLIES, WRONG_REPLIES: OTHER_WRONG_REPLIES},
}
# how a wrong name is chosen
WRONG_NAMES = (
    "piece", "piece", "same_artist", "outside", "outside", "near", "artist_swapped", "bare",
)  # fmt: skip


@dataclass(frozen=True)
class Scripted:
    """An answer and what is known of it.

    Args:
        text (`str`): The answer.
        piece (`Piece`): What it is about.
        tracks (`dict[str, Track]`): The tracks of the piece.
        fault (`str`, *optional*): The reason that it must be refused for; `None` where it is good.
        kind (`str`): How the fault was made, or how the answer was wrapped.
        part (`str`): Which phrases it is made of, by `PARTS`.
    """

    text: str
    piece: Piece
    tracks: dict[str, Track]
    fault: str | None
    kind: str
    part: str


class Writer:
    """Writes answers about tracks of a catalog.

    Args:
        tracks (`Sequence[Track]`): The tracks to write about.
        seed (`int`): The seed.
        part (`str`): Which phrases to use: those that rules were tuned on, those held out from
            the start, those that were written later, or those of another hand.
    """

    def __init__(self, tracks: Sequence[Track], seed: int, part: str = "tuned") -> None:
        self.rng = random.Random(seed)
        self.all = list(tracks)
        self.part = part
        self.by_artist: dict[str, list[Track]] = {}
        self.by_word: dict[str, list[Track]] = {}
        for track in self.all:
            self.by_artist.setdefault(first_artist(track.artist), []).append(track)
            for word in set(re.findall(r"\w{4,}", track.title.lower())):
                self.by_word.setdefault(word, []).append(track)

    def phrases(self, texts: tuple[str, ...]) -> list[str]:
        """The held-out third of some phrases, the others, or those of a part of its own."""
        if texts in _APART.get(self.part, ()):
            return list(_APART[self.part][texts])
        if self.part == "tuned":
            return [*(text for n, text in enumerate(texts) if n % 3 != 2), *_MORE.get(texts, ())]
        return list(texts[2::3])

    def piece(self) -> tuple[Piece, dict[str, Track]]:
        """A playlist of 3 to 8 tracks and up to 3 unwanted ones, with titles that differ."""
        rng = self.rng
        wanted, titles = rng.randint(5, 11), set()
        chosen: list[Track] = []
        while len(chosen) < wanted:
            track = rng.choice(self.all)
            if chosen and rng.random() < 0.3:
                track = rng.choice(self.by_artist[first_artist(chosen[-1].artist)])
            if plain(track.title) and plain(track.title) not in titles:
                titles.add(plain(track.title))
                chosen.append(track)
        ids = [track.track_id for track in chosen]
        cut = rng.randint(max(3, wanted - 3), wanted)
        piece = Piece(f"piece-{rng.randrange(10**6)}", tuple(ids[:cut]), tuple(ids[cut:]))
        return piece, dict(zip(ids, chosen, strict=True))

    def good_items(self, piece: Piece, tracks: dict[str, Track]) -> list[Item]:
        """A good conversation as a list of messages, at least half of the playlist in it."""
        rng = self.rng
        least = (len(piece.track_ids) + 1) // 2
        order = rng.sample(piece.track_ids, rng.randint(max(2, least), len(piece.track_ids)))
        for one in piece.negative_ids:
            if rng.random() < 0.5:
                order.insert(rng.randrange(len(order)), one)
        replies = rng.sample(self.phrases(REPLIES), len(order))
        likes, dislikes = self.phrases(LIKES), self.phrases(DISLIKES)
        rng.shuffle(likes)
        rng.shuffle(dislikes)
        text_first = rng.random() < 0.5
        items: list[Item] = []
        before: Track | None = None
        for number, track_id in enumerate(order):
            track = tracks[track_id]
            if before is None:
                request = rng.choice(self.phrases(OPENINGS))
                while "{pt}" in replies[number] or "{pa}" in replies[number]:
                    replies[number] = rng.choice(self.phrases(REPLIES))
            elif before.track_id in piece.negative_ids and dislikes:
                request = dislikes.pop()
            else:
                request = likes.pop() if likes else f"Next one, number {number + 1}"
            while replies.count(replies[number]) > 1:
                replies[number] = self._reply(before is None)
            items.append({"role": "user", "content": self.fill(request, track, before)})
            said = {"role": "assistant", "content": self.fill(replies[number], track, before)}
            music = {"role": "music", "content": track_id}
            items += [said, music] if text_first else [music, said]
            before = track
        return items

    def _reply(self, first: bool) -> str:
        while True:
            reply = self.rng.choice(self.phrases(REPLIES))
            if not first or ("{pt}" not in reply and "{pa}" not in reply):
                return reply

    def fill(
        self, phrase: str, track: Track, before: Track | None, wrong: tuple[str, str] = ("", "")
    ) -> str:
        """A phrase with names in it, spelled in one of several ways."""
        other = self.rng.choice(self.all)
        x, y = wrong if wrong[0] else (other.title, first_artist(other.artist))
        past = before or track
        fields = {
            "t": self.spelled(track.title), "a": self.artist(track.artist),
            "pt": self.spelled(past.title), "pa": first_artist(past.artist),
            "al": track.album or track.title, "g": self.rng.choice(track.tags or ("pop",)),
            "x": x, "y": y,
        }  # fmt: skip
        return re.sub(r"\{(\w+)\}", lambda match: fields[match.group(1)], phrase)

    def spelled(self, title: str) -> str:
        """A title as it is, or without what stands in brackets or behind a dash."""
        short = re.sub(r"\s*[(\[][^()\[\]]*[)\]]|\s+-\s.*$|\s(?:feat|ft)\..*$", "", title).strip()
        ways = [title, short or title, short or title]
        if self.rng.random() < 0.2:
            ways = [(short or title).replace("'", "’"), (short or title).title()]
        return self.rng.choice(ways).replace('"', "'")

    def artist(self, artist: str) -> str:
        """An artist as it stands, or the first of several."""
        return self.rng.choice([artist, first_artist(artist), first_artist(artist)])

    def good(self) -> Scripted:
        """A good answer, as it is or in a form that is safe to mend."""
        piece, tracks = self.piece()
        items = self.good_items(piece, tracks)
        kind = self.rng.choice(["plain", "plain", "plain", *WRAPPINGS])
        text = WRAPPINGS[kind](items) if kind != "plain" else json.dumps(items)
        return Scripted(text, piece, tracks, None, kind, self.part)

    def bad(self, fault: str) -> Scripted:
        """An answer with exactly one fault."""
        piece, tracks = self.piece()
        items = self.good_items(piece, tracks)
        if fault == "wrong_title":
            text, kind = self._wrong_title(items, piece, tracks)
            return Scripted(text, piece, tracks, fault, kind, self.part)
        text = FAULTS[fault](self.rng, items, piece)
        return Scripted(text, piece, tracks, fault, fault, self.part)

    def _wrong_title(
        self, items: list[Item], piece: Piece, tracks: dict[str, Track]
    ) -> tuple[str, str]:
        """One reply names another track than the one played or one of those before."""
        rng = self.rng
        turns = len(items) // 3
        number = rng.randrange(turns)
        played = [item["content"] for item in items if item["role"] == "music"]
        track, heard = tracks[played[number]], set(played[: number + 1])
        names = {plain(tracks[one].title) for one in heard}
        used = {plain(item["content"]) for item in items}
        while True:
            kind = rng.choice(WRONG_NAMES)
            wrong = self._other(kind, track, piece, tracks, heard)
            if wrong is None:
                continue
            # a name that is right by chance, or one that the user said, is no known truth
            title = plain(wrong.title)
            clash = any(title in name or name in title for name in names)
            said = any(title in text for text in used if len(text) > 30)
            if title and (kind == "artist_swapped" or not (clash or said)):
                break
        phrases = self.phrases(WRONG_BARE_REPLIES if kind == "bare" else WRONG_REPLIES)
        if kind == "artist_swapped":
            phrases = [
                p for p in phrases if re.search(r"\{x\}[\"'”*]*,? ?(?:by|-|\(by|\() ?\**\{y\}", p)
            ]
        phrase = rng.choice(phrases)
        shown = (self.spelled(wrong.title), first_artist(wrong.artist))
        before = tracks[played[number - 1]] if number else None
        content = self.fill(phrase, track, before, shown)
        for item in items[number * 3 : number * 3 + 3]:
            if item["role"] == "assistant":
                item["content"] = content
        return json.dumps(items), kind

    def _other(
        self, kind: str, track: Track, piece: Piece, tracks: dict[str, Track], heard: set[str]
    ) -> Track | None:
        rng = self.rng
        if kind in ("piece", "bare"):
            left = [one for one in tracks if one not in heard]
            return tracks[rng.choice(left)] if left else None
        if kind == "same_artist":
            rest = [
                t for t in self.by_artist[first_artist(track.artist)] if t.track_id not in heard
            ]
            return rng.choice(rest) if rest else None
        if kind == "near":
            words = re.findall(r"\w{4,}", track.title.lower())
            near = [t for word in words for t in self.by_word[word] if t.track_id not in heard]
            return rng.choice(near) if near else None
        other = rng.choice(self.all)
        if kind == "artist_swapped":
            mine = set(re.findall(r"\w+", plain(track.artist)))
            if mine & set(re.findall(r"\w+", plain(other.artist))):
                return None
            return Track(track.track_id, track.title, other.artist)
        return other if other.track_id not in tracks else None


def first_artist(artist: str) -> str:
    """The first of several artists."""
    return re.split(r"\s*[,;]\s*|\s(?:feat\.?|ft\.?|featuring)\s", artist)[0] or artist


def plain(text: str) -> str:
    """A text without case, punctuation, brackets and what stands behind a dash."""
    text = re.sub(r"\s*[(\[][^()\[\]]*[)\]]|\s+-\s.*$|\s(?:feat|ft)\..*$", "", text.casefold())
    return " ".join(re.findall(r"\w+", re.sub(r"['’]", "", text)))


def _lines(items: list[Item]) -> str:
    return "\n".join(json.dumps(item) for item in items)


def _smart(items: list[Item]) -> str:
    text = json.dumps([{k: v.replace('"', "'") for k, v in item.items()} for item in items])
    flip = iter("“”" * text.count('"'))
    return re.sub('"', lambda _: next(flip), text)


def _raw_breaks(items: list[Item]) -> str:
    return json.dumps(items).replace(". ", ".\n")


def _cut(items: list[Item]) -> str:
    """Cut within a turn that is not needed."""
    more = [{"role": "user", "content": "One more, please, if you have it"}]
    text = json.dumps([*items, *more])
    return text[:-12]


WRAPPINGS: dict[str, Callable[[list[Item]], str]] = {
    "fenced": lambda items: f"```json\n{json.dumps(items, indent=1)}\n```",
    "prose": lambda items: f"Sure! Here is the list:\n\n{json.dumps(items)}\n\nEnjoy the music!",
    "object": lambda items: json.dumps({"conversation": items}),
    "lines": _lines,
    "trailing_comma": lambda items: json.dumps(items)[:-1] + ",\n]",
    "python": lambda items: repr(items),
    "smart_quotes": _smart,
    "raw_breaks": _raw_breaks,
    "thoughts": lambda items: f"<think>I need a [list] of {{turns}}.</think>\n{json.dumps(items)}",
    "cut": _cut,
    "closing": lambda items: json.dumps([*items, {"role": "user", "content": "Thanks, bye!"}]),
    "prefix": lambda items: json.dumps(
        [
            {**i, "content": f"spotify:track:{i['content']}"} if i["role"] == "music" else i
            for i in items
        ]
    ),
    "track_id_key": lambda items: json.dumps(
        [{"role": "music", "track_id": i["content"]} if i["role"] == "music" else i for i in items]
    ),
}


def _pick(rng: random.Random, items: list[Item], *roles: str) -> Item:
    return rng.choice([item for item in items if item["role"] in roles])


def _text_fault(make: Callable[[random.Random, str, Piece], str]) -> Callable[..., str]:
    """A fault within one text of a user or an assistant."""

    def fault(rng: random.Random, items: list[Item], piece: Piece) -> str:
        item = _pick(rng, items, "user", "assistant")
        item["content"] = make(rng, item["content"], piece)
        return json.dumps(items)

    return fault


def _unknown_track(rng: random.Random, items: list[Item], piece: Piece) -> str:
    item = _pick(rng, items, "music")
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    swapped = list(item["content"])
    place = rng.randrange(len(swapped))
    swapped[place] = "x" if swapped[place] != "x" else "y"
    item["content"] = rng.choice(
        [
            "".join(rng.choices(letters, k=22)), "".join(swapped), item["content"][:-1],
            item["content"] + "0", "Bohemian Symphony No. 12 by Nobody", "TRACK_1", "",
        ]
    )  # fmt: skip
    return json.dumps(items)


def _repeated_track(rng: random.Random, items: list[Item], piece: Piece) -> str:
    music = [item for item in items if item["role"] == "music"]
    first = rng.choice([i["content"] for i in music[:-1]])
    items += [
        {"role": "user", "content": "Could we go back to an earlier mood now?"},
        {"role": "music", "content": first},
        {"role": "assistant", "content": "With pleasure, this should bring that mood right back."},
    ]
    return json.dumps(items)


def _too_few(rng: random.Random, items: list[Item], piece: Piece) -> str:
    least = (len(piece.track_ids) + 1) // 2
    kept, used = 0, 0
    for turn in range(0, len(items), 3):
        music = next(i for i in items[turn : turn + 3] if i["role"] == "music")
        if music["content"] in piece.track_ids:
            used += 1
        if used >= least:
            break
        kept = turn + 3
    return json.dumps(items[:kept])


def _several_tracks(rng: random.Random, items: list[Item], piece: Piece) -> str:
    place = rng.choice([n for n, item in enumerate(items) if item["role"] == "music"])
    played = {item["content"] for item in items if item["role"] == "music"}
    spare = [one for one in (*piece.track_ids, *piece.negative_ids) if one not in played]
    items.insert(
        place, {"role": "music", "content": spare[0] if spare else items[place]["content"]}
    )
    return json.dumps(items)


def _wrong_order(rng: random.Random, items: list[Item], piece: Piece) -> str:
    turns = [items[n : n + 3] for n in range(0, len(items), 3)]
    turn = rng.choice(turns[:-1])
    how = rng.randrange(4)
    if how == 0:
        turn.pop(0)
    elif how == 1:
        turn.pop(next(n for n, i in enumerate(turn) if i["role"] == "assistant"))
    elif how == 2:
        turn.insert(0, {"role": "user", "content": "Hello? Is anybody there?"})
    else:
        turn.append({"role": "assistant", "content": "And there is more where that came from."})
    return json.dumps([item for turn in turns for item in turn])


def _unknown_role(rng: random.Random, items: list[Item], piece: Piece) -> str:
    rng.choice(items)["role"] = rng.choice(["narrator", "system", "tool", "", "recommendation", 3])
    return json.dumps(items)


def _bad_message(rng: random.Random, items: list[Item], piece: Piece) -> str:
    item = _pick(rng, items, "user", "assistant")
    how = rng.randrange(3)
    if how == 0:
        del item["content"]
    elif how == 1:
        item["content"] = rng.choice([5, None, True, 1.5])
    else:
        items[items.index(item)] = rng.choice(["user", 7, None])
    return json.dumps(items)


def _two_lists(rng: random.Random, items: list[Item], piece: Piece) -> str:
    draft = json.dumps(items[: len(items) - 3])
    return f"Draft:\n{draft}\n\nFinal:\n{json.dumps(items)}"


def _repeated_text(rng: random.Random, items: list[Item], piece: Piece) -> str:
    said = [item for item in items if item["role"] == "assistant"]
    text = "This one has a steady beat and a warm sound that fits your wish."
    for item in rng.sample(said, max(2, len(said) // 2)):
        item["content"] = text
    return json.dumps(items)


def _unparsable(rng: random.Random, items: list[Item], piece: Piece) -> str:
    return rng.choice(
        [
            "I'm sorry, but I can't help with that.",
            "",
            "\n".join(f"{item['role']}: {item['content']}" for item in items),
            json.dumps(items)[:20],
            json.dumps({"error": "quota exceeded"}),
            "<think>" + json.dumps(items),
            json.dumps([item["content"] for item in items]),
        ]
    )


_LEAKED_TOKENS = (
    "<|audio-29|>", "<start_of_music>", "<|eot_id|>", "[INST]", "<end_of_music>", "</s>",
    "<|im_end|>", "<start_of_turn>", "<</SYS>>", "<|playlist-3|>",
)  # fmt: skip
_LEAKED_FORMATS = (
    '{"role": "user"', "assistant: ", "```", "[Track Name]", "music:", '"content": "', "{artist}",
    "[Insert title here]", "}, {",
)  # fmt: skip
_LEAKED_PROMPTS = (
    "negative set", "NEGATIVE SET", "the provided playlist", "pseudo caption", "tempo estimate",
    "As an AI language model", "the given playlist", "Metadata: ", "valid JSON",
)  # fmt: skip


def _append(rng: random.Random, text: str, pieces: Sequence[str]) -> str:
    one = rng.choice(pieces)
    return f"{one} {text}" if rng.random() < 0.5 or one.endswith(": ") else f"{text}\n{one} "


FAULTS: dict[str, Callable[[random.Random, list[Item], Piece], str]] = {
    "unparsable": _unparsable,
    "two_lists": _two_lists,
    "bad_message": _bad_message,
    "unknown_role": _unknown_role,
    "wrong_order": _wrong_order,
    "several_tracks": _several_tracks,
    "unknown_track": _unknown_track,
    "repeated_track": _repeated_track,
    "too_few_tracks": _too_few,
    "empty_text": _text_fault(lambda rng, text, piece: rng.choice(["", "  ", "\n"])),
    "text_too_short": _text_fault(lambda rng, text, piece: rng.choice([".", "a", "?"])),
    "text_too_long": _text_fault(
        lambda rng, text, piece: " ".join([text] + [f"{n} more words," for n in range(90)])
    ),
    "leaked_id": _text_fault(
        lambda rng, text, piece: f"{text} ({rng.choice(piece.track_ids + piece.negative_ids)})"
    ),
    "leaked_token": _text_fault(lambda rng, text, piece: _append(rng, text, _LEAKED_TOKENS)),
    "leaked_format": _text_fault(lambda rng, text, piece: _append(rng, text, _LEAKED_FORMATS)),
    "leaked_prompt": _text_fault(lambda rng, text, piece: _append(rng, text, _LEAKED_PROMPTS)),
    "control_characters": _text_fault(
        lambda rng, text, piece: text + rng.choice("\x00\x07\x1b\ufffd\ud83d\u202e\x7f")
    ),
    "repeated_text": _repeated_text,
}
