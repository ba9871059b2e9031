"""The same bytes in other time zones and languages, with other hash seeds, by a clock set back."""

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from jobs import BY_NAME, Runner, artefacts, undisturbed

pytestmark = pytest.mark.slow
NAMES = (
    *("import-csv", "import-mpd", "world", "embed", "tokenize", "simulate", "remove-model"),
    *("recode", "train", "evaluate"),
)
RUN = """
import json, os, pathlib, sys
from talkplay_hf.cli import main
for name, command in json.loads(sys.argv[1]):
    pathlib.Path(name).mkdir()
    os.chdir(name)
    assert main(command) == 0, command
    os.chdir("..")
"""
# ten years back, for whatever asks the C library
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#define BACK 315360000
int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, at);
    if (clock == CLOCK_REALTIME) at->tv_sec -= BACK;
    return done;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
SURROUNDINGS: dict[str, dict[str, str]] = {
    "C, no UTF-8, east": {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "1",
        "TZ": "Pacific/Kiritimati",
    },
    "Turkish, west": {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "2", "TZ": "America/St_Johns"},
    "clock set back": {"PYTHONHASHSEED": "3", "TZ": "Asia/Kathmandu"},
}  # fmt: skip


def clock_set_back(folder: Path) -> Mapping[str, str]:
    """What makes a process believe that it is ten years ago; skips where no compiler is there."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (folder / "clock.c").write_text(CLOCK, encoding="utf-8")
    library = folder / "clock.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True
    )
    return {"LD_PRELOAD": str(library)}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_do_not_change_a_byte(
    name: str, runner: Runner, inputs: Path, tmp_path: Path, record_property, wholes
):
    commands = [(one, [runner.fill(word) for word in BY_NAME[one].command]) for one in NAMES]
    more = dict(SURROUNDINGS[name])
    if name == "clock set back":
        more |= clock_set_back(tmp_path)
        year = [sys.executable, "-c", "import datetime; print(datetime.date.today().year)"]
        said = subprocess.run(year, env={**os.environ, **more}, capture_output=True, check=True)
        assert int(said.stdout) < datetime.datetime.now(datetime.UTC).year - 8
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", **more},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-4000:]
    for one in NAMES:
        if one not in wholes:
            folder = tmp_path / f"whole-{one}"
            folder.mkdir()
            wholes[one] = undisturbed(BY_NAME[one], runner, folder)
        assert artefacts(BY_NAME[one], tmp_path / one) == wholes[one].new, one
    record_property("commands in other surroundings", len(NAMES))
