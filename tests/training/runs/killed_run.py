"""Start a training again and again, and kill it with SIGKILL while it writes a checkpoint.

Run as `python killed_run.py FOLDER ROUNDS [arguments of the recipe]`. Each start is a fork of this
process, which has loaded the libraries once. Prints a line a kill, `KILL` and a JSON object: the
file that was being written, the checkpoint that it was in, and the last complete one before and
after.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from talkplay_hf.training import sft
from talkplay_hf.training.runs.checkpoints import checkpoints, last_complete

# the files of a checkpoint in the order in which they are written
STAGES = ("config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
PATIENCE = 60.0


def start(arguments: list[str]) -> int:
    """Fork a training; returns the id of its process."""
    child = os.fork()
    if child:
        return child
    try:
        sft.main(arguments)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def kill_while_writing(child: int, folder: Path, stage: str) -> str:
    """Kill a process once a new checkpoint has the file `stage`; returns the checkpoint's name."""
    known = set(checkpoints(folder))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for path in checkpoints(folder):
            if path not in known and (path / stage).exists():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return path.name
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit("the training ended before it could be killed")
        time.sleep(0.0002)
    raise SystemExit(f"no checkpoint had {stage} in {PATIENCE} s")


def main(folder: Path, rounds: int, arguments: list[str]) -> None:
    for number in range(rounds):
        stage = STAGES[number % len(STAGES)]
        before = last_complete(folder)
        child = start([*arguments, "--resume_from_checkpoint", "true"])
        killed = kill_while_writing(child, folder, stage)
        after = last_complete(folder)
        names = [path and path.name for path in (before, after)]
        found = {"stage": stage, "killed": killed, "before": names[0], "after": names[1]}
        print("KILL", json.dumps(found))
    child = start([*arguments, "--resume_from_checkpoint", "true"])
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the last start failed")


if __name__ == "__main__":
    # what a killed process has said is not lost
    sys.stdout.reconfigure(line_buffering=True)
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
