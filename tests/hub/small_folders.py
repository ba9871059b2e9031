"""Small artefact folders for tests of push and pull."""

from pathlib import Path

from talkplay_hf.hub import files
from talkplay_hf.hub.cards.seal import seal

CARD = seal("---\nlicense: mit\n---\n# Songs\n")
EDITED = "---\nlicense: mit\n---\n# My songs, in my words\n"
SONGS = {
    "tracks.parquet": b"tracks" * 1000,
    "playlists.parquet": b"playlists" * 100,
    "README.md": CARD.encode(),
}


def make_folder(
    folder: Path, contents: dict[str, bytes] | None = None, kind: str = "catalog"
) -> Path:
    """Write an artefact folder with a manifest; its Parquet files hold no Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (SONGS if contents is None else contents).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files.write_manifest(folder, kind, {})
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
