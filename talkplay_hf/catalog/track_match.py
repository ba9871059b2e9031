"""Finding tracks of a catalog by their id, or by title and artist as other tables spell them."""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ID_PREFIX = "spotify:track:"
# Guests and editions: the same recording. A remix or a live take is another one and stays apart,
# also where an edition of it is named; RE2 cannot look ahead, so its word gets a mark before.
_OTHER = (
    r"(?:live|(?:re)?mixed by|remix(?:ed)?|rework|bootleg|acoustic|unplugged|demo|rehearsal"
    r"|sessions?|instrumental|karaoke|cover|dub|a ?cap?pella|orchestral|extended|club"
    r"|(?:english|french|german|italian|japanese|korean|portuguese|spanish) version)"
)
_MARK = "\x00"
_EDITION = (
    r"(?:remaster(?:ed)?|radio (?:edit|version)"
    r"|(?:album|single|original|lp|edited) (?:version|edit|mix)"
    r"|(?:7[\"”]|7[ -]?inch|45) (?:version|edit|mix|single)"
    r"|mono|stereo|deluxe|bonus|explicit|clean)"
)
# these only where nothing else stands beside them: "2011 Mix", but not "Kaya 2011 Mix"
_WHOLE = (
    r"(?:(?:19|20)\d\d mix|radio mix|main(?: version| mix)?|edit(?:ed)?"
    r"|lyrics?(?: video)?|with lyrics|music video|audio"
    r"|official (?:hd |4k )?(?:music |lyrics? )?(?:video|audio|visuali[sz]er)|visuali[sz]er"
    r"|hd|hq|4k)"
)
_GUESTS = r"(?:feat|ft|featuring|with|prod)"
_SUFFIXES = (
    rf"\s*[(\[]{_GUESTS}[. ][^()\[\]]*[)\]]",
    rf"\s*[(\[]{_WHOLE}[)\]]",
    rf"\s*[(\[][^()\[\]{_MARK}]*\b{_EDITION}\b[^()\[\]{_MARK}]*[)\]]",
    rf"\s+[-–—]\s+{_WHOLE}\s*$",
    rf"\s+[-–—]\s+[^-–—{_MARK}]*\b{_EDITION}\b[^{_MARK}]*$",
    rf"\s+[-–—]\s+{_GUESTS}[. ].*$",
    r"\s(?:feat|ft|featuring)\b.*$",
)
_MORE_ARTISTS = r"(?:[,;/]|\s(?:&|\+|and|x|vs\.?|feat\.?|ft\.?|featuring|with)\s).*$"


class TrackIndex:
    """Finds the tracks of a catalog.

    Ids are compared without a `spotify:track:` prefix. Titles and artists are compared without
    case, accents and punctuation. A loose comparison also leaves out what a title says about guests
    and editions (`(feat. X)`, `- Remastered 2011`, `(Official Video)`), and all artists but the
    first.

    Args:
        tracks (`pyarrow.Table`): Tracks with `track_id`, `title` and `artist`.
    """

    def __init__(self, tracks: pa.Table) -> None:
        self.tracks = tracks

    def by_id(self, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """The tracks with these ids.

        Args:
            ids (`pyarrow.Array` of `[n]` texts): The ids; null finds nothing.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: Positions in `ids`, ascending, and rows of tracks,
            both int64 of the same length.
        """
        return self._ids.pairs(_bare(ids))

    def by_name(
        self, titles: pa.Array, artists: pa.Array, *, loose: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The tracks with these titles and artists; of several, all.

        Args:
            titles (`pyarrow.Array` of `[n]` texts): The titles.
            artists (`pyarrow.Array` of `[n]` texts): The artists.
            loose (`bool`): Whether the comparison is loose.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: Positions in `titles`, ascending, and rows of tracks,
            both int64 of the same length.
        """
        groups = self._loose if loose else self._strict
        return groups.pairs(_names(titles, artists, loose))

    @cached_property
    def _ids(self) -> "_Groups":
        return _Groups(_bare(self.tracks["track_id"]))

    @cached_property
    def _strict(self) -> "_Groups":
        return _Groups(_names(self.tracks["title"], self.tracks["artist"], loose=False))

    @cached_property
    def _loose(self) -> "_Groups":
        return _Groups(_names(self.tracks["title"], self.tracks["artist"], loose=True))


class _Groups:
    """Rows by key: the rows of key `k` are `order[starts[k] : starts[k + 1]]`."""

    def __init__(self, keys: pa.Array) -> None:
        encoded = keys.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        self.keys = encoded.dictionary
        self.order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=len(self.keys))
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def pairs(self, queries: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        found = pc.fill_null(pc.index_in(queries, value_set=self.keys, skip_nulls=True), -1)
        found = found.to_numpy(zero_copy_only=False).astype(np.int64)
        known = np.flatnonzero(found >= 0)
        starts, ends = self.starts[found[known]], self.starts[found[known] + 1]
        lengths = ends - starts
        before = np.cumsum(lengths) - lengths
        at = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
        return np.repeat(known, lengths), self.order[at]


def _flat(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    return texts.cast(pa.large_string())


def _bare(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pc.replace_substring_regex(_flat(ids), pattern=f"^{ID_PREFIX}", replacement="")


def _names(titles: pa.Array, artists: pa.Array, loose: bool) -> pa.Array:
    titles, artists = (pc.utf8_lower(_flat(texts)) for texts in (titles, artists))
    if loose:
        short = pc.replace_substring_regex(
            titles, pattern=rf"\b({_OTHER})\b", replacement=rf"{_MARK}\1"
        )
        for pattern in _SUFFIXES:
            short = pc.replace_substring_regex(short, pattern=pattern, replacement="")
        titles = _unless_empty(pc.replace_substring(short, _MARK, ""), titles)
        first = pc.replace_substring_regex(artists, pattern=_MORE_ARTISTS, replacement="")
        first = pc.replace_substring_regex(first, pattern=r"^the\s+", replacement="")
        artists = _unless_empty(first, artists)
    line = pa.scalar("\n", pa.large_string())
    return pc.binary_join_element_wise(name_keys(titles), name_keys(artists), line)


def name_keys(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Texts as they are compared: without case, accents, punctuation and double spaces.

    Args:
        texts (`pyarrow.Array` of `[n]` texts): The texts; nulls stay null.
    """
    whole = pc.utf8_lower(pc.utf8_normalize(_flat(texts), form="NFKD"))
    keys = pc.replace_substring_regex(whole, pattern=r"\p{M}+|['’`´ʼ]", replacement="")
    keys = pc.replace_substring(pc.replace_substring(keys, "ß", "ss"), "ς", "σ")
    keys = pc.replace_substring_regex(keys, pattern=r"\s[&+]\s", replacement=" and ")
    keys = pc.replace_substring_regex(keys, pattern=r"[^\p{L}\p{N}]+", replacement=" ")
    return _unless_empty(pc.utf8_trim_whitespace(keys), pc.utf8_trim_whitespace(whole))


def _unless_empty(short: pa.Array, whole: pa.Array) -> pa.Array:
    """A name of punctuation alone stays as it is."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(short), ""), whole, short)
