"""The prompt that asks a language model for a conversation about a piece (paper 3.2, A.1).

The rules are those of the paper's appendix A.1 in other words. They stand in `prompt.jinja`; a file
of the user's own can take its place.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkplay_hf.catalog.schema import Track
from talkplay_hf.conversations.checks.verdict import Problem
from talkplay_hf.conversations.intents import taxonomy
from talkplay_hf.conversations.llm.language_model import Chat
from talkplay_hf.conversations.pieces import Piece, check_count
from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.hub import files

if TYPE_CHECKING:
    from jinja2 import Template

LABELS = ("id", "number")
ANSWERS = MESSAGES, TURNS = ("messages", "turns")
VARIABLES = frozenset({"tracks", "negatives", "intents", "language", "least", "turns", "answer"})
# longest values of the catalog in a prompt, in characters
LONGEST_NAME, LONGEST_TAG, LONGEST_CAPTION = 200, 60, 600
# longest parts of a chat that asks again
LONGEST_ANSWER, LONGEST_PROBLEM, MOST_PROBLEMS = 12_000, 300, 8
# raised with whatever code here changes the text of a prompt
_VERSION = 1
_CONTROL_TOKEN = re.compile(r"<(?=[|/_A-Za-z])|\|(?=>)")
# control characters, half characters, and marks that turn the direction of writing
_NO_TEXT = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True)
class PromptOptions:
    """What a prompt tells, and asks for.

    Args:
        lyrics (`int`): Most characters of lyrics a track; 0 leaves them out.
        tags (`int`): Most tags a track; 0 leaves them out.
        language (`str`): The language of the conversation, in English (`"Korean"`).
        labels (`str`): What stands for a track: `"id"`, its id, as in the paper, or `"number"`:
            `p1`, `p2`, ... for the tracks and `n1`, ... for the negative set. Numbers take
            fewer tokens, and a small model copies them without a slip.
        turns (`int`, *optional*): Most turns to ask for, but never fewer than half of the tracks
            of a piece, which are to be played.
        answer (`str`): What an answer is made of: `"messages"`, a list of objects with `role` and
            `content`, as in the paper, or `"turns"`, an object with a list of turns, which a model
            can be held to by a JSON schema and which takes fewer tokens.

    Raises:
        ConfigError: If a value is impossible.
    """

    lyrics: int = 300
    tags: int = 10
    language: str = "English"
    labels: str = "id"
    turns: int | None = None
    answer: str = MESSAGES

    def __post_init__(self) -> None:
        counts = {"lyrics": 0, "tags": 0} | ({} if self.turns is None else {"turns": 1})
        for name, least in counts.items():
            check_count(name, getattr(self, name), least)
        for name, known in (("labels", LABELS), ("answer", ANSWERS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} {getattr(self, name)!r}: must be one of {known}")
        if not flat(self.language, LONGEST_TAG):
            raise ConfigError("language: is empty; name one, such as 'English'")


@dataclass(frozen=True)
class Prompt:
    """A prompt template with its options.

    A template is Jinja, rendered in a sandbox. It may use `tracks` and `negatives` (lists of
    objects with `label`, and `facts`: name to text, of what is known of the track), `intents`
    (objects with `name`, `kind`, `description` and `example`), `language`, `least` (how many tracks
    of the piece are to be played), `turns` (at most how many turns, or none) and `answer` (what an
    answer is made of, see `PromptOptions`).

    Args:
        template (`str`): The text of the template.
        options (`PromptOptions`): The options.
        name (`str`): What error messages call the template.

    Raises:
        ConfigError: If the template is not valid, or uses a variable that there is not.
    """

    template: str
    options: PromptOptions = field(default_factory=PromptOptions)
    name: str = "prompt.jinja"

    def __post_init__(self) -> None:
        _ = self._compiled

    @classmethod
    def load(cls, path: str | Path | None = None, options: PromptOptions | None = None) -> "Prompt":
        """Read the prompt of the package, or one of the user's own.

        Args:
            path (`str` or `Path`, *optional*): A Jinja file.
            options (`PromptOptions`, *optional*): The options.

        Raises:
            InputError: If the file cannot be read.
            ConfigError: If the template is not valid.
        """
        source = Path(__file__).with_name("prompt.jinja") if path is None else Path(path)
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: the prompt file cannot be read ({error})") from None
        return cls(text, options or PromptOptions(), name=source.name)

    @cached_property
    def sha256(self) -> str:
        """The identity of the prompt: SHA-256 of the template, the options and the taxonomy."""
        told = {name: asdict(intent) for name, intent in taxonomy().items()}
        return files.sha256_json([_VERSION, self.template, asdict(self.options), told])

    def labels(self, piece: Piece) -> dict[str, str]:
        """What stands for each track in the prompt: label to track id."""
        if self.options.labels == "id":
            return {track_id: track_id for track_id in (*piece.track_ids, *piece.negative_ids)}
        wanted = {f"p{number}": track_id for number, track_id in enumerate(piece.track_ids, 1)}
        return wanted | {f"n{number}": one for number, one in enumerate(piece.negative_ids, 1)}

    def with_ids(self, text: str, piece: Piece) -> str:
        """An answer with the ids of the tracks in place of their labels, so that it can be judged.

        A label that slipped into what somebody says becomes an id as well, and is found there like
        any other id.
        """
        if self.options.labels == "id":
            return text
        labels = {
            label: json.dumps(track_id, ensure_ascii=False)[1:-1]
            for label, track_id in self.labels(piece).items()
        }
        return re.sub(r"\b[pn][1-9]\d*\b", lambda found: labels.get(found[0], found[0]), text)

    def chat(self, piece: Piece, tracks: Mapping[str, Track]) -> list[dict[str, str]]:
        """The chat that asks for a conversation: one user message, which every model takes.

        Args:
            piece (`Piece`): The piece.
            tracks (`Mapping[str, Track]`): Its tracks by id, those of the negative set too.

        Raises:
            InputError: If a track is missing, an id cannot stand in a prompt, or an intent is not
                in the taxonomy.
            ConfigError: If the template fails on this piece.
        """
        from jinja2 import TemplateError

        negatives = frozenset(piece.negative_ids)
        blocks: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for label, track_id in self.labels(piece).items():
            if track_id not in tracks:
                raise InputError(f"piece {piece.piece_id!r}: no track {track_id!r} was given")
            if flat(label, LONGEST_NAME) != label:
                raise InputError(
                    f"the track id {track_id!r} cannot stand in a prompt; use labels 'number'"
                )
            facts = track_facts(tracks[track_id], self.options)
            blocks[track_id in negatives].append({"label": label, "facts": facts})
        for name in piece.intents:
            if name not in taxonomy():
                raise InputError(f"piece {piece.piece_id!r}: the taxonomy has no intent {name!r}")
        least, most = self._turns(piece)
        try:
            text = self._compiled.render(
                tracks=blocks[False],
                negatives=blocks[True],
                intents=[taxonomy()[name] for name in piece.intents if name != "open"],
                language=flat(self.options.language, LONGEST_TAG),
                least=least,
                turns=None if self.options.turns is None else most,
                answer=self.options.answer,
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(f"{self.name}: fails on piece {piece.piece_id!r}: {error}") from None
        return [{"role": "user", "content": text}]

    def schema(self, piece: Piece) -> dict[str, Any] | None:
        """The JSON schema of an answer, with the tracks that it may play; `None` unless answers are
        made of turns.

        It holds a model to the form and to tracks of the piece. That no track comes twice and that
        texts are true cannot be said by a schema.

        Args:
            piece (`Piece`): The piece.
        """
        if self.options.answer != TURNS:
            return None
        least, most = self._turns(piece)
        text = {"type": "string"}
        turn = {"user": text, "music": text | {"enum": [*self.labels(piece)]}, "assistant": text}
        turns = {"type": "array", "minItems": least, "maxItems": most, "items": _closed(turn)}
        return _closed({"turns": turns})

    def _turns(self, piece: Piece) -> tuple[int, int]:
        """Fewest and most turns of a conversation about a piece."""
        least = math.ceil(len(piece.track_ids) / 2)
        every = len(piece.track_ids) + len(piece.negative_ids)
        return least, every if self.options.turns is None else max(self.options.turns, least)

    def again(
        self, chat: Chat, answer_text: str, problems: Sequence[Problem], piece: Piece
    ) -> list[dict[str, str]]:
        """The chat that tells a model what was wrong with its answer, and asks once more.

        Args:
            chat (`Chat`): The chat that was answered.
            answer_text (`str`): The answer, as it came.
            problems (`Sequence[Problem]`): What is wrong with it; only the first few are told.
            piece (`Piece`): The piece; the problems name its tracks by the labels of the prompt.
        """
        labels = {one: label for label, one in self.labels(piece).items()}
        ids = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in labels) or r"\Z\A")
        told = []
        for problem in problems[:MOST_PROBLEMS]:
            detail = ids.sub(lambda found: labels[found[0]], problem.detail)
            told.append(f"- {flat(detail, LONGEST_PROBLEM)}")
        if len(problems) > MOST_PROBLEMS:
            told.append(f"- and {len(problems) - MOST_PROBLEMS} more of this kind")
        answer = _CONTROL_TOKEN.sub(lambda found: f"{found[0]} ", answer_text)
        if len(answer) > LONGEST_ANSWER:
            answer = f"{answer[:LONGEST_ANSWER]} [...]"
        whole = "object" if self.options.answer == TURNS else "list"
        request = "\n".join(
            [
                "This answer cannot be used:",
                *told,
                "Write the whole dialogue again by the rules above, with this put right. Answer "
                f"with the complete JSON {whole} and nothing else.",
            ]
        )
        return [
            *(dict(message) for message in chat),
            # some servers refuse an empty message
            {"role": "assistant", "content": answer if answer.strip() else "[]"},
            {"role": "user", "content": request},
        ]

    @cached_property
    def _compiled(self) -> "Template":
        from jinja2 import StrictUndefined, TemplateSyntaxError, meta
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        try:
            unknown = meta.find_undeclared_variables(environment.parse(self.template)) - VARIABLES
            compiled = environment.from_string(self.template)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{self.name}: line {error.lineno}: {error.message}") from None
        if unknown:
            raise ConfigError(
                f"{self.name}: unknown variable {', '.join(sorted(unknown))}; there are "
                f"{', '.join(sorted(VARIABLES))}"
            )
        return compiled


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these properties, each required, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def track_facts(track: Track, options: PromptOptions) -> dict[str, str]:
    """What a prompt tells of a track: name to one line of text; what is missing is left out.

    Args:
        track (`Track`): The track.
        options (`PromptOptions`): How much to tell.
    """
    tags = [flat(tag, LONGEST_TAG) for tag in track.tags[: options.tags]]
    facts = {
        "title": flat(track.title, LONGEST_NAME),
        "artist": flat(track.artist, LONGEST_NAME),
        "album": flat(track.album or "", LONGEST_NAME),
        "year": "" if track.year is None else f"{track.year}",
        "tags": ", ".join(tag for tag in tags if tag),
        "popularity": _figure(track.popularity),
        "lyrics": flat(track.lyrics or "", options.lyrics),
        "pseudo caption": flat(track.caption or "", LONGEST_CAPTION),
        "tempo": f"{tempo} beats per minute" if (tempo := _figure(track.tempo, 0)) else "",
        "key": flat(track.key or "", LONGEST_TAG),
    }
    return {name: value for name, value in facts.items() if value}


def flat(text: str, longest: int) -> str:
    """A text of a catalog as one line that cannot be taken for a part of the prompt.

    White space becomes single spaces; control characters and marks that turn the direction of
    writing are dropped; what looks like a control token of a chat (`<|...|>`, `</s>`) is broken up.
    A longer text ends before the last word that does not fit, with `...`.
    """
    text = _NO_TEXT.sub("", " ".join(text.split()))
    words = " ".join(_CONTROL_TOKEN.sub(lambda found: f"{found[0]} ", text).split())
    if len(words) <= longest:
        return words
    cut = words[: longest + 1].rpartition(" ")[0] or words[:longest]
    return f"{cut.rstrip()} ..." if longest else ""


def _figure(value: float | None, digits: int = 1) -> str:
    """A number without needless digits; empty where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    rounded = round(value, digits)
    return f"{int(rounded)}" if rounded == int(rounded) else f"{rounded}"
