"""A two-tower model learns from training conversations, and from them alone."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_catalog import user
from tiny_encoder import save_encoder

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.errors import ArtifactError, ConfigError, InputError, MissingExtraError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.two_tower import QueryTexts, TwoTowerRanker
from talkplay_hf.evaluation.baselines.two_tower_training import TwoTowerOptions, train_two_tower

GENRES = ("folk", "synth", "metal", "swing")
SLANG = {"folk": "campfire", "synth": "arcade", "metal": "furnace", "swing": "ballroom"}
CATALOG = Catalog.from_tracks(
    [Track(f"t{n}", f"Song{n}", f"Band{n}", tags=(GENRES[n % 4],)) for n in range(40)],
    [Playlist(f"p{n}", (f"t{n}",)) for n in range(40)],
)
OPTIONS = TwoTowerOptions(dim=256, epochs=8, batch_size=8, learning_rate=0.01)


def talk(number: int, *, source: str = "playlist", word: str | None = None) -> Conversation:
    """A turn that asks for a track of a genre by a word that no track has."""
    asked = word or SLANG[GENRES[number % 4]]
    messages = (
        Message("user", f"some {asked} music"),
        Message("music", track_id=f"t{number}", source=source),
        Message("assistant", "Here."),
    )
    return Conversation(f"c{number}{source}", messages, f"p{number}")


TALKS = tuple(talk(n) for n in range(32))


def sources(*conversations: Conversation, held_out: tuple[str, ...] = ()) -> BaselineSources:
    return BaselineSources(CATALOG, frozenset(held_out), conversations)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two_tower(sources(*TALKS), tmp_path_factory.mktemp("two") / "tower", OPTIONS)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_it_learns_what_words_ask_for(trained: Path) -> None:
    ranker = TwoTowerRanker(replace(sources(), two_tower=trained))
    asked = [user(f"some {SLANG[genre]} music") for genre in GENRES]
    for place, scores in enumerate(ranker.scores(asked)):
        unseen = scores[32:].reshape(-1, 4).mean(axis=0)
        assert unseen.argmax() == place


def test_names_are_matched_though_no_conversation_had_them(trained: Path) -> None:
    ranker = TwoTowerRanker(replace(sources(), two_tower=trained))
    assert ranker.scores([user("play band37"), user("song34")]).argmax(axis=1).tolist() == [37, 34]


def test_the_same_sources_give_the_same_files(trained: Path, tmp_path: Path) -> None:
    again = train_two_tower(sources(*TALKS), tmp_path / "again", OPTIONS)
    assert digests(again) == digests(trained)
    assert not [name for name in digests(again) if name.endswith((".bin", ".pt", ".pkl"))]


def test_held_out_and_rejected_tracks_teach_nothing(trained: Path, tmp_path: Path) -> None:
    misleading = [
        replace(talk(36, word="arcade"), playlist_id="secret"),
        replace(talk(37, word="campfire"), split="test"),
        talk(3, source="negative", word="campfire"),
    ]
    made = sources(*TALKS, *misleading[:2], held_out=("secret",))
    assert digests(train_two_tower(made, tmp_path / "a", OPTIONS)) == digests(trained)
    made = sources(*TALKS, misleading[2])
    again = train_two_tower(made, tmp_path / "b", replace(OPTIONS))
    weights = "model/query_0_StaticEmbedding/model.safetensors"
    assert digests(again)[weights] == digests(trained)[weights]


@pytest.mark.slow
def test_without_a_folder_it_is_trained_at_once() -> None:
    scores = TwoTowerRanker(sources(*TALKS)).scores([user("song34"), user("")])
    assert scores[0].argmax() == 34
    assert not scores[1].any()


@pytest.mark.slow
def test_tracks_of_the_same_text_are_tied() -> None:
    tracks = [Track(f"t{n}", "Song", "Band", tags=(GENRES[n % 4],)) for n in range(40)]
    catalog = Catalog.from_tracks(tracks)
    scores = TwoTowerRanker(BaselineSources(catalog, conversations=TALKS)).scores([user("folk")])
    assert all(len(np.unique(scores[0, n::4])) == 1 for n in range(4))


@pytest.mark.slow
def test_an_encoder_is_fine_tuned_in_place_of_word_vectors(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path / "encoder")
    asked = {0: "gentle", 1: "electronic"}
    talks = [talk(n, word=asked[n % 4]) for n in range(32) if n % 4 in asked]
    made = replace(sources(*talks), encoder=encoder)
    folder = train_two_tower(made, tmp_path / "tower", replace(OPTIONS, learning_rate=0.1))
    (scores,) = TwoTowerRanker(replace(made, two_tower=folder)).scores([user("electronic")])
    assert scores[33::4].mean() > scores[32::4].mean()


def test_the_query_is_the_last_message_and_what_came_before_it() -> None:
    history = (
        Message("system", "be quiet"),
        Message("user", "First, please!"),
        Message("music", track_id="t1"),
        Message("assistant", "Enjoy."),
        Message("music", track_id="gone"),
        Message("user", "Now that"),
    )
    assert QueryTexts(CATALOG, marked=False)(history) == (
        "Now that\nSong1 by Band1 synth\nFirst, please!"
    )
    assert QueryTexts(CATALOG, marked=True)(history) == (
        "now that _song1 _by _band1 _synth _first _please"
    )
    assert QueryTexts(CATALOG, marked=True)(history[:1]) == ""


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs training conversations, and these have 0 turns"):
        TwoTowerRanker(sources())
    with pytest.raises(InputError, match="these have 1 turns"):
        TwoTowerRanker(sources(talk(0), talk(1, source="negative")))
    with pytest.raises(ArtifactError, match="no such folder"):
        TwoTowerRanker(replace(sources(), two_tower=tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="epochs 0: must be above 0"):
        TwoTowerOptions(epochs=0)


def test_without_sentence_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"two-tower baseline .*talkplay-hf\[features\]"):
        TwoTowerRanker(sources(*TALKS))


def test_several_processes_do_not_train_one_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # one that finds all of its share kept would never come, and the others would wait for it
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        train_two_tower(sources(*TALKS), tmp_path / "tower", OPTIONS)
