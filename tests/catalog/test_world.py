"""The demo world: known truth, the same bytes for the same seed, sound that can be played."""

import hashlib
import wave
from pathlib import Path

import numpy as np
import pytest

from talkplay_hf.catalog.render import SAMPLE_RATE, SECONDS, TIMBRES, render_clip
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SPLITS, playlist_splits
from talkplay_hf.catalog.world import LICENSE, make_world
from talkplay_hf.catalog.world_words import GENRES, MOODS
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        make_world(tmp_path / name, tracks=10, seed=seed)
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len([name for name in one if name.endswith(".wav")]) == 10
    assert other.keys() == one.keys()
    assert not set(one.values()) & set(other.values())


def test_ten_tracks_are_enough_and_nine_are_not(tmp_path: Path):
    assert len(make_world(tmp_path / "ten", tracks=10, audio=False)) == 10
    with pytest.raises(InputError, match="at least 10"):
        make_world(tmp_path / "nine", tracks=9, audio=False)
    assert not (tmp_path / "nine").exists()


def test_truth_columns(world: Catalog):
    assert {"genre", "mood", "theme", "instrument", "explicit"} <= set(world.extra_columns)
    truth, shown = 0, 0
    for row in range(len(world)):
        track = world.track_at(row)
        assert track.get("genre") in GENRES
        assert track.get("mood") in MOODS
        assert track.get("instrument") in GENRES[track.get("genre")][0]
        assert track.get("instrument") in TIMBRES
        assert 1970 <= (track.year or 0) <= 2030
        assert 50 <= (track.tempo or 0) <= 190
        assert (track.lyrics is None) is (track.get("theme") is None)
        assert track.license == LICENSE
        assert "not real music" in LICENSE
        truth += 3
        shown += len({track.get("genre"), track.get("mood"), track.get("instrument")}
                     & set(track.tags))  # fmt: skip
    assert 0.8 * truth < shown < truth  # tags are a noisy view of the truth


def test_titles_are_unique_and_playlists_are_of_known_tracks(world: Catalog):
    titles = world.column("title")
    assert len(set(titles)) == len(titles)
    lists = list(world.iter_playlists())
    assert len(lists) == len(world)
    for playlist in lists:
        assert playlist.track_ids
        assert len(set(playlist.track_ids)) == len(playlist.track_ids)
        assert all(track_id in world for track_id in playlist.track_ids)
    assert set(playlist_splits(world).values()) == set(SPLITS)


def test_playlists_have_a_taste(world: Catalog):
    """Two tracks of a playlist share their genre far more often than any two tracks."""
    genres = dict(zip(world.track_ids, world.column("genre"), strict=True))
    inside = [
        genres[a] == genres[b]
        for playlist in world.iter_playlists()
        for a, b in zip(playlist.track_ids, playlist.track_ids[1:], strict=False)
    ]
    values = list(genres.values())
    anywhere = [a == b for i, a in enumerate(values) for b in values[:i]]
    assert np.mean(inside) > 2 * np.mean(anywhere)


def test_without_audio_no_clip_is_named(world: Catalog, world_folder: Path):
    assert world.column("audio") == [None] * len(world)
    assert not (world_folder / "audio").exists()
    assert files.read_manifest(world_folder, "catalog")["world"] == {"seed": 0, "audio": False}


def test_clips_can_be_played(audio_world: Catalog):
    assert audio_world.root is not None
    for path in audio_world.column("audio"):
        with wave.open(str(audio_world.root / path), "rb") as clip:
            assert (clip.getnchannels(), clip.getsampwidth()) == (1, 2)
            assert clip.getframerate() == SAMPLE_RATE
            assert clip.getnframes() == int(SECONDS * SAMPLE_RATE)
            sound = np.frombuffer(clip.readframes(clip.getnframes()), dtype="<i2")
        assert 0.7 < np.abs(sound.astype(float)).max() / 32768 < 0.85
        assert np.sqrt(np.mean((sound / 32768.0) ** 2)) > 0.01


@pytest.mark.parametrize("instrument", ["violin", "no such instrument"])
@pytest.mark.parametrize("genre", ["techno", "no such genre"])
def test_any_factors_make_a_sound(instrument: str, genre: str):
    for tempo, key in ((50.0, 0), (190.0, 11)):
        clip = render_clip(
            tempo=tempo, key=key, major=False, instrument=instrument, genre=genre, seed=[1, 2]
        )
        assert np.isfinite(clip).all()
        assert np.abs(clip).max() == pytest.approx(0.8)
