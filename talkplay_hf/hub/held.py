"""One writer at a time: locks that end with their process, and folders that change places."""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from talkplay_hf.errors import ArtifactError

# file systems without locks, some network drives for instance, are written to without
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_CURRENT_FOLDER = -100
_EXCHANGE = 2
# what this process holds, and by which of its threads
_held: dict[Path, int] = {}


@contextlib.contextmanager
def held(out: str | Path) -> Iterator[None]:
    """Hold what is about to be written, so that no other process writes it meanwhile.

    A thread may hold the same thing again inside. The lock is a hidden file beside; it ends with
    the process, however that ends, and the next holder takes over the file.

    Args:
        out (`str` or `Path`): The file or folder that is to be written.

    Raises:
        ArtifactError: If another process, or another thread, is writing it.
    """
    out = Path(out)
    lock = out.parent.resolve() / f".{out.name}.lock"
    me = threading.get_ident()
    if _held.get(lock) == me:
        yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False))
        except BlockingIOError:
            raise ArtifactError(
                f"{out}: another process is writing it; wait until that is done, or name another "
                "place"
            ) from None
        _held[lock] = me
        try:
            yield
        finally:
            del _held[lock]


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[int]:
    """Open a file that this process alone uses, and remove it at the end unless it was renamed.

    Args:
        path (`Path`): The file; made where it is not there.
        wait (`bool`): Wait for another process that uses it.

    Yields:
        `int`: Its descriptor, to read and write.

    Raises:
        BlockingIOError: If another process uses it, and `wait` is false.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            # the one before us has removed or renamed it
            mine = _is_at(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if mine:
            break
        os.close(descriptor)
    try:
        yield descriptor
    finally:
        try:
            if _is_at(descriptor, path):
                path.unlink()
        finally:
            os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; whether the system could do it."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is None:
        return False
    paths = (os.fsencode(one), os.fsencode(other))
    return bool(swap(_CURRENT_FOLDER, paths[0], _CURRENT_FOLDER, paths[1], _EXCHANGE) == 0)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
