"""What the simulator does how often."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from talkplay_hf.conversations.simulation.phrasing import languages
from talkplay_hf.errors import ConfigError
from talkplay_hf.hub.files import read_yaml

KINDS = {
    "artist": 2.6, "genre": 1.0, "mood": 1.0, "era": 2.0, "tempo": 0.7, "theme": 0.6, "sound": 0.7,
    "album": 0.25, "popularity": 0.4,
}  # fmt: skip


@dataclass(frozen=True)
class SimulatorOptions:
    """How long simulated conversations are, and what happens in them how often.

    Args:
        turns (`tuple[int, int]`): Fewest and most tracks of a playlist in one conversation.
        languages (`tuple[str, ...]`): Languages to write in, equally often; each conversation is
            in one.
        title_share (`float`): Share of the replies that name the title beside the artist. A small
            model cannot learn every title by heart and would name wrong ones; at 0, no user asks
            for a title either.
        variety (`float`): Share of the phrases for each purpose that is used, the plainest first.
        conditions (`tuple[float, ...]`): Share of the requests with one condition, two, three, ...
        kinds (`Mapping[str, float]`): How often a condition is about what: weights by the kinds of
            `Attribute`.
        negative (`float`): Share of the tracks before which the user rejects another one, from
            outside the playlist (the negative set of paper A.1).
        correction (`float`): Share of the requests that the user puts right in the same breath, and
            of the rejected tracks that were due to a slip of the user.
        standing (`float`): Share of the later requests that go on from what was asked for or
            played before, where the next track allows it: more of it, one condition more, one less,
            another in place of one, or some of it said again with something new.
        relative (`float`): Share of the later requests in relation to the last track: faster,
            older, not this artist. The requests that are neither turn to something else.
        exclusion (`float`): Share of the new requests that also say what is not wanted.
        similar (`float`): Share of the new requests for something like an artist or a track.
        track (`float`): Share of the new requests for one track by its title.
        activity (`float`): Share of the new requests that say what the music is for.
        question (`float`): Share of the later requests with a question about the last track.
        reaction (`float`): Share of the later requests that say how the last track was.
        small_talk (`float`): Share of the first requests with a greeting, a thank you or a word
            about the day.
        chatty_reply (`float`): Share of the replies with a further fact or an offer.
        held_out_phrases (`float`): Share of the phrases for each purpose that only conversations of
            the split test are written with, and those of no other.
        introductions (`float`): Share of the conversations that introduce tracks of the catalog,
            whether or not a playlist has them, see `Introductions`. They train.
        introduce_cold (`bool`): Whether cold tracks are introduced too: the model then learns what
            they are called, and still nothing of who listens to them.

    Raises:
        ConfigError: If a value is impossible, or a language or a kind is unknown.
    """

    turns: tuple[int, int] = (1, 6)
    languages: tuple[str, ...] = ("en",)
    title_share: float = 1.0
    variety: float = 1.0
    conditions: tuple[float, ...] = (0.45, 0.33, 0.16, 0.06)
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(KINDS))
    negative: float = 0.15
    correction: float = 0.08
    standing: float = 0.7
    relative: float = 0.18
    exclusion: float = 0.1
    similar: float = 0.06
    track: float = 0.04
    activity: float = 0.2
    question: float = 0.12
    reaction: float = 0.35
    small_talk: float = 0.35
    chatty_reply: float = 0.3
    held_out_phrases: float = 0.0
    introductions: float = 0.0
    introduce_cold: bool = True

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)}: must be between 0 and 1")
        if self.introductions == 1:
            raise ConfigError("introductions 1: must leave room for conversations")
        if self.standing + self.relative > 1 or self.similar + self.track > 1:
            raise ConfigError("standing + relative, and similar + track, must be at most 1")
        if len(self.turns) != 2 or not 1 <= self.turns[0] <= self.turns[1]:
            raise ConfigError(f"turns {self.turns}: must be two numbers, at least 1, in order")
        if not self.conditions or min(self.conditions) < 0 or not sum(self.conditions):
            raise ConfigError(f"conditions {self.conditions}: must be shares, not all 0")
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ConfigError(f"kinds: unknown {', '.join(unknown)}; known: {', '.join(KINDS)}")
        if any(weight < 0 for weight in self.kinds.values()):
            raise ConfigError("kinds: a weight must be at least 0")
        known = languages()
        if not self.languages or not set(self.languages) <= set(known):
            raise ConfigError(f"languages {self.languages}: must be among {', '.join(known)}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "SimulatorOptions":
        """Read options from a mapping, such as one from a YAML or JSON file.

        Raises:
            ConfigError: If a name is unknown or a value impossible.
        """
        known = {option.name for option in fields(cls)}
        if unknown := sorted(set(map(str, values)) - known):
            raise ConfigError(
                f"the simulator has no option {', '.join(unknown)}; it has "
                f"{', '.join(sorted(known))}"
            )
        made: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        try:
            return cls(**made)
        except TypeError as error:
            raise ConfigError(f"simulator options: a value of the wrong type ({error})") from None

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON values, as a manifest records them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def load(cls, path: str | Path) -> "SimulatorOptions":
        """Read options from a YAML file.

        Raises:
            ConfigError: If the file cannot be read as a mapping of options.
        """
        values = read_yaml(path, "simulator options by name")
        try:
            return cls.from_mapping(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


_SHARES = (
    "title_share", "variety", "negative", "correction", "standing", "relative", "exclusion",
    "similar", "track", "activity", "question", "reaction", "small_talk", "chatty_reply",
    "held_out_phrases", "introductions",
)  # fmt: skip
