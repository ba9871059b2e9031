"""The statistics of the paper's Table 1, for any catalog and its conversations."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.membership import Membership, membership
from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.catalog.splits import CHALLENGE, EXCLUDED, split_labels
from talkplay_hf.catalog.titles import normalize_title

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class PlaylistFigures:
    """Some playlists in figures.

    Args:
        playlists (`int`): How many.
        tracks (`int`): Distinct tracks in them.
        mean_tracks (`float`, *optional*): Mean length of a track list, repeats counted.
        warm_tracks (`int`): Tracks that stand in a playlist that is not of test.
        cold_tracks (`int`): Tracks that only appear in the test set (paper 3.3).
        vocabulary (`int`): Distinct words of the normalised titles.
        sparsity (`float`, *optional*): Share of the (playlist, track) pairs that do not occur.
    """

    playlists: int
    tracks: int
    mean_tracks: float | None
    warm_tracks: int
    cold_tracks: int
    vocabulary: int
    sparsity: float | None


@dataclass(frozen=True)
class DialogueFigures:
    """Some conversations in figures.

    Args:
        playlists (`int`): Distinct playlists that they are from.
        dialogues (`int`): How many.
        tracks (`int`): Distinct tracks that they play.
        vocabulary (`int`): Distinct words of user and assistant, case aside.
        mean_turns (`float`, *optional*): Mean number of music messages.
        mean_query_words (`float`, *optional*): Mean length of a user message, in words between
            white space.
        mean_response_words (`float`, *optional*): The same of the assistant's.
    """

    playlists: int
    dialogues: int
    tracks: int
    vocabulary: int
    mean_turns: float | None
    mean_query_words: float | None
    mean_response_words: float | None


@dataclass(frozen=True)
class Table1:
    """Table 1 of the paper for one catalog.

    Args:
        whole (`PlaylistFigures`): All playlists but the challenge set.
        train (`PlaylistFigures`): The column Training: all of them that do not test. Validation
            playlists are a part of it, and so are near-duplicates of held-out playlists (paper 3.3:
            all the rest), though no stage trains on these.
        test (`PlaylistFigures`): The column Evaluation.
        excluded (`int`): Playlists of the column Training that are near-duplicates and do not
            train.
        unseen (`int`): Test tracks that stand in playlists of the column Training, but in
            excluded ones only, so that they are warm here and cold for all that is trained.
        dialogues_train (`DialogueFigures`, *optional*): Conversations of train and validation.
        dialogues_test (`DialogueFigures`, *optional*): Conversations of test.
    """

    whole: PlaylistFigures
    train: PlaylistFigures
    test: PlaylistFigures
    excluded: int = 0
    unseen: int = 0
    dialogues_train: DialogueFigures | None = None
    dialogues_test: DialogueFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, unrounded: those of the whole catalog, then the columns."""
        values: dict[str, Any] = {
            **asdict(self.whole),
            "train": asdict(self.train),
            "test": asdict(self.test),
            "excluded": {"playlists": self.excluded, "unseen_tracks": self.unseen},
        }
        if self.dialogues_train is not None and self.dialogues_test is not None:
            train, test = asdict(self.dialogues_train), asdict(self.dialogues_test)
            values["conversations"] = {"train": train, "test": test}
        return values

    def to_text(self) -> str:
        """The table as lines of text, beside the paper's values."""
        rows = self._rows()
        widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
        lines = []
        for name, *cells in rows:
            aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([f"{name:<{widths[0]}}", *aligned]).rstrip())
        return "\n".join(lines + [f"\n{note}" for note in [self._note()] if note])

    def to_markdown(self) -> str:
        """The table as Markdown, beside the paper's values."""
        head, *rows = self._rows()
        lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
        for name, *cells in rows:
            name = name if any(cells) else f"**{name}**"
            lines.append(f"| {' | '.join([name, *cells])} |")
        return "\n".join(lines + [f"\n{note}" for note in [self._note()] if note])

    def _rows(self) -> list[list[str]]:
        rows = [_HEAD, ["Playlists", "", "", "", ""]]
        for name, label, digits in _PLAYLIST_ROWS:
            mine = [getattr(self.train, name), getattr(self.test, name)]
            if name == "cold_tracks":
                mine[0] = None
            rows.append([label, *_cells(mine, name, PAPER, digits)])
        if self.dialogues_train is None or self.dialogues_test is None:
            return rows
        rows.append(["Conversations", "", "", "", ""])
        for name, label, digits in _DIALOGUE_ROWS:
            mine = [getattr(self.dialogues_train, name), getattr(self.dialogues_test, name)]
            rows.append([label, *_cells(mine, name, PAPER["conversations"], digits)])
        return rows

    def _note(self) -> str:
        if not self.excluded:
            return ""
        return (
            f"Of the training playlists, {self.excluded:,} are near-duplicates of held-out ones "
            f"and do not train; {self.unseen:,} of the warm test tracks stand in no other."
        )


PAPER: Mapping[str, Any] = {
    "train": {
        "playlists": 999_000,
        "tracks": 1_714_772,
        "mean_tracks": 63.73,
        "warm_tracks": 1_714_772,
        "cold_tracks": None,
        "vocabulary": 24_129,
        "sparsity": 0.99996,
    },
    "test": {
        "playlists": 1_000,
        "tracks": 39_471,
        "mean_tracks": 59.41,
        "warm_tracks": 37_114,
        "cold_tracks": 2_357,
        "vocabulary": 713,
        "sparsity": 0.99850,
    },
    "conversations": {
        "train": {
            "playlists": 116_136,
            "dialogues": 532_627,
            "tracks": 406_768,
            "vocabulary": 318_281,
            "mean_turns": 7.03,
            "mean_query_words": 17.62,
            "mean_response_words": 17.91,
        },
        "test": {
            "playlists": 1_000,
            "dialogues": 1_000,
            "tracks": 11_022,
            "vocabulary": 19_796,
            "mean_turns": 13.31,
            "mean_query_words": 15.35,
            "mean_response_words": 14.92,
        },
    },
}
"""The paper's Table 1; the tracks of a column are its warm and cold ones together."""

_HEAD = ["", "Training", "Evaluation", "Paper: Training", "Paper: Evaluation"]
_PLAYLIST_ROWS = (
    ("playlists", "# of playlists", 0),
    ("mean_tracks", "# of average track list", 2),
    ("warm_tracks", "# of warm start tracks", 0),
    ("cold_tracks", "# of cold start tracks", 0),
    ("vocabulary", "# of vocabulary (titles)", 0),
    ("sparsity", "Sparsity", 5),
)
_DIALOGUE_ROWS = (
    ("playlists", "# of playlists", 0),
    ("dialogues", "# of dialogues", 0),
    ("tracks", "# of tracks", 0),
    ("vocabulary", "# of vocabulary (dialogues)", 0),
    ("mean_turns", "Average # of turns", 2),
    ("mean_query_words", "Average query length", 2),
    ("mean_response_words", "Average response length", 2),
)


def table_1(catalog: Catalog, conversations: Iterable[Conversation] | None = None) -> Table1:
    """Count the paper's Table 1 for a catalog and, if given, its conversations.

    Args:
        catalog (`Catalog`): The catalog; without a split, all of it trains.
        conversations (`Iterable[Conversation]`, *optional*): Conversations; they are read once.
    """
    lists, labels = membership(catalog), split_labels(catalog)
    names, pairs = catalog.playlists["name"], _pairs(lists)
    test = labels == "test"
    rest = ~test & (labels != CHALLENGE)
    excluded = labels == EXCLUDED
    of_rest = lists.tracks(rest)

    def figures(chosen: np.ndarray) -> PlaylistFigures:
        tracks = lists.tracks(chosen)
        count, distinct = int(chosen.sum()), int(tracks.sum())
        cells = count * distinct
        return PlaylistFigures(
            playlists=count,
            tracks=distinct,
            mean_tracks=int(lists.lengths[chosen].sum()) / count if count else None,
            warm_tracks=int((tracks & of_rest).sum()),
            cold_tracks=int((tracks & ~of_rest).sum()),
            vocabulary=_title_words(names.filter(pa.array(chosen))),
            sparsity=1 - int(pairs[chosen].sum()) / cells if cells else None,
        )

    of_train, of_test = (None, None) if conversations is None else dialogue_figures(conversations)
    seen = lists.tracks(rest & ~excluded)
    return Table1(
        whole=figures(test | rest),
        train=figures(rest),
        test=figures(test),
        excluded=int(excluded.sum()),
        unseen=int((lists.tracks(test) & of_rest & ~seen).sum()),
        dialogues_train=of_train,
        dialogues_test=of_test,
    )


def _title_words(names: pa.ChunkedArray) -> int:
    """How many distinct words the normalised titles have."""
    words: set[str] = set()
    for name in pc.unique(names).to_pylist():
        words.update(normalize_title(name or "").split())
    return len(words)


def _pairs(lists: Membership, step: int = 20_000) -> np.ndarray:
    """The distinct tracks of each playlist, int64 `[playlists]`, counted in chunks."""
    counts = np.zeros(len(lists), dtype=np.int64)
    for start in range(0, len(lists), step):
        rows = np.arange(start, min(start + step, len(lists)))
        counts[rows] = np.diff(lists.select(rows).incidence().indptr)
    return counts


def dialogue_figures(
    conversations: Iterable[Conversation],
) -> tuple[DialogueFigures, DialogueFigures]:
    """The conversations in the figures of the paper's Table 1.

    Args:
        conversations (`Iterable[Conversation]`): The conversations; they are read once.

    Returns:
        `tuple[DialogueFigures, DialogueFigures]`: Those of train and validation, the column
        Training, and those of test, the column Evaluation.
    """
    train, test = _Dialogues(), _Dialogues()
    of = {"train": train, "validation": train, "test": test}
    for one in conversations:
        if one.split in of:
            of[one.split].add(one)
    return train.figures(), test.figures()


class _Dialogues:
    """Counts conversations as they come."""

    def __init__(self) -> None:
        self._playlists: set[str] = set()
        self._tracks: set[str] = set()
        self._words: set[str] = set()
        self._dialogues = self._turns = 0
        self._messages = {"user": 0, "assistant": 0}
        self._lengths = {"user": 0, "assistant": 0}

    def add(self, conversation: Conversation) -> None:
        self._dialogues += 1
        if conversation.playlist_id is not None:
            self._playlists.add(conversation.playlist_id)
        for message in conversation.messages:
            if message.role == "music":
                self._turns += 1
                if message.track_id is not None:
                    self._tracks.add(message.track_id)
            elif message.role in self._messages:
                self._messages[message.role] += 1
                self._lengths[message.role] += len(message.content.split())
                self._words.update(_WORD.findall(message.content.casefold()))

    def figures(self) -> DialogueFigures:
        mean = {
            role: self._lengths[role] / count if count else None
            for role, count in self._messages.items()
        }
        return DialogueFigures(
            playlists=len(self._playlists),
            dialogues=self._dialogues,
            tracks=len(self._tracks),
            vocabulary=len(self._words),
            mean_turns=self._turns / self._dialogues if self._dialogues else None,
            mean_query_words=mean["user"],
            mean_response_words=mean["assistant"],
        )


def _cells(mine: list[Any], name: str, paper: Mapping[str, Any], digits: int) -> list[str]:
    values = [*mine, paper["train"][name], paper["test"][name]]
    return ["-" if value is None else f"{value:,.{digits}f}" for value in values]
