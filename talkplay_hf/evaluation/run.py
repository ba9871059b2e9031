"""Systems over turns: in chunks, shared by processes, kept in a cache, with progress."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from talkplay_hf.evaluation.cache import ChunkStore, chunk_name
from talkplay_hf.evaluation.outcomes import Arrays
from talkplay_hf.evaluation.turns import Turn
from talkplay_hf.features.shards import Processes

# turns a chunk, where conversations end: what is lost when a run is killed
CHUNK = 64

Run = Callable[[Sequence[int], Sequence[Turn]], Arrays]


@dataclass(frozen=True)
class Task:
    """What one system has to do.

    Args:
        name (`str`): The system.
        numbers (`Sequence[int]`): Which of the turns, in order.
        identity (`Mapping[str, Any]`): JSON values that its figures depend on.
        prepare (`Callable`): Makes what runs it: a function of the numbers and the turns of a chunk
            that gives named arrays. Called only where a chunk is not in the cache.
    """

    name: str
    numbers: Sequence[int]
    identity: Mapping[str, Any]
    prepare: Callable[[], Run]


def run_tasks(
    tasks: Sequence[Task],
    turns: Sequence[Turn],
    *,
    cache: Path | None,
    processes: Processes,
) -> dict[str, list[Arrays]]:
    """Run every task over its turns.

    A chunk holds whole conversations and is the same however many processes there are, so their
    number changes no figure.

    Args:
        tasks (`Sequence[Task]`): The tasks; each name stands once.
        turns (`Sequence[Turn]`): All turns.
        cache (`Path`, *optional*): Where chunks are kept.
        processes (`Processes`): The processes that share the chunks.

    Returns:
        `dict[str, list[dict[str, numpy.ndarray]]]`: By task, the arrays of its chunks in order.
        Every process gets all of them.
    """
    done: dict[tuple[str, int], Arrays] = {}
    left: dict[str, list[tuple[int, list[int]]]] = {}
    stores: dict[str, ChunkStore | None] = {}
    for task in tasks:
        store = ChunkStore(cache, task.name, task.identity) if cache else None
        stores[task.name], left[task.name] = store, []
        for place, numbers in enumerate(chunks(task.numbers, turns)):
            if place % processes.count != processes.rank:
                continue
            name = chunk_name(numbers, [turns[i] for i in numbers]) if store else ""
            found = store.read(name) if store else None
            if found is None:
                left[task.name].append((place, numbers))
            else:
                done[task.name, place] = found
    # whatever cannot be made is told before anything runs for hours
    runs = {task.name: task.prepare() for task in tasks if left[task.name]}
    for task in tasks:
        store, todo = stores[task.name], left[task.name]
        if not todo:
            continue
        count = sum(len(numbers) for _, numbers in todo)
        quiet = True if processes.rank else None
        with tqdm(total=count, desc=task.name, unit="turn", disable=quiet) as bar:
            for place, numbers in todo:
                some = [turns[i] for i in numbers]
                arrays = runs[task.name](numbers, some)
                if store:
                    store.write(chunk_name(numbers, some), arrays)
                done[task.name, place] = arrays
                bar.update(len(numbers))
        # a model or an index may be large
        del runs[task.name]
    if processes.count > 1:
        from accelerate.utils import gather_object

        done = dict(gather_object(list(done.items())))
    return {task.name: [done[key] for key in sorted(done) if key[0] == task.name] for task in tasks}


def chunks(numbers: Sequence[int], turns: Sequence[Turn]) -> Iterator[list[int]]:
    """Cut turns into chunks of about `CHUNK` where conversations end."""
    chunk: list[int] = []
    for i in numbers:
        if len(chunk) >= CHUNK and turns[i].conversation != turns[chunk[-1]].conversation:
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk
