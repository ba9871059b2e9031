"""What a recommender gives back."""

from dataclasses import dataclass

from talkplay_hf.catalog.schema import Track


@dataclass(frozen=True)
class ScoredTrack:
    """A place of a ranking.

    Args:
        track (`Track`): The track.
        score (`float`): Higher is better, equal is tied. The log-probability of the five tokens
            that led to the track, over the full vocabulary; with the strategy `"expansion"` minus
            the place of the modalities that it shares with the sampled block. `NAMED` higher for a
            track that the request names, where `RankingOptions.names` asks for these first.
        codes (`tuple[int, ...]`): The five codes that led to it.
        matched (`tuple[str, ...]`): Which modalities of the codes are the track's own; all of them
            in an exact match.
    """

    track: Track
    score: float
    codes: tuple[int, ...]
    matched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """An answer.

    Args:
        tracks (`tuple[Track, ...]`): The tracks, in the order the model played them.
        reply (`str`): The text that goes with them.
        codes (`tuple[tuple[int, ...], ...]`): The five codes that were generated, per track.
        scores (`tuple[float, ...]`): Log-probability of the five tokens after `<start_of_music>`
            over the full vocabulary, per track.
        matched (`tuple[tuple[str, ...], ...]`): Which modalities led to the track, per track; all
            five in an exact match.
        blocks (`int`): Well-formed music blocks that were generated, matched or not.
        malformed (`int`): Music blocks that were not well-formed; 0 unless `constraint="none"`.
    """

    tracks: tuple[Track, ...]
    reply: str
    codes: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...]
    matched: tuple[tuple[str, ...], ...]
    blocks: int = 0
    malformed: int = 0
