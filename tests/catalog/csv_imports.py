"""Imports of CSV text, and what came of them."""

from pathlib import Path

import pyarrow.parquet as pq

from talkplay_hf.catalog.import_report import ImportReport
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog

PAIRS = """\
track_id,track_name,track_artist,track_popularity,track_album_release_date,playlist_name,playlist_id,playlist_genre,playlist_subgenre,key,mode,tempo,energy
t1,Song One,Ann,10,2019-06-14,Morning,p1,pop,dance pop,6,1,120.5,0.5
t2,Song Two,Bob,20,1999,Morning,p1,pop,dance pop,11,0,99,0.25
t1,Song One,Ann,30,2019-06-14,Evening,p2,rock,Dance Pop,6,1,120.5,0.5
t1,Song One,Ann,5,2019-06-14,Night,p3,rock,Dance Pop,6,1,120.5,0.5
"""


def run(
    folder: Path,
    text: str | bytes,
    name: str = "songs.csv",
    second: str | None = None,
    **options: object,
) -> tuple[ImportReport, Catalog]:
    """Import CSV text (and a second table) and read the catalog back."""
    source = folder / name
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    if second is not None:
        options["playlists"] = folder / "lists.csv"
        (folder / "lists.csv").write_text(second, encoding="utf-8")
    report = import_table(source, folder / "out", **options)  # type: ignore[arg-type]
    return report, Catalog.load(folder / "out")


def rejects(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "out" / "rejects.parquet").to_pylist()


def members(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    return {playlist.playlist_id: playlist.track_ids for playlist in catalog.iter_playlists()}


HEADER = "track_id,title,artist\n"
GOOD = HEADER + "a,T,A\n"
