"""The model of the demo world, for those who have none of their own yet."""

import os
from collections.abc import Sequence
from pathlib import Path

from talkplay_hf.build import BuildPaths, build
from talkplay_hf.catalog.world import make_world
from talkplay_hf.cli.show import progress_bars
from talkplay_hf.hub import files

HERE = Path("demo")
TRACKS = 300
CONVERSATIONS = 12_000


def demo_model(
    *, tracks: int = TRACKS, conversations: int = CONVERSATIONS, overrides: Sequence[str] = ()
) -> Path:
    """The folder of a model of the demo world, with its catalog beside it.

    It is that of `make demo` in the working folder, or the one in the user's cache folder, which is
    made where there is none. An interrupted making goes on from its last finished stage.

    Args:
        tracks (`int`): Tracks of the world.
        conversations (`int`): Conversations to train on.
        overrides (`Sequence[str]`): Further arguments for the training recipe.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = BuildPaths(cache / "talkplay_hf" / "demo")
    for paths in (BuildPaths(HERE), kept):
        if files.folder_kind(paths.model) == "model":
            print(f"No model is named: serving that of the demo world in {paths.model}")
            return paths.model
    print(
        f"No model is named: a demo world of {tracks} tracks and its model are made once, in "
        f"{kept.root}.\nThis takes a few minutes on two cores.",
        flush=True,
    )
    if not (kept.catalog / files.MANIFEST).exists():
        make_world(kept.catalog, tracks=tracks)
    build(
        kept.catalog,
        kept.root,
        conversations=conversations,
        overrides=overrides,
        progress=progress_bars(),
    )
    return kept.model
