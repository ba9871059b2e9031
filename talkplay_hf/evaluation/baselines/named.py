"""Which tracks a message names by artist, album or title."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.baselines.texts import words
from talkplay_hf.evaluation.metrics.ranking import FloatArray

LONGEST = 8  # words of a name that is looked for
_BETWEEN_ARTISTS = re.compile(r"[,;]")


class NamedTracks:
    """Finds the names that one column of the catalog holds in messages, as whole words.

    Args:
        catalog (`Catalog`): The tracks.
        field (`str`): `"artist"`, `"album"` or `"title"`. Several artists of a track, with a comma
            or a semicolon between them, are looked for one by one.
    """

    def __init__(self, catalog: Catalog, field: str) -> None:
        self._tracks = len(catalog)
        rows: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, value in enumerate(catalog.column(field)):
            names = _BETWEEN_ARTISTS.split(value or "") if field == "artist" else [value or ""]
            for name in names:
                rows[tuple(words(name))].append(row)
        self._rows = {name: np.array(found) for name, found in rows.items() if name}

    def named(self, messages: Sequence[str]) -> FloatArray:
        """The number of words of the longest name of each track in each message, 0 for none.

        Returns:
            `numpy.ndarray` of shape `(messages, tracks)`, float64.
        """
        found = np.zeros((len(messages), self._tracks))
        for row, message in enumerate(messages):
            said = words(message)
            for length in range(1, min(LONGEST, len(said)) + 1):
                for start in range(len(said) - length + 1):
                    tracks = self._rows.get(tuple(said[start : start + length]))
                    if tracks is not None:
                        found[row, tracks] = length
        return found
