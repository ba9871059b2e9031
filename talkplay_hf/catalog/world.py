"""The demo world: a fictional, freely licensed catalogue with known truth.

Artists, tracks, playlists and short audio clips come from a seeded generator over latent factors
(genre, mood, era, tempo, key, artist, theme, instrument). The truth stands in extra columns
(`genre`, `mood`, `theme`, `instrument`); `tags` are a noisy view of it, as real tags are.
"""

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog import world_words as words
from talkplay_hf.catalog.cells import PITCHES
from talkplay_hf.catalog.render import render_clip, write_wav
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SplitOptions, with_splits
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

LICENSE = "CC0-1.0 (generated; not real music)"
FIRST_YEAR, LAST_YEAR = 1970, 2024
INSTRUMENTAL_SHARE = 0.12
TAG_DROPPED, TAG_WRONG = 0.08, 0.05
TRACKS_PER_ARTIST = 8
PLAYLIST_SIZE = (10, 24)
NAME_TRIES = 8


def is_demo_world(folder: str | Path) -> bool:
    """Whether a catalog folder is the demo world, which is to be said beside every figure on it.

    Raises:
        ArtifactError: If the folder is not a catalog folder.
    """
    return "world" in files.read_manifest(folder, "catalog")


def make_world(
    out: str | Path,
    *,
    tracks: int = 300,
    seed: int = 0,
    audio: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Catalog:
    """Write the demo world as a catalog folder and return it.

    Args:
        out (`str` or `Path`): The catalog folder to make.
        tracks (`int`): Number of tracks, at least 10, and of playlists.
        seed (`int`): The same seed gives the same bytes.
        audio (`bool`): Whether to render a clip of a few seconds for each track.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Raises:
        InputError: If `tracks` is below 10.
    """
    if tracks < 10:
        raise InputError(f"the demo world needs at least 10 tracks; {tracks} were asked for")
    rng = np.random.default_rng([seed, tracks])
    table, popularity = _make_tracks(tracks, rng, audio)
    lists = _make_playlists(table, popularity, rng)
    # A small world has few tracks for its playlists: most are near-duplicates of some other.
    options = SplitOptions(method="random", near_duplicates="keep", seed=seed)
    catalog = with_splits(Catalog(table, lists), options)
    with files.staged_folder(out, "catalog") as aside:
        catalog.write(aside)
        if audio:
            (aside / "audio").mkdir()
            for row in range(tracks):
                track = catalog.track_at(row)
                clip = render_clip(
                    tempo=track.tempo or 100.0,
                    key=PITCHES.index((track.key or "C major").split()[0]),
                    major="major" in (track.key or ""),
                    instrument=str(track.get("instrument")),
                    genre=str(track.get("genre")),
                    seed=[seed, row],
                )
                write_wav(aside / str(track.audio), clip)
                if progress is not None:
                    progress("rendering audio", row + 1, tracks)
        catalog.write_manifest(aside, {}, world={"seed": seed, "audio": audio})
    return Catalog.load(out)


def _make_artists(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Artists with a home genre, two moods and some active years."""
    seen: set[str] = set()
    names = [_unused(lambda: _artist_name(rng), seen, "{name} {number}") for _ in range(count)]
    genres = np.array([i % len(words.GENRES) for i in range(count)])
    rng.shuffle(genres)
    return {
        "name": np.array(names),
        "genre": genres,
        "moods": np.stack(
            [rng.choice(len(words.MOODS), size=2, replace=False) for _ in range(count)]
        ),
        "start": rng.integers(FIRST_YEAR, LAST_YEAR - 6, count),
    }


def _make_tracks(count: int, rng: np.random.Generator, audio: bool) -> tuple[pa.Table, np.ndarray]:
    artists = _make_artists(max(4, count // TRACKS_PER_ARTIST), rng)
    genre_names, mood_names = list(words.GENRES), list(words.MOODS)
    popularity = 1.0 / np.arange(1, count + 1) ** 0.8
    rng.shuffle(popularity)
    columns: dict[str, list[object]] = {}
    titles: set[str] = set()
    for row in range(count):
        artist = int(rng.integers(len(artists["name"])))
        genre = genre_names[int(artists["genre"][artist])]
        mood = mood_names[int(artists["moods"][artist][int(rng.random() < 0.35)])]
        instruments, base_tempo = words.GENRES[genre]
        shift, major, themes = words.MOODS[mood]
        instrument = str(rng.choice(instruments))
        theme = str(rng.choice(themes))
        year = int(artists["start"][artist] + rng.integers(0, 7))
        tempo = float(np.clip(base_tempo + shift + rng.normal(0, 7), 50, 190))
        key = f"{PITCHES[int(rng.integers(12))]} {'major' if major else 'minor'}"
        values = {
            "track_id": f"demo-{row:07d}",
            "title": _unused(lambda: _title(rng), titles, "{name}, Part {number}"),
            "artist": str(artists["name"][artist]),
            "album": f"{rng.choice(words.TITLE_HEADS)} {rng.choice(words.TITLE_TAILS)}",
            "release_date": datetime.date(
                year, int(rng.integers(1, 13)), int(rng.integers(1, 29))
            ).isoformat(),
            "tags": _noisy_tags([genre, mood, instrument], genre_names + mood_names, rng),
            "lyrics": None if rng.random() < INSTRUMENTAL_SHARE else _lyrics(theme, rng),
            "caption": f"A {mood} {genre} piece led by {instrument}.",
            "popularity": round(100 * float(popularity[row] / popularity.max()), 2),
            "tempo": round(tempo, 1),
            "key": key,
            "audio": f"audio/demo-{row:07d}.wav" if audio else None,
            "license": LICENSE,
            "genre": genre,
            "mood": mood,
            "theme": theme,
            "instrument": instrument,
            "explicit": bool(rng.random() < 0.1),
        }
        if values["lyrics"] is None:
            values["theme"] = None
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return pa.table(columns), popularity


def _unused(draw: Callable[[], str], seen: set[str], numbered: str) -> str:
    """Draw a name that is not in use yet; give it a number where the words run out."""
    name = draw()
    for _ in range(NAME_TRIES):
        if name not in seen:
            break
        name = draw()
    else:
        name = numbered.format(name=name, number=len(seen) + 1)
    seen.add(name)
    return name


def _artist_name(rng: np.random.Generator) -> str:
    last = str(rng.choice(words.ARTIST_LAST))
    if rng.random() < 0.3:
        return f"The {last} {rng.choice(words.BAND_NOUNS)}"
    return f"{rng.choice(words.ARTIST_FIRST)} {last}"


def _title(rng: np.random.Generator) -> str:
    tail, other = rng.choice(words.TITLE_TAILS, size=2, replace=False)
    pattern = str(rng.choice(words.TITLE_JOINS))
    return pattern.format(head=rng.choice(words.TITLE_HEADS), tail=tail, other=other)


def _noisy_tags(truth: list[str], wrong: list[str], rng: np.random.Generator) -> list[str]:
    tags = [tag for tag in truth if rng.random() >= TAG_DROPPED]
    if rng.random() < TAG_WRONG:
        tags.append(str(rng.choice(wrong)))
    return list(dict.fromkeys(tags))


def _lyrics(theme: str, rng: np.random.Generator) -> str:
    lines = []
    for line in rng.choice(words.LYRIC_LINES, size=4, replace=False):
        a, b = rng.choice(words.THEMES[theme], size=2, replace=False)
        lines.append(str(line).format(a=a, b=b))
    return "\n".join(lines)


def _make_playlists(tracks: pa.Table, popularity: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """As many playlists as tracks, of listeners who like a genre, a mood and an era, and follow
    the crowd a little."""
    genre = np.array(tracks["genre"].to_pylist())
    mood = np.array(tracks["mood"].to_pylist())
    year = np.array([int(date[:4]) for date in tracks["release_date"].to_pylist()])
    ids = np.array(tracks["track_id"].to_pylist())
    pools: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, labels in (("genre", genre), ("mood", mood)):
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            pools[f"{name}:{label}"] = rows, np.cumsum(popularity[rows])
    rows_out: list[dict[str, object]] = []
    for number in range(len(ids)):
        seed_row = int(rng.integers(len(ids)))
        like_genre, like_mood, like_year = genre[seed_row], mood[seed_row], year[seed_row]
        size = int(rng.integers(*PLAYLIST_SIZE))
        drawn = np.unique(
            np.concatenate(
                [
                    [seed_row],
                    _draw(pools[f"genre:{like_genre}"], 3 * size, rng),
                    _draw(pools[f"mood:{like_mood}"], 2 * size, rng),
                ]
            )
        )
        affinity = (
            2.0 * (genre[drawn] == like_genre)
            + 2.0 * (mood[drawn] == like_mood)
            - np.abs(year[drawn] - like_year) / 15
            + rng.gumbel(0, 0.7, len(drawn))
        )
        chosen = drawn[np.argsort(-affinity)[:size]]
        rng.shuffle(chosen)
        date = datetime.date(2015, 1, 1) + datetime.timedelta(days=int(rng.integers(0, 3650)))
        rows_out.append(
            {
                "playlist_id": f"demo-list-{number:07d}",
                "name": f"{like_mood} {like_genre}",
                "description": None,
                "created_at": date.isoformat(),
                "track_ids": ids[chosen].tolist(),
            }
        )
    return pa.Table.from_pylist(rows_out)


def _draw(pool: tuple[np.ndarray, np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    rows, cumulative = pool
    at = np.searchsorted(cumulative, rng.random(size) * cumulative[-1])
    return np.asarray(rows[np.minimum(at, len(rows) - 1)])
