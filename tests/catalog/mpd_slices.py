"""Writes files like those of the Million Playlist Dataset, with made-up content."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DAY = 86_400
LAST_DAY = 1_509_494_400  # 2017-11-01
BASE62 = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
TITLES = ("Chill", "Rock", "Party", "Summer 2017", "Gym", "Sleep", "Road Trip", "90's", "Jazz")
VARIANTS = ("{}", "{}", "{}!", "{} ", " {}", "#{}", "{}...", "({})", "{} ☀", "My {}", "{}_{}")
ENTRY_END = ", \n"
SYLLABLES = ("ka", "lo", "mi", "ren", "so", "tä", "vu", "shi", "ne", "ga", "bel", "or")


def track(number: int, /, **changes: Any) -> dict[str, Any]:
    """An entry for one of the small made-up tracks, without its position."""
    entry = {
        "artist_name": f"Artist {number % 7}",
        "track_uri": f"spotify:track:{number:022d}",
        "artist_uri": f"spotify:artist:{number % 7:022d}",
        "track_name": f"Song {number}",
        "album_uri": f"spotify:album:{number % 11:022d}",
        "duration_ms": 180_000 + number,
        "album_name": f"Album {number % 11}",
    }
    return {**entry, **changes}


def playlist(pid: int, tracks: Sequence[Any] = (0, 1, 2), /, **changes: Any) -> dict[str, Any]:
    """A playlist of tracks, each given by its number or as an entry; `changes` win."""
    entries = [track(one) if isinstance(one, int) else one for one in tracks]
    values = {
        "name": f"List {pid}",
        "collaborative": "false",
        "pid": pid,
        "modified_at": LAST_DAY - DAY * (pid % 50),
        "num_tracks": len(entries),
        "num_albums": len(entries),
        "num_followers": 1 + pid % 3,
        "tracks": [
            {"pos": position, **entry} if isinstance(entry, dict) else entry
            for position, entry in enumerate(entries)
        ],
        "num_edits": 5,
        "duration_ms": 180_000 * len(entries),
        "num_artists": len(entries),
    }
    return {**values, **changes}


def write_slice(
    folder: Path, playlists: Sequence[Any], first: int = 0, last: int | None = None
) -> Path:
    """Write one slice of given playlists, `mpd.slice.<first>-<last>.json`."""
    last = first + 999 if last is None else last
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mpd.slice.{first}-{last}.json"
    info = {"generated_on": "2017-12-03 08:41:42.057563", "slice": f"{first}-{last}"}
    value = {"info": {**info, "version": "v1"}, "playlists": list(playlists)}
    path.write_text(json.dumps(value, indent=4), encoding="utf-8")
    return path


def challenge_playlist(pid: int, tracks: Sequence[tuple[int, int]], **changes: Any) -> Any:
    """A playlist of the challenge set, of pairs (position, number of the track)."""
    entries = [{"pos": position, **track(number)} for position, number in tracks]
    counts = {"num_holdouts": 10, "num_samples": len(entries), "num_tracks": 10 + len(entries)}
    return {"name": f"Challenge {pid}", "pid": pid, **counts, "tracks": entries, **changes}


def write_challenge(folder: Path, playlists: Sequence[Any]) -> Path:
    """Write a `challenge_set.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "challenge_set.json"
    value = {"date": "2018-01-16 08:47:28.198015", "version": "v1", "name": "Challenge Set"}
    path.write_text(json.dumps({**value, "playlists": list(playlists)}, indent=4))
    return path


def write_slices(
    folder: Path,
    slices: int = 2,
    playlists: int = 1000,
    *,
    tracks: int | None = None,
    first: int = 0,
    seed: int = 0,
) -> list[Path]:
    """Write slices of drawn playlists.

    Tracks follow a Zipf distribution, lengths those of the dataset (5 to 250, median about 49,
    mean about 66, repeats happen), dates get denser towards the last day, titles come in variants.

    Args:
        folder (`Path`): Where to.
        slices (`int`): How many.
        playlists (`int`): Playlists a slice.
        tracks (`int`, *optional*): Tracks to draw from; by default as many as make the distinct
            tracks about a tenth of the entries.
        first (`int`): The first pid.
        seed (`int`): Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    count = tracks or max(500, 13 * slices * playlists)
    pool = _Pool(rng, count)
    weights = np.cumsum(1 / (np.arange(count) + 20.0))
    paths = []
    for number in range(slices):
        start = first + number * playlists
        lengths = np.clip(rng.lognormal(3.89, 0.83, playlists), 5, 250).astype(int)
        draws = np.searchsorted(weights, rng.random(lengths.sum()) * weights[-1])
        parts = np.split(draws, np.cumsum(lengths)[:-1])
        days = np.floor(rng.exponential(250, playlists)).astype(int)
        texts = [
            _playlist_text(start + place, days[place], pool, rows.tolist())
            for place, rows in enumerate(parts)
        ]
        path = folder / f"mpd.slice.{start}-{start + playlists - 1}.json"
        folder.mkdir(parents=True, exist_ok=True)
        info = f'"slice": "{start}-{start + playlists - 1}", \n        "version": "v1"'
        with path.open("w", encoding="utf-8") as handle:
            handle.write('{\n    "info": {\n        "generated_on": "2017-12-03", \n        ')
            handle.write(info + '\n    }, \n    "playlists": [\n' + ", \n".join(texts))
            handle.write("\n    ]\n}")
        paths.append(path)
    return paths


class _Pool:
    """The tracks to draw from, as JSON text without the position."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        letters = BASE62[rng.integers(0, 62, (count, 22))]
        self.ids: list[str] = letters.view("<U22").ravel().tolist()
        self.words: list[list[int]] = rng.integers(0, len(SYLLABLES), (count, 4)).tolist()
        self.artists: list[int] = (rng.zipf(1.3, count) % max(1, count // 8)).tolist()
        self.texts: dict[int, str] = {}

    def text(self, row: int) -> str:
        text = self.texts.get(row)
        if text is None:
            text = self.texts[row] = self._make(row)
        return text

    def _make(self, row: int) -> str:
        a, b, c, d = (SYLLABLES[one] for one in self.words[row])
        artist = self.artists[row]
        singer = f"{SYLLABLES[artist % 12]}{SYLLABLES[artist // 12 % 12]} {artist}"
        entry = {
            "artist_name": singer.title(),
            "track_uri": f"spotify:track:{self.ids[row]}",
            "artist_uri": f"spotify:artist:{artist:022d}",
            "track_name": f"{a}{b} {c}{d} {row % 97}".title(),
            "album_uri": f"spotify:album:{self.ids[row][::-1]}",
            "duration_ms": 120_000 + row * 7919 % 240_000,
            "album_name": f"{c}{a} ({singer})".title(),
        }
        space = ", \n" + " " * 20
        return space.join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in entry.items())


def _playlist_text(pid: int, days: int, pool: _Pool, rows: list[int]) -> str:
    title = TITLES[pid * 7 % len(TITLES)]
    head = {
        "name": VARIANTS[pid * 5 % len(VARIANTS)].format(title, pid % 10),
        "collaborative": "true" if pid % 40 == 0 else "false",
        "pid": pid,
        "modified_at": LAST_DAY - DAY * int(days),
        "num_tracks": len(rows),
        "num_albums": len(set(rows)),
        "num_followers": 1 + pid % 3,
    }
    if pid % 50 == 0:
        head["description"] = f"All about {title}"
    space, opening = " " * 16, " " * 20
    lines = [f"{space[4:]}{json.dumps(k)}: {json.dumps(v)}, \n" for k, v in head.items()]
    entries = [
        f'{space}{{\n{opening}"pos": {position}, \n{opening}{pool.text(row)}\n{space}}}'
        for position, row in enumerate(rows)
    ]
    tail = f'"num_edits": {2 + pid % 30}, \n            "duration_ms": {200_000 * len(rows)}'
    return (
        f"        {{\n{''.join(lines)}            "
        f'"tracks": [\n{ENTRY_END.join(entries)}\n            ], \n            {tail}, \n'
        f'            "num_artists": {len({pool.artists[row] for row in rows})}\n        }}'
    )
