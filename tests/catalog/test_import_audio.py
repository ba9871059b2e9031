"""The clips that a table names come along into the catalog folder."""

import json
import re
from pathlib import Path

import pytest

from talkplay_hf.catalog.import_report import ImportReport
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.render import render_clip, write_wav
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import InputError
from talkplay_hf.features.embed import embed


def run(folder: Path, cells: list[str]) -> tuple[ImportReport, list[str | None]]:
    """Import a table with these audio cells; the audio column of the catalog."""
    rows = [f'"a/{n}",Song {n},Ann,"{cell}"' for n, cell in enumerate(cells)]
    table = folder / "songs.csv"
    table.write_text("\n".join(["track_id,title,artist,audio", *rows]) + "\n", encoding="utf-8")
    report = import_table(table, folder / "out")
    return report, Catalog.load(folder / "out").column("audio")


def test_clips_beside_a_table_give_audio_vectors(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(3):
        clip = render_clip(
            tempo=90.0 + 20 * number, key=number, major=True, instrument="piano", genre="rock",
            seed=[number],
        )  # fmt: skip
        write_wav(tmp_path / "clips" / f"{number}.wav", clip)
    report, audio = run(tmp_path, ["clips/0.wav", "clips/1.wav", "clips/2.wav", ""])
    assert (report.missing_audio, audio[3]) == (0, None)
    assert "missing audio" not in report.summary()
    for path in (tmp_path / "clips").iterdir():
        path.unlink()
    made = embed(Catalog.load(tmp_path / "out"), tmp_path / "features")
    assert made["audio"].present.tolist() == [True, True, True, False]


def test_relative_absolute_and_outside_paths_are_copied(tmp_path: Path) -> None:
    inside = tmp_path / "table"
    inside.mkdir()
    for name in ("two  spaces.MP3", "x.flac", "../beside.ogg"):
        (inside / name).write_bytes(name.encode())
    cells = ["two  spaces.MP3", str(inside / "x.flac"), "../beside.ogg", "x.flac"]
    report, audio = run(inside, cells)
    assert report.missing_audio == 0
    held = [(inside / "out" / str(path)).read_bytes() for path in audio]
    assert held == [b"two  spaces.MP3", b"x.flac", b"../beside.ogg", b"x.flac"]
    assert len(set(audio)) == 4
    for number, (path, end) in enumerate(zip(audio, ("mp3", "flac", "ogg", "flac"), strict=True)):
        assert re.fullmatch(rf"audio/a_{number}-[0-9a-f]{{16}}\.{end}", str(path))
    folder = inside / "out" / "audio"
    assert sorted(folder.iterdir()) == sorted(inside / "out" / str(path) for path in audio)


def test_urls_stay_and_what_is_not_there_becomes_null(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dead.wav").symlink_to(tmp_path / "nowhere.wav")
    url = "https://example.org/a.mp3"
    cells = [url, "gone.wav", "secret.txt", "folder.wav", "dead.wav", "n" * 5000 + ".wav", ""]
    report, audio = run(tmp_path, cells)
    assert audio == [url, *[None] * 6]
    assert report.missing_audio == 5
    assert "missing audio: 5 (no such file" in report.summary()
    assert not (tmp_path / "out" / "audio").exists()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["import"]["missing_audio"] == 5


@pytest.mark.parametrize("track_id", ["../../up", "..", "/root", "音楽", "-", "x" * 500])
def test_no_track_id_leads_out_of_the_folder(tmp_path: Path, track_id: str) -> None:
    (tmp_path / "0.wav").write_bytes(b"sound")
    (tmp_path / "s.csv").write_text(
        f"track_id,title,artist,audio\n{track_id},A,x,0.wav\n", encoding="utf-8"
    )
    import_table(tmp_path / "s.csv", tmp_path / "out")
    (path,) = Catalog.load(tmp_path / "out").column("audio")
    assert (tmp_path / "out" / path).parent == tmp_path / "out" / "audio"
    assert (tmp_path / "out" / path).read_bytes() == b"sound"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0.wav", "out", "s.csv"]


def test_another_sound_is_another_catalog(tmp_path: Path) -> None:
    marks = []
    for sound in (b"one", b"two", b"two"):
        (tmp_path / "0.wav").write_bytes(sound)
        run(tmp_path, ["0.wav"])
        marks.append(Catalog.load(tmp_path / "out").fingerprint)
        assert len(list((tmp_path / "out" / "audio").iterdir())) == 1
    assert marks[0] != marks[1] == marks[2]


def test_a_copy_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "0.wav").write_bytes(b"sound")
    monkeypatch.setattr("talkplay_hf.catalog.import_audio.shutil.copyfile", fail)
    with pytest.raises(InputError, match=r"0\.wav: cannot be copied \(No space left"):
        run(tmp_path, ["0.wav"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.wav", "songs.csv"]
