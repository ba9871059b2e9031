"""A disk that is full, and folders that cannot be written to: one line, exit 2, nothing broken."""

import errno
import signal
from pathlib import Path

import pytest
from jobs import JOBS, Ended, Runner, Whole, artefacts, strangers, tree
from test_kills import check_visible, spread

pytestmark = pytest.mark.slow
FAILURES = 4
# bytes that a file may have, as shares of the largest file that the job makes
SHARES = (0.0, 0.3, 0.9)


def check_refused(ended: Ended, words: str | tuple[str, ...]) -> None:
    """Exit status 2 and one clear line, the last one said."""
    assert ended.status == 2, ended.explained()
    assert "Traceback" not in ended.err, ended.explained()
    line = ended.err.strip().splitlines()[-1]
    assert line.startswith("talkplay "), ended.explained()
    either = (words,) if isinstance(words, str) else words
    assert any(one in line for one in either), ended.explained()


@pytest.mark.parametrize("whole", JOBS, indirect=True, ids=str)
def test_a_full_disk_is_said_and_leaves_what_was_there(
    whole: Whole, runner: Runner, tmp_path: Path, record_property
):
    """From the n-th call on, no file can be opened to write, no folder made and nothing flushed."""
    count = 0
    for over_old in (False, True) if whole.old else (False,):
        for point in spread(whole.writes[over_old], FAILURES):
            here = whole.start(tmp_path / f"{point}-{over_old}", over_old)
            ended = runner.run(whole.job.command, here, fail=point, errno=errno.ENOSPC)
            check_refused(ended, "No space left on device")
            count += 1
            check_visible(whole, here, over_old)
    # what is left of the last one does not keep the command from ending well
    runner.done(whole.job.command, here)
    assert artefacts(whole.job, here) == whole.new
    assert strangers(whole.job, here) == []
    record_property("disk full, a call fails", count)


@pytest.mark.parametrize("die", [False, True], ids=["fails", "dies"])
@pytest.mark.parametrize("whole", JOBS, indirect=True, ids=str)
def test_a_file_that_is_cut_in_the_middle_of_a_write_is_never_seen(
    whole: Whole, die: bool, runner: Runner, tmp_path: Path, record_property
):
    """The system bounds the size of files, also of those that are written by other languages than
    Python: the write fails, or the process is killed in it."""
    largest = max(len(data) for made in whole.new.values() for data in made.values())
    for share in SHARES:
        over_old = whole.old is not None and share > 0.5
        here = whole.start(tmp_path / str(share), over_old)
        ended = runner.run(whole.job.command, here, limit=int(largest * share), die=die)
        if die:
            assert ended.status == -signal.SIGXFSZ, ended.explained()
        else:
            check_refused(ended, "")
        check_visible(whole, here, over_old)
        runner.done(whole.job.command, here)
        assert artefacts(whole.job, here) == whole.new
        assert strangers(whole.job, here) == []
    record_property("killed in a write" if die else "a write fails", len(SHARES))


@pytest.mark.parametrize("whole", JOBS, indirect=True, ids=str)
def test_a_read_only_folder_is_said_and_stays_as_it_was(
    whole: Whole, runner: Runner, tmp_path: Path, record_property
):
    for over_old in (False, True) if whole.old else (False,):
        here = whole.start(tmp_path / str(over_old), over_old)
        before = tree(here)
        here.chmod(0o555)
        try:
            ended = runner.run(whole.job.command, here, plain=True)
        finally:
            here.chmod(0o755)
        check_refused(ended, ("ermission denied", "not a folder that can be written to"))
        assert tree(here) == before
    record_property("read-only folders", 1 + bool(whole.old))
