"""The table of what was heard in a catalog."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from encoded import catalog_of
from tiny_audio_models import save_whisper

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.features import annotate as module
from talkplay_hf.features.annotate import annotate
from talkplay_hf.features.caption import Captioner
from talkplay_hf.features.rhythm import Rhythm
from talkplay_hf.features.transcribe import Transcriber

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("librosa")


@pytest.fixture
def music(tmp_path: Path) -> Catalog:
    """Six good files, a broken one, a track without a file."""
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.flac", 0.1 * rng.standard_normal(64_000), 16_000)
    (tmp_path / "broken.mp3").write_bytes(b"no sound" * 40)
    return catalog_of(tmp_path, [*(f"{n}.flac" for n in range(4)), "broken.mp3", None,
                                 "4.flac", "5.flac"])  # fmt: skip


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_TRACKS", 2)
    monkeypatch.setattr(module, "GROUP", 2)


def test_only_the_asked_columns_are_written(music: Catalog, tmp_path: Path):
    words = Transcriber(str(save_whisper(tmp_path / "w", says="all the words of one song here")))
    caption = Captioner(str(save_whisper(tmp_path / "c", says="a song")), max_new_tokens=5)
    out = tmp_path / "out" / "heard.parquet"
    done = annotate(music, out, lyrics=words, caption=caption)
    table = pq.read_table(out)
    assert table.column_names == ["track_id", "lyrics", "language", "instrumental", "caption"]
    assert table["track_id"].to_pylist() == ["0", "1", "2", "3", "6", "7"]
    assert set(table["lyrics"].to_pylist()) == {"all the words of one song here"}
    assert set(table["language"].to_pylist()) == {"en"}
    assert set(table["instrumental"].to_pylist()) == {False}
    assert all(caption.startswith("a s") for caption in table["caption"].to_pylist())
    assert (done.tracks, done.without_audio) == (6, 1)


def test_a_file_that_cannot_be_used_is_named_and_counted(music: Catalog, tmp_path: Path):
    done = annotate(music, tmp_path / "heard.parquet", rhythm=True)
    assert [(failure.row, failure.track_id) for failure in done.failures] == [(4, "4")]
    assert "broken.mp3" in done.failures[0].reason
    beside = pq.read_table(tmp_path / "heard.failures.parquet").to_pylist()
    assert [entry["row"] for entry in beside] == [4]
    with pytest.raises(InputError, match=r"'4' in row 4: .*broken\.mp3"):
        annotate(music, tmp_path / "other.parquet", rhythm=True, on_error="stop")
    assert not (tmp_path / "other.parquet").exists()


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    music: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    annotate(music, whole, rhythm=True)
    heard: list[int] = []

    def interrupted(sound: np.ndarray) -> Rhythm:
        heard.append(len(sound))
        if len(heard) == 6:
            raise KeyboardInterrupt
        return estimate(sound)

    estimate = module.estimate_rhythm
    monkeypatch.setattr(module, "estimate_rhythm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        annotate(music, cut, rhythm=True)
    assert not cut.exists()
    done = annotate(music, cut, rhythm=True)
    # three shards of two tracks were finished but for the last track
    assert len(heard) == 6 + 6 - 4
    assert cut.read_bytes() == whole.read_bytes()
    assert len(done.failures) == 1
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.usefixtures("small_shards")
def test_a_run_that_stops_at_errors_stops_at_those_of_the_run_that_it_takes_up(
    music: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(paths: list[Path]) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "heard.parquet"
    monkeypatch.setattr(module, "_groups", interrupted)
    with pytest.raises(KeyboardInterrupt):
        annotate(music, out, rhythm=True)
    with pytest.raises(InputError, match=r"'4' in row 4: .*broken\.mp3"):
        annotate(music, out, rhythm=True, on_error="stop")
    assert not out.exists()


@pytest.mark.usefixtures("small_shards")
def test_other_options_do_not_take_up_an_interrupted_run(
    music: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "heard.parquet"

    def interrupted(paths: list[Path]) -> None:
        raise KeyboardInterrupt

    groups = module._groups
    monkeypatch.setattr(module, "_groups", interrupted)
    with pytest.raises(KeyboardInterrupt):
        annotate(music, out, rhythm=True)
    monkeypatch.setattr(module, "_groups", groups)
    folder = save_whisper(tmp_path / "w", says="all the words of one song here")
    annotate(music, out, lyrics=Transcriber(str(folder)))
    assert "lyrics" in pq.read_schema(out).names
    assert "tempo" not in pq.read_schema(out).names


def test_a_model_that_is_not_there_stops_the_run(music: Catalog, tmp_path: Path):
    with pytest.raises(ConfigError, match="absent"):
        annotate(music, tmp_path / "out.parquet", lyrics=Transcriber(str(tmp_path / "absent")))
    assert not any(path for path in tmp_path.iterdir() if path.name.startswith(".out"))


def test_nothing_to_do_is_refused(music: Catalog, tmp_path: Path):
    with pytest.raises(ConfigError, match="nothing to annotate"):
        annotate(music, tmp_path / "out.parquet")
    with pytest.raises(ConfigError, match="on_error"):
        annotate(music, tmp_path / "out.parquet", rhythm=True, on_error="perhaps")
    with pytest.raises(InputError, match="audio"):
        annotate(catalog_of(tmp_path, [None]), tmp_path / "out.parquet", rhythm=True)
    for name in ("a.parquet", "table.csv", "table"):
        (tmp_path / "a.parquet").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=r"name a file to write that ends in \.parquet"):
            annotate(music, tmp_path / name, rhythm=True)
