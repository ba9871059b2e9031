"""A program in two processes, as `torchrun` starts it."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def run_in_two_processes(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m` and a module, with its arguments; what both said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    done = subprocess.run(
        [sys.executable, *launch, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done
