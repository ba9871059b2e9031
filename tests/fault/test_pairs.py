"""Two processes that are asked for the same at the same time."""

import re
from pathlib import Path

import pytest
from jobs import JOBS, Runner, Whole, artefacts, strangers

pytestmark = pytest.mark.slow
REFUSED = re.compile(r"another process is writing")


@pytest.mark.parametrize("whole", JOBS, indirect=True, ids=str)
def test_of_two_that_write_the_same_one_is_refused_or_both_make_it(
    whole: Whole, runner: Runner, tmp_path: Path, record_property
):
    here = whole.start(tmp_path / "here", whole.old is not None)
    ended = runner.run_all([{"arguments": whole.job.command, "here": here}] * 2)
    assert 0 in {one.status for one in ended}, [one.explained() for one in ended]
    for one in ended:
        if one.status:
            assert one.status == 2, one.explained()
            assert len(one.err.strip().splitlines()[-1:]) == 1
            assert REFUSED.search(one.err.strip().splitlines()[-1]), one.explained()
            assert "Traceback" not in one.err
    assert artefacts(whole.job, here) == whole.new
    assert strangers(whole.job, here) == []
    record_property("pairs on one folder", 1)
    record_property("of these refused", sum(one.status == 2 for one in ended))
