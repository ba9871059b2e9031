"""One writer at a time, and what killed ones leave behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.hub.held import exchange, held, locked

HOLD = """
import sys, time
from talkplay_hf.hub.held import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(out: Path, text: str) -> None:
    with files.staged_folder(out, "catalog") as aside:
        files.write_json(aside / files.MANIFEST, {"kind": "catalog", "text": text})


def text_of(out: Path) -> str:
    return files.read_json(out / files.MANIFEST)["text"]


def refused_elsewhere(out: Path) -> bool:
    """Whether another thread, which is like another process to a lock, is refused."""
    found: list[str] = []

    def take() -> None:
        try:
            with held(out):
                found.append("")
        except ArtifactError as error:
            found.append(str(error))

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return f"{out}: another process is writing it" in found[0]


def test_what_is_held_is_held_once_and_leaves_nothing(tmp_path: Path):
    out = tmp_path / "new" / "out"
    with held(out), held(out):
        assert refused_elsewhere(out)
        assert not refused_elsewhere(out.with_name("other"))
    assert not refused_elsewhere(out)
    assert names(out.parent) == []


def test_a_lock_ends_with_its_process(tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match="another process is writing it"):
            make(out, "new")
        assert names(tmp_path) == [".out.lock"]
        process.send_signal(signal.SIGKILL)
    make(out, "new")
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_has_staged_is_cleared_away(tmp_path: Path):
    out, aside = tmp_path / "out", tmp_path / ".out.aside" / "out"
    aside.mkdir(parents=True)
    (aside / "half").write_text("x", encoding="utf-8")
    (tmp_path / ".out.lock").touch()
    (tmp_path / ".out.other").touch()
    make(out, "new")
    assert names(tmp_path) == [".out.other", "out"]
    assert names(out) == [files.MANIFEST]


def test_a_folder_that_was_moved_away_and_never_replaced_comes_back(tmp_path: Path):
    """On systems that cannot exchange two folders a kill may come between the two renames."""
    out = tmp_path / "out"
    make(out, "old")
    (tmp_path / ".out.aside").mkdir()
    out.rename(tmp_path / ".out.aside" / ".old")
    files.clear_leftovers(out)
    assert text_of(out) == "old"
    assert names(tmp_path) == ["out"]


def test_two_folders_change_places_in_one_step(tmp_path: Path):
    make(tmp_path / "one", "1")
    make(tmp_path / "other", "2")
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system cannot exchange two folders")
    assert [text_of(tmp_path / name) for name in ("one", "other")] == ["2", "1"]
    assert not exchange(tmp_path / "one", tmp_path / "missing")


def test_a_writer_waits_for_another_of_the_same_file(tmp_path: Path):
    path, aside = tmp_path / "note.json", tmp_path / ".note.json.aside"
    writer = threading.Thread(target=files.write_text, args=(path, "second"))
    with locked(aside, wait=True) as descriptor:
        os.write(descriptor, b"first, and longer")
        writer.start()
        writer.join(0.05)
        assert writer.is_alive()
        assert not path.exists()
        aside.replace(path)
    writer.join()
    assert path.read_text(encoding="utf-8") == "second"
    assert names(tmp_path) == ["note.json"]


def test_a_link_in_the_place_of_what_is_written_aside_is_not_followed(tmp_path: Path):
    (tmp_path / "mine").write_text("x", encoding="utf-8")
    (tmp_path / ".note.aside").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError):
        files.write_text(tmp_path / "note", "new")
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "x"
