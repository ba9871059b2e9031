"""Why a track: what each of its five codes stands for, and how the codes led to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import InputError
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.recommend.model_folder import reading
from talkplay_hf.recommend.values import whole_number
from talkplay_hf.tokens.build import KNOWN, read_known_codes
from talkplay_hf.tokens.config import music_token
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

# whether a track has a code by data of its own
NOT_RECORDED, NO_DATA, OWN_DATA = -1, 0, 1


@dataclass(frozen=True)
class CodeMeaning:
    """What a code stands for in a catalogue.

    Args:
        modality (`str`): Its modality.
        code (`int`): The code.
        token (`str`): The token that the model writes for it.
        tags (`tuple[str, ...]`): The tags that its tracks have more often than others, best first;
            at most five, none for a code that means "missing".
        neighbours (`tuple[Track, ...]`): Tracks that share the code, the most popular first; those
            whose code is a guess come last. None for a code that means "missing".
        tracks (`int`): How many tracks of the catalogue have the code.
        guessed (`int`): How many of these have it as a guess, see `known`.
        is_missing (`bool`): Whether the code is the one reserved for "missing".
        known (`bool`, *optional*): Whether the explained track has the code by data of its own.
            `False` where it has no such data: the code is then "missing", or a guess after similar
            tracks. `None` where no track is explained or the folder does not say.
    """

    modality: str
    code: int
    token: str
    tags: tuple[str, ...]
    neighbours: tuple[Track, ...]
    tracks: int
    guessed: int
    is_missing: bool
    known: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON values."""
        neighbours = [_brief(track) for track in self.neighbours]
        return vars(self) | {"tags": list(self.tags), "neighbours": neighbours}


@dataclass(frozen=True)
class FoundTrack:
    """A track that shares codes with a block.

    Args:
        track (`Track`): The track.
        codes (`tuple[int, ...]`): Its own codes.
        matched (`tuple[str, ...]`): The modalities in which it matches the block; all of them in an
            exact match. A code that means "missing" is no partial match.
        weight (`int`): The sum of their weights (paper 4.4).
    """

    track: Track
    codes: tuple[int, ...]
    matched: tuple[str, ...]
    weight: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON values."""
        return vars(self) | {
            "track": _brief(self.track),
            "codes": list(self.codes),
            "matched": list(self.matched),
        }


@dataclass(frozen=True)
class Explanation:
    """Why a block of codes led to a track.

    Args:
        codes (`tuple[int, ...]`): The codes of the block.
        track (`Track`, *optional*): The track that is explained.
        meanings (`tuple[CodeMeaning, ...]`): What each code stands for.
        matched (`tuple[str, ...]`): The modalities in which the track matches the block; without a
            track, those of the best match in the catalogue.
        weight (`int`): The sum of their weights.
        total (`int`): The sum of all weights, which an exact match has.
        exact (`bool`): Whether all codes match.
        equals (`int`): How many tracks of the catalogue match the block in just these modalities,
            the explained one among them.
    """

    codes: tuple[int, ...]
    track: Track | None
    meanings: tuple[CodeMeaning, ...]
    matched: tuple[str, ...]
    weight: int
    total: int
    exact: bool
    equals: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON values."""
        return vars(self) | {
            "codes": list(self.codes),
            "track": None if self.track is None else _brief(self.track),
            "meanings": [meaning.to_dict() for meaning in self.meanings],
            "matched": list(self.matched),
        }


def _brief(track: Track) -> dict[str, str]:
    return {"track_id": track.track_id, "title": track.title, "artist": track.artist}


class Explainable:
    """A catalogue with codes that can say what they mean.

    Args:
        tokenizer (`TalkPlayTokenizer`): The tokenizer, with the labels of its codes if it has them.
    """

    tokenizer: TalkPlayTokenizer
    _catalog: Catalog
    _codes: np.ndarray
    _lookup: WeightedLookup

    def explain(
        self, codes: Sequence[int], track_id: str | None = None, *, k: int = 5
    ) -> Explanation:
        """Say what the codes of a block stand for, and how they led to a track.

        Args:
            codes (`Sequence[int]`): One code a modality, as in `Recommendation.codes`.
            track_id (`str`, *optional*): The track that they led to.
            k (`int`): Neighbours of each code, at most.

        Raises:
            ArtifactError: If the folder of the tokenizer is damaged.
            InputError: If a code is out of range, `k` is negative, or the catalogue has no such
                track.
        """
        block = tuple(self._lookup.check_query(codes))
        k = whole_number("k", k, 0)
        if track_id is None:
            row = None
            best = self._lookup.find(block)
            modalities, equals = best.modalities, len(best.rows)
        else:
            row = self._catalog.row(track_id)
            modalities, equals = self._shared(block, row)
        config = self.tokenizer.config
        return Explanation(
            codes=block,
            track=None if row is None else self._catalog.track_at(row),
            meanings=tuple(self._meaning(m, code, k, row) for m, code in enumerate(block)),
            matched=tuple(config.modalities[m] for m in modalities),
            weight=sum(config.lookup_weights[m] for m in modalities),
            total=sum(config.lookup_weights),
            exact=len(modalities) == len(block),
            equals=equals,
        )

    def look_up(self, codes: Sequence[int], k: int = 10) -> list[FoundTrack]:
        """The tracks around a block of codes (paper 4.4).

        Exact matches come first, then partial ones by falling sum of weights; ties are in the order
        of the catalogue, so the first is the one that an answer without sampling plays.

        Args:
            codes (`Sequence[int]`): One code a modality.
            k (`int`): Tracks at most; those that share no code with the block are left out.

        Raises:
            InputError: If a code is out of range, or `k` is below 1.
        """
        config = self.tokenizer.config
        ranking = self._lookup.top(codes, k)
        found = []
        for row, group in zip(ranking.rows.tolist(), ranking.groups.tolist(), strict=True):
            modalities = self._lookup.subsets[group]
            found.append(
                FoundTrack(
                    track=self._catalog.track_at(row),
                    codes=tuple(self._codes[row].tolist()),
                    matched=tuple(config.modalities[m] for m in modalities),
                    weight=sum(config.lookup_weights[m] for m in modalities),
                )
            )
        return found

    def codes_of(self, modality: str) -> list[CodeMeaning]:
        """The codes of a modality that tracks of the catalogue have, in ascending order.

        Args:
            modality (`str`): Its name.

        Returns:
            `list[CodeMeaning]`: Without neighbours.

        Raises:
            ArtifactError: If the folder of the tokenizer is damaged.
            InputError: If there is no such modality.
        """
        names = self.tokenizer.config.modalities
        if modality not in names:
            raise InputError(f"modality {modality!r}: must be one of {', '.join(names)}")
        m = names.index(modality)
        return [self._meaning(m, code, 0, None) for code in np.unique(self._codes[:, m]).tolist()]

    def _shared(self, block: tuple[int, ...], row: int) -> tuple[tuple[int, ...], int]:
        """The modalities in which a track matches a block, and how many tracks match like it."""
        same = self._codes == np.asarray(block)
        exact = same.all(axis=1)
        if exact[row]:
            return tuple(range(len(block))), int(exact.sum())
        for m, code in enumerate(block):
            if code == self.tokenizer.config.missing_code(m):
                same[:, m] = False
        modalities = tuple(np.flatnonzero(same[row]).tolist())
        alike = (same == same[row]).all(axis=1) & ~exact
        return modalities, int(alike.sum()) if modalities else 0

    def _meaning(self, m: int, code: int, k: int, row: int | None) -> CodeMeaning:
        config = self.tokenizer.config
        order, starts = self._tracks_by_code[m]
        rows = order[starts[code] : starts[code + 1]]
        is_missing = code == config.missing_code(m)
        shown = [] if is_missing else [at for at in rows[: k + 1].tolist() if at != row][:k]
        known = None
        if row is not None and self._codes[row, m] == code:
            known = {OWN_DATA: True, NO_DATA: False}.get(int(self._known[row, m]))
        guessed = 0 if is_missing else int((self._known[rows, m] == NO_DATA).sum())
        return CodeMeaning(
            modality=config.modalities[m],
            code=code,
            token=music_token(config.modalities[m], code),
            tags=() if is_missing else self._labels.get((config.modalities[m], code), ()),
            neighbours=tuple(self._catalog.track_at(at) for at in shown),
            tracks=len(rows),
            guessed=guessed,
            is_missing=is_missing,
            known=known,
        )

    @cached_property
    def _popularity(self) -> np.ndarray:
        unknown_last = pc.fill_null(self._catalog.tracks["popularity"], -np.inf)
        return np.asarray(unknown_last.to_numpy())

    @cached_property
    def _tracks_by_code(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each modality the rows in the order of their codes, the neighbours to show first at
        the front, and where each code starts."""
        tables = []
        for m, size in enumerate(self.tokenizer.config.codes):
            codes = self._codes[:, m]
            guess = self._known[:, m] == NO_DATA
            order = np.lexsort((-self._popularity, guess, codes))
            starts = np.append(0, np.cumsum(np.bincount(codes, minlength=size)))
            tables.append((order.astype(np.int32), starts))
        return tables

    @cached_property
    def _known(self) -> np.ndarray:
        """Where the code of each track comes from, int8 `[n, modalities]`: `OWN_DATA`, ..."""
        config = self.tokenizer.config
        if config.missing == "reserve":
            missing = [config.missing_code(m) for m in range(len(config.codes))]
            return np.where(self._codes == np.asarray(missing), NO_DATA, OWN_DATA).astype(np.int8)
        path = self.tokenizer.init_kwargs.get("token_catalog_file")
        nothing = np.full(self._codes.shape, NOT_RECORDED, dtype=np.int8)
        if not path or not Path(path).is_file():
            return nothing
        with reading(Path(path)):
            if KNOWN not in pq.read_schema(path).names:
                return nothing
            known = read_known_codes(path, self._codes)
        # every track has a title and an artist: one without a known code was not fitted on, and the
        # file does not say which of its codes are guesses
        seen = known.any(axis=1, keepdims=True)
        return np.where(known, OWN_DATA, np.where(seen, NO_DATA, NOT_RECORDED)).astype(np.int8)

    @cached_property
    def _labels(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """The tags of each code: from the folder, or counted where it has none."""
        path = self.tokenizer.init_kwargs.get("codebook_labels_file")
        if path and Path(path).is_file():
            with reading(Path(path)):
                table = pq.read_table(path, columns=["modality", "code", "tags"])
                return _tags_of(table.to_pylist())
        from talkplay_hf.tokens.codebooks import label_codes

        names, tracks = self.tokenizer.config.modalities, self._catalog.tracks
        ids = self._catalog.track_ids
        return _tags_of(label_codes(self._codes, names, tracks["tags"], ids, self._popularity))


def _tags_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], tuple[str, ...]]:
    return {(row["modality"], int(row["code"])): tuple(row["tags"] or ()) for row in rows}
