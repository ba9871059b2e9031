"""From what a model gives to blocks of music tokens to a ranking of tracks: four strategies.

The paper ranks 100 tracks a turn but does not say how they come about from sampling (6.1), so each
way has a name here.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from transformers import DynamicCache, LogitsProcessorList, PreTrainedModel

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.recommend.answers import ScoredTrack
from talkplay_hf.recommend.decoding import fallback
from talkplay_hf.recommend.decoding.beams import RankedCodes, beam_search, ranked_codes, search
from talkplay_hf.recommend.decoding.exact import TIE, rank_exactly
from talkplay_hf.recommend.decoding.frontier import Frontier
from talkplay_hf.recommend.decoding.sampling import SampledTokens, sample_blocks
from talkplay_hf.recommend.decoding.tree import TokenTree, why_unsupported
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.recommend.grammar.constraints import processors
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.recommend.options import BEAM_WIDTH, NAMED, RankingOptions
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex


class TrackRanker:
    """Ranks the tracks of a catalogue after prompts.

    Args:
        model (`PreTrainedModel`): The model; see `fallback` for one that `why_unsupported` names.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`): The catalogue.
        lookup (`WeightedLookup`): The catalogue, by code.
        catalog (`Catalog`): The tracks.
        codes (`np.ndarray` of shape `[n, modalities]`, int): Their codes.
        modalities (`Sequence[str]`): The modalities in order.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: MusicVocabulary,
        index: CatalogIndex,
        lookup: WeightedLookup,
        catalog: Catalog,
        codes: np.ndarray,
        modalities: Sequence[str],
    ) -> None:
        self._codes = codes
        self._model, self._vocabulary, self._index = model, vocabulary, index
        self._lookup, self._catalog, self._modalities = lookup, catalog, tuple(modalities)
        self._branches = why_unsupported(model) is None

    def rank(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        options: RankingOptions,
        masks: Sequence[np.ndarray],
        seeds: Sequence[int | None],
        named: Sequence[np.ndarray | None] | None = None,
    ) -> list[list[ScoredTrack]]:
        """The best tracks after each prompt, those that its request names before all others.

        Args:
            prompts (`Sequence[Sequence[int]]`): Ids up to where the answers begin.
            k (`int`): Tracks at least, where there are as many; a group of ties is completed.
            options (`RankingOptions`): How.
            masks (`Sequence[np.ndarray]`, each of shape `[n]`, bool): The tracks allowed, by
                prompt.
            seeds (`Sequence[int | None]`): Seeds of the draws, by prompt.
            named (`Sequence[np.ndarray | None]`, each of shape `[n]`, bool, *optional*): The named
                ones among the tracks allowed, by prompt; `None` where none is.
        """
        if named is None:
            return self._rank(prompts, [k] * len(prompts), options, masks, seeds)
        asked = [row for row, mask in enumerate(named) if mask is not None]
        found = self._rank(
            [prompts[row] for row in asked],
            [k] * len(asked),
            options,
            [mask for mask in named if mask is not None],
            [seeds[row] for row in asked],
        )
        rankings: list[list[ScoredTrack]] = [[] for _ in prompts]
        for row, ranked in zip(asked, found, strict=True):
            rankings[row] = [replace(one, score=one.score + NAMED) for one in ranked]
        left = [self._without(mask, first) for mask, first in zip(masks, rankings, strict=True)]
        short = [row for row, first in enumerate(rankings) if len(first) < k and left[row].any()]
        others = self._rank(
            [prompts[row] for row in short],
            [k - len(rankings[row]) for row in short],
            options,
            [left[row] for row in short],
            [seeds[row] for row in short],
        )
        for row, ranked in zip(short, others, strict=True):
            rankings[row] += ranked
        return rankings

    def _rank(
        self,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        options: RankingOptions,
        masks: Sequence[np.ndarray],
        seeds: Sequence[int | None],
    ) -> list[list[ScoredTrack]]:
        """The best tracks after each prompt, so many for each."""
        if not prompts:
            return []
        opened = [[*prompt, self._vocabulary.start] for prompt in prompts]
        counts = [min(count, self._index.tracks) for count in counts]
        k = max(counts)
        if options.strategy in ("sampling", "expansion"):
            drawn = [
                self._draw(prompt, options, mask, seed)
                for prompt, mask, seed in zip(prompts, masks, seeds, strict=True)
            ]
            if options.strategy == "expansion":
                return [self._expand(*one) for one in zip(drawn, counts, masks, strict=True)]
            ranked = [self._distinct(one) for one in drawn]
        elif options.strategy == "exact":
            ranked = self._exact(opened, k, masks)
        else:
            ranked = self._beams(opened, max(k, options.beam_width), options.constraint, masks)
        return [self._tracks(*one) for one in zip(ranked, counts, masks, strict=True)]

    def _without(self, mask: np.ndarray, ranked: Sequence[ScoredTrack]) -> np.ndarray:
        left = mask.copy()
        left[[self._catalog.row(one.track.track_id) for one in ranked]] = False
        return left

    def rank_and_go_on(
        self, prompt: Sequence[int], k: int, mask: np.ndarray, read: int, cache: DynamicCache | None
    ) -> tuple[list[ScoredTrack], DynamicCache | None]:
        """The best tracks after a prompt of which some was read, and the cache to go on from.

        Args:
            prompt (`Sequence[int]`): Ids up to where the answer begins.
            k (`int`): Tracks at least.
            mask (`np.ndarray` of shape `[n]`, bool): The tracks allowed.
            read (`int`): Tokens that are in the cache.
            cache (`DynamicCache`, *optional*): What was read.

        Returns:
            `tuple[list[ScoredTrack], DynamicCache | None]`: The tracks, and the cache of prompt and
            `<start_of_music>`; `None` where the model was run by `generate`.
        """
        if not self._branches:
            return self.rank([prompt], k, RankingOptions(), [mask], [None])[0], None
        opened = [*prompt, self._vocabulary.start]
        tree = TokenTree(self._model, cache)
        hidden = tree.read([opened[read:]])
        length = torch.tensor([[len(opened)]], device=tree.device)
        frontier = Frontier(tree, length, hidden[:, -1:])
        scores = search(
            frontier,
            torch.zeros_like(length),
            self._vocabulary,
            self._index,
            width=max(k, BEAM_WIDTH),
            allowed=Allowed.of(self._index, [mask]),
        )
        tree.forget(len(opened))
        found = ranked_codes(frontier, scores, self._vocabulary)[0]
        return self._tracks(found, k, mask), tree.cache

    def _beams(
        self,
        opened: list[list[int]],
        width: int,
        constraint: str,
        masks: Sequence[np.ndarray],
    ) -> list[RankedCodes]:
        inside = constraint == "catalog"
        allowed = Allowed.of(self._index, masks) if inside else None
        if self._branches:
            return beam_search(
                self._model,
                opened,
                self._vocabulary,
                self._index if inside else None,
                width=width,
                allowed=allowed,
                free=constraint == "none",
            )
        width = min(width, self._index.tracks) if inside else width
        return [
            fallback.generate_beams(
                self._model, prompt, self._vocabulary, self._rules(constraint, mask), width=width
            )
            for prompt, mask in zip(opened, masks, strict=True)
        ]

    def _exact(
        self, opened: list[list[int]], k: int, masks: Sequence[np.ndarray]
    ) -> list[RankedCodes]:
        allowed = Allowed.of(self._index, masks)
        if self._branches:
            return [
                *rank_exactly(
                    self._model, opened, self._vocabulary, self._index, k=k, allowed=allowed
                )
            ]
        ranked: list[RankedCodes] = []
        for prompt, mask in zip(opened, masks, strict=True):
            codes = np.unique(self._codes[mask], axis=0)
            scores = fallback.score_tuples(self._model, prompt, codes, self._vocabulary)
            order = np.argsort(-scores, kind="stable")
            ranked.append(RankedCodes(codes[order], scores[order]))
        return ranked

    def _draw(
        self, prompt: Sequence[int], options: RankingOptions, mask: np.ndarray, seed: int | None
    ) -> SampledTokens:
        draws = 1 if options.strategy == "expansion" else options.draws
        rng = np.random.default_rng(seed)
        if self._branches:
            return sample_blocks(
                self._model,
                prompt,
                self._vocabulary,
                draws=draws,
                rng=rng,
                temperature=options.temperature,
                top_p=options.top_p,
                constraint=options.constraint,
                index=self._index,
                allowed=Allowed.of(self._index, [mask]),
            )
        return fallback.sample_rows(
            self._model,
            prompt,
            self._vocabulary,
            self._rules(options.constraint, mask),
            draws=draws,
            free=options.constraint == "none",
            rng=rng,
            temperature=options.temperature,
            top_p=options.top_p,
        )

    def _rules(self, constraint: str, mask: np.ndarray) -> LogitsProcessorList:
        return processors(self._vocabulary, constraint, self._index, [mask])

    def _distinct(self, drawn: SampledTokens) -> RankedCodes:
        codes, whole = self._blocks(drawn)
        if not whole.any():
            return RankedCodes(codes[whole], drawn.scores[whole])
        distinct, first = np.unique(codes[whole], axis=0, return_index=True)
        scores = drawn.scores[whole][first]
        order = np.argsort(-scores, kind="stable")
        return RankedCodes(distinct[order], scores[order])

    def _blocks(self, drawn: SampledTokens) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the draws, and which draws are well-formed blocks."""
        words = self._vocabulary
        codes = drawn.tokens[:, 1:-1] - np.asarray(words.offsets[:-1])
        whole = (drawn.tokens[:, 0] == words.start) & (drawn.tokens[:, -1] == words.end)
        return codes, whole & self._in_range(codes)

    def _in_range(self, codes: np.ndarray) -> np.ndarray:
        sizes = np.diff(self._vocabulary.offsets)
        return np.asarray(((codes >= 0) & (codes < sizes)).all(1))

    def _expand(self, drawn: SampledTokens, k: int, mask: np.ndarray) -> list[ScoredTrack]:
        codes, whole = self._blocks(drawn)
        if not whole[0]:
            return []
        query = tuple(codes[0].tolist())
        asked = k
        found = self._lookup.top(query, asked, mask)
        while len(found.rows) == asked and found.groups[-1] == found.groups[k - 1]:
            # the last group of ties may go on
            asked *= 2
            found = self._lookup.top(query, asked, mask)
        names = self._catalog.track_ids
        last = found.groups[: min(k, len(found.groups))].max(initial=0)
        ranked = sorted(
            (group, names[row], row)
            for row, group in zip(found.rows.tolist(), found.groups.tolist(), strict=True)
            if group <= last
        )
        return [
            ScoredTrack(
                self._catalog.track_at(row),
                float(-group),
                query,
                self._names(self._lookup.subsets[group]),
            )
            for group, _, row in ranked
        ]

    def _tracks(self, ranked: RankedCodes, k: int, mask: np.ndarray) -> list[ScoredTrack]:
        """Look blocks up, best first, until there are `k` tracks."""
        found: list[tuple[int, str, float, int, tuple[int, ...], tuple[int, ...]]] = []
        seen: set[int] = set()
        group, best = 0, np.inf
        legal = self._in_range(ranked.codes)
        for codes, score in zip(ranked.codes[legal], ranked.scores[legal].tolist(), strict=True):
            if best - score > TIE:
                if len(found) >= k:
                    break
                group, best = group + 1, score
            query = tuple(codes.tolist())
            match = self._lookup.find(query, mask)
            for row in match.rows.tolist():
                if row not in seen:
                    seen.add(row)
                    name = self._catalog.track_ids[row]
                    found.append((group, name, score, row, query, match.modalities))
        # scores of a group differ by no more than the rounding of floats
        found.sort(key=lambda one: one[:2])
        return [
            ScoredTrack(self._catalog.track_at(row), score, codes, self._names(matched))
            for _, _, score, row, codes, matched in found
        ]

    def _names(self, matched: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._modalities[m] for m in matched)
