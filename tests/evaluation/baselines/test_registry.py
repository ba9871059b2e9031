"""Every baseline is made by its name from the same sources, and none sees what is held out."""

import numpy as np
import pyarrow as pa
import pytest
from small_catalog import SMALL, played, user
from tiny_encoder import save_encoder

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.registry import BASELINES, make_baseline

TRACKS = [Track(f"t{n}", f"Song{n}", f"Band{n % 5}", tags=("folk",)) for n in range(20)]
TALKS = tuple(
    Conversation(
        f"c{n}", (Message("user", f"play song{n}"), Message("music", track_id=f"t{n}")), f"p{n}"
    )
    for n in range(20)
)
ASKED = [
    user("band1 song4"),
    played("t3", then="more folk"),
    (Message("user", "folk", constraints=(Constraint("artist", "is", "Band2"),)),),
]
# clap is tested with vectors of its own
TRAINED = ("two-tower", "rerank")
OFFLINE = [name for name in BASELINES if name != "clap"]


def world(held_out: tuple[Playlist, ...], split: str) -> Catalog:
    """A catalog of twenty training playlists, and of held-out ones under a split."""
    training = [Playlist(f"p{n}", (f"t{n}", f"t{(n * 7) % 20}")) for n in range(20)]
    catalog = Catalog.from_tracks(TRACKS, [*training, *held_out])
    splits = pa.array(["train"] * 20 + [split] * len(held_out))
    return Catalog(catalog.tracks, catalog.playlists.append_column("split", splits))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("encoder") / "model")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in TRAINED else ()) for n in OFFLINE],
)
@pytest.mark.parametrize("split", ["train", "test", "excluded"])
def test_held_out_playlists_change_nothing(name: str, split: str, encoder: str) -> None:
    tracks = ("t3", "t9", "t1", "t4")
    hidden = Playlist("h0", tracks), Playlist("h1", tracks[::-1] * 3)
    leak = Conversation(
        "leak", (Message("user", "more folk"), Message("music", track_id="t9")), "h0"
    )
    needed = encoder if name.startswith("dense") else None
    held = frozenset({"h0", "h1"}) if split == "train" else frozenset()
    scores = [
        make_baseline(name, BaselineSources(catalog, held, talks, encoder=needed)).scores(ASKED)
        for catalog, talks in (
            (world((), split), TALKS),
            (world(hidden, split), (*TALKS, leak)),
        )
    ]
    assert scores[0].shape == (3, 20)
    assert np.array_equal(*scores)


@pytest.mark.parametrize("name", ["popularity", "last-track", "filter", "hybrid"])
def test_training_playlists_do_change_what_counts_them(name: str) -> None:
    more = (Playlist("h0", ("t3", "t9", "t1", "t4")),)
    plain, taught = (
        make_baseline(name, BaselineSources(catalog)).scores(ASKED)
        for catalog in (world((), "train"), world(more, "train"))
    )
    assert not np.array_equal(plain, taught)


def test_hybrid_takes_the_encoder_where_there_is_one(encoder: str) -> None:
    asked = [user("gentle")]
    words = make_baseline("hybrid", BaselineSources(SMALL)).scores(asked)
    meaning = make_baseline("hybrid", BaselineSources(SMALL, encoder=encoder)).scores(asked)
    assert words.argmax() != 0
    assert meaning.argmax() == 0


def test_no_other_name_is_known() -> None:
    with pytest.raises(InputError, match="'bm26': must be one of random, popularity"):
        make_baseline("bm26", BaselineSources(SMALL))
