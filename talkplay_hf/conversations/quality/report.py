"""The quality report: conversations in figures that can be compared between datasets.

Counts, lengths and vocabulary in the terms of the paper's Table 1; distinct-n and near-duplicates;
which intents and modalities the language covers (paper 3.2); how much of the playlists is used; and
what became of the answers of a language model.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.catalog.statistics import dialogue_figures
from talkplay_hf.conversations.quality.coverage import Coverage, share
from talkplay_hf.conversations.quality.diversity import (
    PERMUTATIONS,
    SHINGLE,
    THRESHOLD,
    WordTable,
    near_duplicates,
    words,
)
from talkplay_hf.conversations.quality.sampling import Reservoir, tracks_of
from talkplay_hf.errors import InputError, MissingExtraError

SAMPLE = 2_000
DISTINCT_SAMPLE = 1_000
NEAR_LIMIT = 200_000
SIZES = (1, 2, 3)
BINS = (5, 10, 15, 20, 25, 30, 40, 60, 100)
"""Upper bounds, in words, of the bars of the length histograms; the last bar is open."""


def quality_report(
    conversations: Iterable[Conversation],
    catalog: Catalog | None = None,
    *,
    seed: int = 0,
    sample: int = SAMPLE,
    near_limit: int = NEAR_LIMIT,
    synthesis: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure conversations.

    Lengths, counts, distinct-n and exact duplicates are of all conversations. Intents and
    modalities are read from a random sample, and distinct-n is given for a sample of a fixed size
    beside, since it falls as texts are added. Sample sizes are part of the report.

    Args:
        conversations (`Iterable[Conversation]`): The conversations; they are read once.
        catalog (`Catalog`, *optional*): Their catalog. Without it, no text is compared with the
            fields of its track, and the used share of the playlists is not known.
        seed (`int`): Draws the samples and the hash functions.
        sample (`int`): Conversations of which intents and modalities are read.
        near_limit (`int`): Conversations among which near-duplicates are looked for at most.
        synthesis (`Mapping[str, Any]`, *optional*): `SynthesisReport.to_dict()`; it becomes a part
            of this report, with its rates by reason.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: JSON values. A share that cannot be had is `None`. Without `datasketch`,
        `duplicates` has no near-duplicate share, but says which extra brings it.

    Raises:
        InputError: If `sample` or `near_limit` is not positive.
    """
    for name, value in (("sample", sample), ("near_limit", near_limit)):
        if value < 1:
            raise InputError(f"{name} {value}: must be 1 or more")
    rng = np.random.default_rng(seed)
    counts = _Counts(Reservoir(max(sample, DISTINCT_SAMPLE), rng))
    train, test = dialogue_figures(counts.watch(conversations))
    kept = counts.sample.draw()
    chosen = kept[:sample]
    coverage = Coverage(tracks_of(chosen, catalog))
    for number, conversation in enumerate(chosen, 1):
        coverage.add(conversation)
        if progress is not None and (number % 50 == 0 or number == len(chosen)):
            progress("reading a sample", number, len(chosen))
    return {
        "conversations": counts.conversations(),
        "table_1": {"train": asdict(train), "test": asdict(test)},
        "turns": _described(counts.turns),
        "user_words": _described(counts.lengths["user"], BINS),
        "assistant_words": _described(counts.lengths["assistant"], BINS),
        "diversity": {
            **_diversity(counts.words),
            "sample": _sampled_diversity(kept[:DISTINCT_SAMPLE]),
            "distinct_user_messages": counts.distinct_messages("user"),
            "distinct_replies": counts.distinct_messages("assistant"),
        },
        "duplicates": _duplicates(counts.texts, near_limit, rng, seed),
        "music": counts.music(catalog),
        "sampled": len(chosen),
        "intents": coverage.intents(),
        "modalities": coverage.modalities(),
        "naming": coverage.naming(),
        "rejects": None if synthesis is None else _reject_rates(synthesis),
        "synthesis": None if synthesis is None else dict(synthesis),
    }


def _reject_rates(synthesis: Mapping[str, Any]) -> dict[str, Any]:
    """Shares of a synthesis: of pieces that are kept, and of what was wrong, by reason.

    `first_answers` is of the pieces that were asked, `answers` of all answers, `quarantined` of all
    pieces, `intents_found` of the conversations whose prompt asked for the intent.
    """
    pieces = synthesis.get("pieces", 0)
    asked = pieces - synthesis.get("attempts", {}).get("0", 0)

    def shares(name: str, whole: int) -> dict[str, float | None]:
        return {reason: share(n, whole) for reason, n in synthesis.get(name, {}).items()}

    return {
        "kept": share(synthesis.get("kept", 0), pieces),
        "repaired": share(synthesis.get("repaired", 0), synthesis.get("kept", 0)),
        "first_answers": shares("first_reasons", asked),
        "answers": shares("refused", synthesis.get("calls", 0)),
        "quarantined": shares("final_reasons", pieces),
        "intents_found": {
            name: share(synthesis.get("intents_found", {}).get(name, 0), asked_for)
            for name, asked_for in synthesis.get("intents_asked", {}).items()
        },
    }


class _Counts:
    """Counts conversations as they pass, and keeps a sample of them."""

    def __init__(self, sample: Reservoir) -> None:
        self.sample = sample
        self._splits: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._messages: dict[str, set[int]] = {"user": set(), "assistant": set()}
        self._used: dict[str, set[str]] = {}
        self._from_playlist: Counter[tuple[str, int]] = Counter()
        self.total = 0
        self.turns: Counter[int] = Counter()
        self.lengths: dict[str, Counter[int]] = {"user": Counter(), "assistant": Counter()}
        self.words = WordTable()
        self.texts: list[str] = []

    def watch(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """Count the conversations and hand them on."""
        for conversation in conversations:
            self._add(conversation)
            yield conversation

    def _add(self, conversation: Conversation) -> None:
        self.sample.add(conversation)
        self.total += 1
        self._splits[conversation.split] += 1
        self._languages[conversation.language or "unknown"] += 1
        played: set[str] = set()
        turns = 0
        for message in conversation.messages:
            if message.role == "music":
                turns += 1
                self._sources[message.source or "unknown"] += 1
                if message.source != "negative" and message.track_id is not None:
                    played.add(message.track_id)
            elif message.role in self.lengths:
                self.lengths[message.role][len(message.content.split())] += 1
                self._messages[message.role].add(hash(message.content))
                self.words.add(message.content)
        self.turns[turns] += 1
        self.texts.append(_text(conversation))
        if conversation.playlist_id is not None:
            self._used.setdefault(conversation.playlist_id, set()).update(played)
            self._from_playlist[conversation.playlist_id, len(played)] += 1

    def conversations(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "by_split": dict(sorted(self._splits.items())),
            "by_language": dict(sorted(self._languages.items())),
        }

    def distinct_messages(self, role: str) -> float | None:
        """Distinct messages of a role over all of them."""
        return share(len(self._messages[role]), self.lengths[role].total())

    def music(self, catalog: Catalog | None) -> dict[str, Any]:
        """Where the tracks come from, and how much of the playlists is used.

        `playlist_per_conversation` is the mean share of its playlist that a conversation plays,
        `playlist_together` that of all conversations of a playlist together.
        """
        sizes: dict[str, int] = {}
        together: list[float] = []
        for playlist in catalog.iter_playlists() if catalog is not None else ():
            tracks = set(playlist.track_ids)
            if tracks and playlist.playlist_id in self._used:
                sizes[playlist.playlist_id] = len(tracks)
                used = self._used[playlist.playlist_id] & tracks
                together.append(len(used) / len(tracks))
        shares = [
            (count, played / sizes[playlist_id])
            for (playlist_id, played), count in self._from_playlist.items()
            if playlist_id in sizes
        ]
        matched = sum(count for count, _ in shares)
        return {
            "tracks_played": self._sources.total(),
            "negative": share(self._sources["negative"], self._sources.total()),
            "playlists": len(self._used),
            "playlist_per_conversation": share(
                sum(count * min(1.0, played) for count, played in shares), matched
            ),
            "playlist_together": share(sum(together), len(together)),
        }


def _text(conversation: Conversation) -> str:
    """All that is said in a conversation."""
    said = (m.content for m in conversation.messages if m.role in ("user", "assistant"))
    return "\n".join(said)


def _diversity(table: WordTable) -> dict[str, Any]:
    return {
        "words": table.total,
        "vocabulary": table.vocabulary,
        "distinct": {str(n): table.distinct(n) for n in SIZES},
    }


def _sampled_diversity(conversations: Sequence[Conversation]) -> dict[str, Any]:
    table = WordTable()
    for message in (message for one in conversations for message in one.messages):
        if message.role in ("user", "assistant"):
            table.add(message.content)
    return {"conversations": len(conversations), **_diversity(table)}


def _duplicates(
    texts: Sequence[str], limit: int, rng: np.random.Generator, seed: int
) -> dict[str, Any]:
    """Shares of the conversations that another one repeats, in the same words or nearly so."""
    same = Counter(hash(tuple(words(text))) for text in texts)
    found: dict[str, Any] = {
        "exact": share(sum(count for count in same.values() if count > 1), len(texts)),
        "near": None,
        "compared": min(limit, len(texts)),
        "threshold": THRESHOLD,
        "permutations": PERMUTATIONS,
        "shingle_words": SHINGLE,
        "note": "share of conversations with a near-duplicate among those compared; each pair is "
        "checked by the Jaccard similarity of its word shingles",
    }
    chosen: Sequence[str] = texts
    if len(texts) > limit:
        chosen = [texts[at] for at in np.sort(rng.choice(len(texts), limit, replace=False))]
    try:
        near = near_duplicates(chosen, seed=seed)
    except MissingExtraError as error:
        return found | {"note": str(error), "compared": 0}
    return found | {"near": float((near >= 0).mean()) if len(near) else None}


def _described(counts: Counter[int], bins: Sequence[int] | None = None) -> dict[str, Any]:
    """Mean, quantiles and histogram of whole numbers that are given as counts."""
    total = counts.total()
    if not total:
        return {"mean": None, "median": None, "p95": None, "max": None, "histogram": {}}
    values = np.array(sorted(counts))
    weights = np.array([counts[value] for value in values.tolist()])
    reached = np.cumsum(weights) / total
    histogram: dict[str, int] = {}
    if bins is None:
        histogram = {str(value): counts[value] for value in values.tolist()}
    else:
        for low, high in zip((0, *(bound + 1 for bound in bins)), (*bins, None), strict=True):
            name = f"{low}-{high}" if high is not None else f"{low}+"
            inside = (values >= low) & (values <= high if high is not None else True)
            histogram[name] = int(weights[inside].sum())
    return {
        "mean": float((values * weights).sum() / total),
        "median": int(values[np.searchsorted(reached, 0.5)]),
        "p95": int(values[np.searchsorted(reached, 0.95)]),
        "max": int(values[-1]),
        "histogram": histogram,
    }
