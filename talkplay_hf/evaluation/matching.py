"""How often sampled tokens name a track: the matching analysis (paper 5.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import InputError
from talkplay_hf.recommend.lookup.counts import count_matches
from talkplay_hf.recommend.options import CONSTRAINTS
from talkplay_hf.recommend.recommender import Recommender

PAPER_EXACT = 0.497


@dataclass(frozen=True)
class MatchingReport:
    """Rates over sampled generations.

    Args:
        samples (`int`): Generations per constraint.
        seed (`int`): Seed of the first one.
        well_formed (`dict[str, float]`): By constraint: share with a well-formed music block,
            whether or not a track matched, and no other.
        exact (`dict[str, float]`): By constraint: share whose five codes are those of a track.
        independent (`float`): Chance that five codes drawn independently from the marginals of the
            grammar-constrained samples that found a track are those of a track.
        matches (`dict[str, dict[str, Any]]`): By constraint, where a catalog was given: how many
            samples matched a track exactly, in part by the modalities that match, and in nothing,
            each apart for warm tracks and cold ones; how many different tracks that are, and how
            many there are.
    """

    samples: int
    seed: int
    well_formed: dict[str, float]
    exact: dict[str, float]
    independent: float
    matches: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """The report as a text table."""
        lines = [f"{self.samples:,} sampled generations each  well-formed  exact match"]
        for name in self.exact:
            lines.append(f"  {name:<28} {self.well_formed[name]:>11.3f}  {self.exact[name]:>11.3f}")
        lines.append(f"  {'independent marginals':<28} {'':>11}  {self.independent:>11.2g}")
        lines.append(f"  {'the paper, no constraint':<28} {'':>11}  {PAPER_EXACT:>11.3f}")
        if self.matches:
            lines.append(
                "warm (in training) share of exact matches, of tracks reached  warm / cold"
            )
        for name, found in self.matches.items():
            exact, reached, tracks = found["exact"], found["distinct"], found["tracks"]
            shares = " / ".join(
                f"{reached[kind] / tracks[kind]:.3f}" if tracks[kind] else "-" for kind in exact
            )
            total = sum(exact.values())
            lines.append(f"  {name:<28} {exact['warm'] / max(total, 1):>11.3f}  {shares}")
            for names, split in found["partial"].items():
                count = sum(split.values())
                lines.append(f"    in part, by {names:<44} {count / self.samples:.3f}")
        return "\n".join(lines)


def matching(
    recommender: Recommender,
    conversations: Sequence[Conversation],
    *,
    samples: int = 1000,
    seed: int = 0,
    catalog: Catalog | None = None,
) -> MatchingReport:
    """Sample answers without constraint, with the grammar, and within the catalogue.

    Args:
        recommender (`Recommender`): The recommender.
        conversations (`Sequence[Conversation]`): Their turns are the prompts, in order, repeated
            with other seeds until there are enough.
        samples (`int`): Generations per constraint.
        seed (`int`): Seed of the first generation.
        catalog (`Catalog`, *optional*): The catalogue with its playlists, which tell what is warm.

    Raises:
        InputError: If there is no turn to sample from.
    """
    histories: list[tuple[Message, ...]] = []
    for conversation in conversations:
        for at, message in enumerate(conversation.messages):
            if message.role == "user":
                histories.append(conversation.messages[: at + 1])
    if not histories:
        raise InputError("the conversations have no user message to sample an answer to")
    well_formed: dict[str, float] = {}
    exact: dict[str, float] = {}
    drawn: dict[str, list[tuple[int, ...]]] = {}
    with tqdm(total=len(CONSTRAINTS) * samples, desc="matching", disable=None) as bar:
        for constraint in reversed(CONSTRAINTS):
            formed = matched = 0
            drawn[constraint] = []
            for number in range(samples):
                answer = recommender.chat(
                    histories[number % len(histories)],
                    constraint=constraint,
                    exclude_played=False,
                    max_new_tokens=1,
                    seed=seed + number,
                )
                formed += answer.blocks > 0 and not answer.malformed
                whole = bool(answer.matched) and len(answer.matched[0]) == len(answer.codes[0])
                matched += whole
                drawn[constraint] += answer.codes[:1]
                bar.update()
            well_formed[constraint] = formed / samples
            exact[constraint] = matched / samples
    chance = _independent(recommender, drawn["grammar"])
    matches = {} if catalog is None else _matches(recommender, drawn, catalog, seed)
    return MatchingReport(samples, seed, well_formed, exact, chance, matches)


def _matches(
    recommender: Recommender,
    drawn: Mapping[str, Sequence[tuple[int, ...]]],
    catalog: Catalog,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """What the samples of each constraint matched, for warm tracks and cold ones."""
    cold = {catalog.track_ids[row] for row in np.flatnonzero(cold_tracks(catalog))}
    warm = np.array([track_id not in cold for track_id in recommender.track_ids], dtype=bool)
    names = recommender.tokenizer.config.modalities
    found = {}
    for constraint, codes in drawn.items():
        queries = np.asarray(codes, dtype=np.int64).reshape(-1, len(names))
        rng = np.random.default_rng(seed)
        counts = asdict(count_matches(recommender.lookup, queries, warm, rng=rng))
        counts["partial"] = {
            " + ".join(names[m] for m in subset): split
            for subset, split in counts["partial"].items()
        }
        found[constraint] = counts
    return found


def _independent(recommender: Recommender, drawn: Sequence[tuple[int, ...]]) -> float:
    """Sum over the catalogue's distinct tuples of the product of the marginals."""
    if not drawn:
        return 0.0
    tuples = np.unique([recommender.codes(track_id) for track_id in recommender.track_ids], axis=0)
    codes = np.asarray(drawn)
    chance = np.ones(len(tuples))
    for m in range(codes.shape[1]):
        counts = np.bincount(codes[:, m], minlength=int(tuples[:, m].max()) + 1)
        chance *= counts[tuples[:, m]] / len(codes)
    return float(chance.sum())
