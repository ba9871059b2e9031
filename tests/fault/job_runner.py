"""Runs `talkplay` commands in forks of a process that has loaded the libraries once, and disturbs
them: ends them with SIGKILL at a point that was counted out, lets a call fail there, or bounds the
size of files.

Started by `jobs.Runner`. Reads one JSON list of runs a line and starts them all at once; answers
with one JSON list. A point is a call that opens a file to write, makes, renames, links, flushes,
changes or removes one below the folder of the run.
"""

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# what the commands import anyway
import datasets  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import sklearn.cluster
import sklearn.decomposition
import sklearn.feature_extraction.text  # noqa: F401
import transformers  # noqa: F401
import trl  # noqa: F401

import talkplay_hf.build
import talkplay_hf.evaluation.evaluate
import talkplay_hf.evaluation.page.write
import talkplay_hf.recommend.recommender
import talkplay_hf.training.sft  # noqa: F401
from talkplay_hf.cli import main

EVENTS = {
    *("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate"),
    "shutil.copyfile",
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SECONDS = 120
# bytes that a run may say, and the call that makes a pipe so wide
PIPE, F_SETPIPE_SZ = 1 << 20, 1031


class Disturber:
    """Counts the points of a run and strikes at one of them."""

    def __init__(self, here: str, run: dict[str, Any]) -> None:
        self.here, self.points = here, 0
        self.kill, self.fail, self.errno = run.get("kill"), run.get("fail"), run.get("errno")
        self.writes, self.net = 0, run.get("net", False)

    def install(self) -> None:
        sys.addaudithook(self.hear)
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            self.meet("fsync", descriptor)
            flush(descriptor)

        os.fsync = fsync
        if self.net:
            for name in ("send", "sendall"):
                setattr(socket.socket, name, self.counted(getattr(socket.socket, name)))

    def counted(self, call: Any) -> Any:
        """A call of a socket that is a point."""

        def wrapped(*args: Any, **options: Any) -> Any:
            self.strike()
            return call(*args, **options)

        return wrapped

    def strike(self) -> None:
        self.points += 1
        if self.points == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITES:
                self.meet(event, path)
        elif event in EVENTS:
            self.meet(event, args[0], *(one for one in args[1:] if isinstance(one, int)))

    def meet(self, event: str, path: Any, *numbers: int) -> None:
        """One call. It counts where it is below the folder of the run."""
        try:
            if isinstance(path, int):
                path = Path(f"/proc/self/fd/{path}").readlink()
            path = Path(os.fsdecode(path))
            if not path.is_absolute():
                # relative to a descriptor, the last number that is one, or to the working folder
                folder = numbers[-1] if numbers and numbers[-1] > 2 else None
                path = (Path(f"/proc/self/fd/{folder}").readlink() if folder else Path.cwd()) / path
        except OSError:
            return
        if not path.is_relative_to(self.here):
            return
        self.strike()
        self.writes += event in ("open", "fsync", "os.mkdir")
        # a disk that is full stays full
        if (
            self.fail is not None
            and self.writes >= self.fail
            and event in ("open", "fsync", "os.mkdir")
        ):
            raise OSError(self.errno, os.strerror(self.errno), str(path))


def give_up_capabilities() -> None:
    """Be bound by the modes of files, which root is not otherwise."""
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(head, nothing) != 0:
        raise OSError("the capabilities cannot be given up")


def start(run: dict[str, Any]) -> tuple[int, list[int]]:
    """Fork one run; returns the id of its process and the pipes of what it says.

    No files, since their size may be bounded.
    """
    pipes = [os.pipe(), os.pipe()]
    for _, end in pipes:
        fcntl.fcntl(end, F_SETPIPE_SZ, PIPE)
    child = os.fork()
    if child:
        for _, end in pipes:
            os.close(end)
        return child, [end for end, _ in pipes]
    try:
        for number, (_, end) in enumerate(pipes, 1):
            os.dup2(end, number)
        os._exit(work(run))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def work(run: dict[str, Any]) -> int:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    os.chdir(run["here"])
    os.environ.update(run.get("env", {}))
    time.tzset()
    if run.get("limit") is not None:
        # the process dies in the middle of a write, or the write fails as on a full disk
        action = signal.SIG_DFL if run.get("die") else signal.SIG_IGN
        signal.signal(signal.SIGXFSZ, action)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (run["limit"], run["limit"]))
    if run.get("plain"):
        give_up_capabilities()
    disturber = Disturber(run["here"], run)
    disturber.install()
    signal.alarm(SECONDS)
    try:
        status = main(run["arguments"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 2
    except BaseException:
        traceback.print_exc()
        status = 70
    signal.alarm(0)
    disturber.fail = disturber.kill = None
    sys.stdout.flush()
    sys.stderr.flush()
    if run.get("limit") is None:
        Path(run["log"]).write_text(
            json.dumps([disturber.points, disturber.writes]), encoding="utf-8"
        )
    return status


def finish(run: dict[str, Any], child: int, pipes: list[int]) -> dict[str, Any]:
    """Wait for a run; what became of it."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for end in pipes:
        os.set_blocking(end, False)
        texts.append(os.read(end, PIPE).decode("utf-8", "replace"))
        os.close(end)
    counted, counts = Path(run["log"]), [0, 0]
    if counted.exists():
        counts = json.loads(counted.read_text(encoding="utf-8"))
        counted.unlink()
    return {
        **{"status": status, "out": texts[0], "err": texts[1]},
        **{"points": counts[0], "writes": counts[1]},
    }


def serve() -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        runs = json.loads(line)
        children = [start(run) for run in runs]
        ended = [finish(run, *started) for run, started in zip(runs, children, strict=True)]
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    serve()
