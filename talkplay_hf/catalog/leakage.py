"""Checks that nothing held out has got into what trains. Each one passes or raises."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.membership import membership
from talkplay_hf.catalog.near_duplicates import near_duplicate_pairs
from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.catalog.splits import (
    LABELS,
    SplitOptions,
    SplitReport,
    cold_tracks,
    playlist_splits,
    split_catalog,
    split_labels,
)
from talkplay_hf.errors import LeakageError

# For each label: what must not have anything in common with it.
_APART = {
    "test": ("train", "validation"),
    "challenge": ("train", "validation"),
    "validation": ("train",),
}
# For the conversations that a run sees, to learn or to choose a checkpoint: whose playlists are
# none of theirs.
_NOT_FOR = {
    "train": frozenset(LABELS) - {"train"},
    "validation": frozenset({"test", "challenge"}),
}


def split_checked(
    catalog: Catalog, options: SplitOptions | None = None
) -> tuple[Catalog, SplitReport]:
    """Split the playlists of a catalog, see `split_catalog`, and check the split, own or drawn.

    Raises:
        LeakageError: If a playlist that the user's own split holds out lives on in its training
            part, and near-duplicates are not kept by option.
        InputError: If the options cannot be met.
    """
    options = options or SplitOptions()
    catalog, report = split_catalog(catalog, options)
    try:
        check_splits(catalog, near_duplicates=options.near_duplicates == "exclude")
    except LeakageError as error:
        if report.method != "own":
            raise
        raise LeakageError(f"the column split leaks: {error} (--near-duplicates keep)") from None
    return catalog, report


def check_splits(catalog: Catalog, *, near_duplicates: bool = True) -> None:
    """Check that no held-out playlist lives on in training.

    No playlist id may stand on both sides, nor a test playlist have a near-duplicate (an identical
    one among them) in train or validation, nor a validation one in train. The challenge set shows
    a few seed tracks of each playlist only, so it is checked by id.

    Args:
        catalog (`Catalog`): The catalog with its split.
        near_duplicates (`bool`): Whether to look for near-duplicates. Not where the split keeps
            them, as the paper's does.

    Raises:
        LeakageError: If a check fails; the message names the first case and counts the others.
    """
    labels = split_labels(catalog)
    ids = np.array(catalog.playlists["playlist_id"].to_pylist(), dtype=object)
    lists = membership(catalog)
    for held_out, others in _APART.items():
        out = np.flatnonzero(labels == held_out)
        if not len(out):
            continue
        rest = np.isin(labels, others)
        _check_ids(ids, out, np.flatnonzero(rest), labels)
        if not near_duplicates or held_out == "challenge":
            continue
        pairs = near_duplicate_pairs(lists.select(out), lists)
        pairs = pairs[rest[pairs[:, 1]]]
        if len(pairs):
            a, b, shared = int(out[pairs[0, 0]]), int(pairs[0, 1]), int(pairs[0, 2])
            of = [len(np.unique(lists[one])) for one in (a, b)]
            same = "the same" if of == [shared, shared] else f"{shared}"
            raise LeakageError(
                f"the {labels[b]} playlist {ids[b]!r} ({of[1]} tracks) and the {labels[a]} "
                f"playlist {ids[a]!r} ({of[0]} tracks) have {same} tracks in common"
                f"{_and_more(len(pairs) - 1, 'pair')}; draw the split again with near-duplicates "
                "excluded, or keep them knowingly"
            )


def _check_ids(ids: np.ndarray, out: np.ndarray, rest: np.ndarray, labels: np.ndarray) -> None:
    held_out = {ids[row]: row for row in out.tolist()}
    twice = [(held_out[ids[row]], row) for row in rest.tolist() if ids[row] in held_out]
    if twice:
        a, b = twice[0]
        raise LeakageError(
            f"the playlist {ids[a]!r} is of {labels[a]} in row {a} and of {labels[b]} in row {b}"
            f"{_and_more(len(twice) - 1, 'playlist')}; give each playlist an id of its own"
        )


def check_conversations(catalog: Catalog, conversations: Iterable[Conversation]) -> None:
    """Check that the conversations of train and validation are not about what is held out.

    A conversation of train must be from a playlist of train, one of validation from none of test or
    challenge; a playlist that the catalog lacks cannot be checked and fails. A conversation without
    a playlist passes. None of them may play a cold track, from the negative set neither: its codes
    and its title would be trained on. Excepted is music of the source `"catalog"`, which the
    writer was asked to introduce.

    Args:
        catalog (`Catalog`): The catalog with its split.
        conversations (`Iterable[Conversation]`): The conversations, of any split.

    Raises:
        LeakageError: If a check fails; the message names the first conversation and counts the
            others.
    """
    held_out = HeldOut(catalog)
    first, failed = "", 0
    for one in conversations:
        leak = held_out.leak(one)
        if leak is not None:
            first = first or f"the {one.split} conversation {one.conversation_id!r} {leak.detail}"
            failed += 1
    if failed:
        raise LeakageError(
            f"{first}{_and_more(failed - 1, 'conversation')}; make the conversations from this "
            "catalog, with its split"
        )


class Leak(NamedTuple):
    """Why a conversation must not be in its split.

    Args:
        reason (`str`): `"unknown_playlist"`, `"held_out_playlist"` or `"cold_track"`.
        detail (`str`): What the conversation does, as the end of a sentence.
    """

    reason: str
    detail: str


class HeldOut:
    """What a catalog holds out of the conversations that a run sees, see `check_conversations`.

    Args:
        catalog (`Catalog`): The catalog with its split.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._splits = playlist_splits(catalog)
        cold = catalog.tracks["track_id"].filter(pa.array(cold_tracks(catalog)))
        self._cold = frozenset(cold.to_pylist())

    def leak(self, one: Conversation) -> Leak | None:
        """Why a conversation must not be in its split, or `None` where it may."""
        if one.split not in _NOT_FOR:
            return None
        if one.playlist_id is not None:
            name = f"playlist {one.playlist_id!r}"
            split = self._splits.get(one.playlist_id)
            if split is None:
                return Leak("unknown_playlist", f"is from the {name}, which the catalog lacks")
            if split in _NOT_FOR[one.split]:
                return Leak("held_out_playlist", f"is from the {split} {name}")
        for message in one.messages:
            if message.source != "catalog" and message.track_id in self._cold:
                return Leak("cold_track", f"plays the cold track {message.track_id!r}")
        return None


def _and_more(count: int, what: str) -> str:
    return f", and {count} more {what}{'s' if count > 1 else ''}" if count else ""
