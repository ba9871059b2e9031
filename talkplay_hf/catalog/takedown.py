"""Taking tracks out of a catalog folder."""

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from talkplay_hf.catalog.import_audio import AUDIO_EXTENSIONS, bring_files
from talkplay_hf.catalog.schema import Catalog, with_column
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.packed import PACKED

# what the catalog and its manifest are written to, in one file or in shards
_ANEW = re.compile(r"manifest\.json|rejects\.parquet|(tracks|playlists)(-\d+-of-\d+)?\.parquet")
_OWN_FACTS = ("format_version", "talkplay_hf", "kind", "made_from", "files", "tracks", "playlists")
_SHOWN = 5


def remove_from_catalog(
    folder: str | Path,
    track_ids: Iterable[str],
    out: str | Path,
    *,
    missing_ok: bool = False,
) -> dict[str, Any]:
    """Take tracks out of a catalog folder: their rows, their places in playlists, their clips.

    A playlist that has no track left is left out; all others keep their splits. Rejected rows that
    name a removed track go too. Descriptions of playlists stay as they are.

    A takedown reaches what is written from now on. What was pushed to the Hub before stays in the
    history of the repository until that is squashed (`HfApi.super_squash_history`).

    Args:
        folder (`str` or `Path`): The catalog folder.
        track_ids (`Iterable[str]`): The tracks to take out.
        out (`str` or `Path`): The folder to write; may be the same folder.
        missing_ok (`bool`): Pass over ids that the catalog does not have.

    Returns:
        `dict[str, Any]`: How many tracks were `removed`, ids were `unknown` and tracks are `left`;
        the `places` in playlists, `playlists`, `clips` and `rejects` that went; and under
        `mentions` the files that still name a removed track, for a person to look at.

    Raises:
        ArtifactError: If `folder` is no catalog folder or damaged, or `out` is something else.
        InputError: If an id is unknown, or no track would be left. Nothing is written then.
    """
    folder = Path(folder)
    manifest = files.read_manifest(folder, "catalog")
    if PACKED in manifest:
        raise ArtifactError(
            f"{folder}: holds its clips as a table, as it lies on the Hub; fetch it with "
            "`talkplay pull --audio`, or unpack it with talkplay_hf.catalog.audio_repo.unpack_audio"
        )
    files.check_target(out, "catalog")
    catalog = Catalog.load(folder)
    gone, unknown = choose_tracks(track_ids, catalog, folder, missing_ok=missing_ok)
    keep = np.array([one not in gone for one in catalog.track_ids])
    # playlists may hold ids that are no track of the catalog
    playlists, places, emptied = _without_places(catalog.playlists, {*gone, *unknown})
    left = Catalog(take_rows(catalog.tracks, keep), playlists)
    clips = _clips(folder, catalog.tracks, ~keep) - _clips(folder, catalog.tracks, keep)
    rejects, dropped = _without_rejects(folder, catalog, gone)
    kept = {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and _plain(path) not in clips
        and not _ANEW.fullmatch(str(path.relative_to(folder)))
    }
    facts = {name: value for name, value in manifest.items() if name not in _OWN_FACTS}
    with files.staged_folder(out, "catalog") as aside:
        # the originals go where the folder is replaced; else a link would tie the two together
        bring_files(kept, aside, link=Path(out).resolve() == folder.resolve())
        left.write(aside)
        if rejects is not None:
            pq.write_table(rejects, aside / files.REJECTS, compression="zstd")
        left.write_manifest(aside, manifest["made_from"], **facts)
        if (aside / files.CARD).exists() and write_card(aside, title=Path(out).name):
            left.write_manifest(aside, manifest["made_from"], **facts)
        mentions = find_mentions(aside, gone, without=_ANEW)
    return {
        "removed": len(gone),
        "unknown": len(unknown),
        "left": len(left),
        "places": places,
        "playlists": emptied,
        "clips": len(clips),
        "rejects": dropped,
        "mentions": mentions,
    }


def choose_tracks(
    track_ids: Iterable[str], catalog: Catalog, folder: Path, *, missing_ok: bool
) -> tuple[set[str], set[str]]:
    """The ids to take out that a catalog has, and those that it does not have.

    Raises:
        InputError: If there are no ids, one is unknown and may not be, or all tracks are named.
    """
    wanted = list(dict.fromkeys(track_ids))
    if not wanted:
        raise InputError("no track ids were given, so nothing can be removed")
    unknown = [one for one in wanted if one not in catalog]
    if unknown and not missing_ok:
        refuse_unknown(unknown, folder)
    gone = set(wanted) - set(unknown)
    if len(gone) == len(catalog):
        raise InputError(f"{folder}: no track would be left; delete the folder instead")
    return gone, set(unknown)


def refuse_unknown(unknown: Sequence[str], folder: Path) -> None:
    """Say which ids a folder does not have.

    Raises:
        InputError: Always.
    """
    named = ", ".join(map(repr, unknown[:_SHOWN]))
    more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
    raise InputError(
        f"{folder}: has no track {named}{more} ({len(unknown):,} unknown); nothing was removed. "
        "Leave them out, or pass over them with --missing-ok (missing_ok=True)"
    )


def take_rows(table: pa.Table, keep: np.ndarray) -> pa.Table:
    """Some rows of a table; what only the others held is nowhere in it.

    Args:
        table (`pa.Table`): The table.
        keep (`np.ndarray` of shape `[n]`, bool): The rows to keep.
    """
    left = table.filter(pa.array(keep))
    for at, column in enumerate(left.columns):
        if pa.types.is_dictionary(column.type):
            # a filter leaves the words of all rows in the dictionary, and Parquet stores it
            dense = column.cast(column.type.value_type)
            left = left.set_column(
                at, left.schema.field(at), dense.dictionary_encode().cast(column.type)
            )
    return left


def find_mentions(
    folder: Path, words: Collection[str], *, without: re.Pattern[str] | None = None
) -> list[str]:
    """The files of a folder that hold one of some texts, in whole words and any case.

    Args:
        folder (`Path`): The folder.
        words (`Collection[str]`): The texts.
        without (`re.Pattern`, *optional*): Names of files that are not looked into.

    Returns:
        `list[str]`: Their paths below the folder. Files that are neither text nor Parquet are not
        looked into, nor is a card that no person has edited, since it is written anew.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not (without and without.fullmatch(name)):
            text = _text(path)
            if text is None or (path.name == files.CARD and is_ours(text)):
                continue
            if names_any(text, words):
                found.append(name)
    return found


def names_any(text: str, words: Iterable[str]) -> bool:
    """Whether a text holds one of some texts, in whole words and any case."""
    text = text.casefold()
    return any(
        word in text and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
        for word in map(str.casefold, words)
        if word
    )


def _text(path: Path) -> str | None:
    """What a text or Parquet file says; `None` where it is neither."""
    if path.suffix == ".parquet":
        with contextlib.suppress(pa.ArrowException, OSError):
            return "\n".join(str(row) for row in pq.read_table(path).to_pylist())
        return None
    if path.suffix in (".safetensors", ".png", *AUDIO_EXTENSIONS):
        return None
    text = path.read_bytes().decode("utf-8", "replace")
    if "\0" in text:
        return None
    if path.suffix == ".json":
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(json.loads(text), ensure_ascii=False)
    return text


def _without_places(playlists: pa.Table, gone: set[str]) -> tuple[pa.Table, int, int]:
    """Playlists without some tracks, and how many places and playlists went."""
    kind = playlists.schema.field("track_ids").type
    removed = pa.array(sorted(gone), pa.string())
    chunks, emptied, places = [], [], 0
    for lists in playlists["track_ids"].chunks:
        flat, owner = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
        stays = pc.invert(pc.is_in(flat, value_set=removed))
        before = np.bincount(owner, minlength=len(lists))
        after = np.bincount(owner[stays.to_numpy(zero_copy_only=False)], minlength=len(lists))
        offsets = pa.array(np.append(0, np.cumsum(after)), pa.int32())
        chunks.append(pa.ListArray.from_arrays(offsets, flat.filter(stays)).cast(kind))
        emptied.append((before > 0) & (after == 0))
        places += int((before - after).sum())
    shorter = with_column(playlists, "track_ids", pa.chunked_array(chunks, kind))
    empty = np.concatenate([np.zeros(0, dtype=bool), *emptied])
    return take_rows(shorter, ~empty), places, int(empty.sum())


def _clips(folder: Path, tracks: pa.Table, rows: np.ndarray) -> set[Path]:
    """The audio files inside the folder that some rows name."""
    named = tracks["audio"].filter(pa.array(rows)).drop_null().to_pylist()
    paths = {_plain(folder / name) for name in named if "://" not in name}
    return {path for path in paths if _plain(folder) in path.parents and path.is_file()}


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _without_rejects(folder: Path, catalog: Catalog, gone: set[str]) -> tuple[pa.Table | None, int]:
    """Rejected rows that name no removed track, and how many did."""
    path = folder / files.REJECTS
    if not path.exists():
        return None, 0
    table = pq.read_table(path)
    titles = {(track.title, track.artist) for track in map(catalog.track, gone)}
    keep = np.ones(table.num_rows, dtype=bool)
    for row, record in enumerate(table["record"].to_pylist()):
        try:
            values = json.loads(record or "{}")
        except ValueError:
            values = record
        texts = {str(one) for one in values.values()} if isinstance(values, dict) else {str(values)}
        keep[row] = not (texts & gone or any(texts.issuperset(pair) for pair in titles))
    left = take_rows(table, keep)
    return (left if left.num_rows else None), int((~keep).sum())
