"""How a chat is answered and how tracks are ranked."""

from dataclasses import dataclass

from talkplay_hf.errors import InputError
from talkplay_hf.recommend.rules import Rules
from talkplay_hf.recommend.values import check_flag, check_positive, whole_number
from talkplay_hf.tokens.config import TEMPERATURE, TOP_P

CONSTRAINTS = ("catalog", "grammar", "none")
STRATEGIES = ("sample", "rank")
RANKINGS = ("beam", "exact", "sampling", "expansion")
REPLY_TOKENS = 96
BEAM_WIDTH = 256
DRAWS = 100
# added to the score of a track that a request names: no log-probability of a block is so low
NAMED = 10_000.0


@dataclass(frozen=True)
class ChatOptions:
    """How a chat is answered.

    Args:
        tracks (`int`): Tracks an answer plays; fewer where no more are left, or where its blocks
            match none.
        constraint (`str`): `"catalog"` allows only tokens that lead to a track, `"grammar"` only
            well-formed blocks, `"none"` anything (as in the paper).
        strategy (`str`): `"sample"` as in the paper; `"rank"` plays the most probable track and
            replies greedily (always within the catalogue).
        exclude_played (`bool`): Leave out tracks that the chat has played.
        rules (`Rule`, `Constraint`, `str`, `Callable`, or a sequence of them): What every track has
            to meet, such as `"year >= 1990"`, see `as_rule`.
        temperature (`float`): Sampling temperature (paper: 1.0).
        top_p (`float`): Nucleus (paper: 0.9).
        max_new_tokens (`int`): Length limit of the reply.
        names (`bool`): Choose among the tracks that the last message names by artist, title or
            album, as long as any of them may be played.

    Raises:
        InputError: If a value is impossible.
    """

    tracks: int = 1
    constraint: str = "catalog"
    strategy: str = "sample"
    exclude_played: bool = True
    rules: Rules = ()
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    max_new_tokens: int = REPLY_TOKENS
    names: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tracks", whole_number("tracks", self.tracks, 1))
        check_flag("exclude_played", self.exclude_played)
        check_flag("names", self.names)
        most = whole_number("max_new_tokens", self.max_new_tokens, 0)
        object.__setattr__(self, "max_new_tokens", most)
        check_positive("temperature", self.temperature)
        check_positive("top_p", self.top_p, 1)
        _check_choice("constraint", self.constraint, CONSTRAINTS)
        _check_choice("strategy", self.strategy, STRATEGIES)


@dataclass(frozen=True)
class RankingOptions:
    """How tracks are ranked.

    Args:
        strategy (`str`): `"beam"`: the best blocks of a beam search. `"exact"`: every track by the
            probability of its block, the best `k` of them found without scoring them all.
            `"sampling"`: distinct sampled blocks, by their probability. `"expansion"`: one sampled
            block, and all tracks by what they share with it (the weights of paper 4.4).
        constraint (`str`): What a block may be: `"catalog"` one that leads to an allowed track,
            `"grammar"` any well-formed one, `"none"` any tokens (as in the paper). Blocks of the
            latter two are looked up. `"exact"` is about tracks and knows only `"catalog"`.
        beam_width (`int`): Beams of `"beam"`; at least `k` are taken.
        draws (`int`): Blocks that `"sampling"` draws.
        temperature (`float`): Sampling temperature (paper: 1.0).
        top_p (`float`): Nucleus (paper: 0.9).
        names (`bool`): Rank the tracks that the last message of a chat names by artist, title or
            album before all others, as far as the strategy finds them. Their scores are `NAMED`
            higher, so that they stay first for whoever sorts by score.

    Raises:
        InputError: If a value is impossible.
    """

    strategy: str = "beam"
    constraint: str = "catalog"
    beam_width: int = BEAM_WIDTH
    draws: int = DRAWS
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    names: bool = False

    def __post_init__(self) -> None:
        _check_choice("strategy", self.strategy, RANKINGS)
        _check_choice("constraint", self.constraint, CONSTRAINTS)
        if self.strategy == "exact" and self.constraint != "catalog":
            raise InputError('the strategy "exact" ranks tracks: its constraint is "catalog"')
        for name in ("beam_width", "draws"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        check_positive("temperature", self.temperature)
        check_positive("top_p", self.top_p, 1)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} {value!r:.60}: must be one of {choices}")
