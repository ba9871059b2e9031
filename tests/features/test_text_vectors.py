"""Text vectors of tags, metadata and lyrics."""

from pathlib import Path

import numpy as np
import pytest
from sharded_run import make_run

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.features.store import ModalityVectors
from talkplay_hf.features.text import TfidfSvd


def encoded(catalog: Catalog, modality: str, dim: int = 128) -> ModalityVectors:
    return TfidfSvd(dim=dim).encode(catalog, modality, make_run(Path("unused"), len(catalog)))


def test_missing_lyrics_are_absent():
    catalog = Catalog.from_tracks(
        [
            Track("a", "A", "x", lyrics="rain on the river"),
            Track("b", "B", "x"),
            Track("c", "C", "x", lyrics="   "),
            Track("d", "D", "x", lyrics="river of stars"),
        ]
    )
    made = encoded(catalog, "lyrics")
    assert made.present.tolist() == [True, False, False, True]
    assert not made.vectors[[1, 2]].any()


def test_equal_tags_give_equal_vectors_whatever_the_case():
    tags = [("Hip Hop", "dark"), ("hip  hop", "Dark"), ("hip", "hop"), ("jazz",), ("dark", "jazz")]
    catalog = Catalog.from_tracks([Track(str(n), "T", "x", tags=row) for n, row in enumerate(tags)])
    made = encoded(catalog, "semantic")
    assert np.array_equal(made.vectors[0], made.vectors[1])
    cosine = made.vectors @ made.vectors.T
    assert cosine[0, 2] < 0.3  # "hip hop" is one tag, not two
    assert cosine[0, 4] > cosine[0, 3] + 0.1


def test_metadata_knows_artist_album_and_year():
    tracks = [
        Track("a", "One", "The Foxes", album="Night", release_date="1999"),
        Track("b", "Two", "The Foxes", album="Day", release_date="1998"),
        Track("c", "Three", "Someone", album="Sea", release_date="2020"),
        Track("d", "Four", "Anyone"),
    ]
    made = encoded(Catalog.from_tracks(tracks), "metadata")
    assert made.present.all()
    cosine = made.vectors @ made.vectors.T
    assert cosine[0, 1] > max(cosine[0, 2], cosine[0, 3]) + 0.2


@pytest.mark.parametrize(
    "texts", [[], ["", ""], ["...", "!?"], ["word", ""], ["word", "word"], ["a b", "a b"]]
)
def test_degenerate_texts(texts: list[str]):
    tracks = [Track(str(n), "T", "x", lyrics=text) for n, text in enumerate(texts)]
    made = encoded(Catalog.from_tracks(tracks), "lyrics")
    assert len(made.vectors) == len(texts)
    assert made.present.tolist() == [any(c.isalpha() for c in text) for text in texts]
    assert np.isfinite(made.vectors).all()


def test_rows_have_length_one_and_the_seed_decides(world: Catalog):
    made = encoded(world, "metadata", dim=16)
    assert made.vectors.shape == (60, 16)
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(made.vectors, encoded(world, "metadata", dim=16).vectors)


def test_tracks_outside_the_fit_change_nothing_and_are_transformed():
    words = ["rain river", "river sea", "sea sky", "sky rain", "rain rain secret", "secret"]
    tracks = [Track(str(n), "T", "x", lyrics=text) for n, text in enumerate(words)]
    fit_on = np.arange(6) < 4
    run = make_run(Path("unused"), 6, fit_on=fit_on)
    made = TfidfSvd().encode(Catalog.from_tracks(tracks), "lyrics", run)
    alone = encoded(Catalog.from_tracks(tracks[:4]), "lyrics")
    assert np.allclose(made.vectors[:4], alone.vectors, atol=1e-6)
    assert made.present.tolist() == [True] * 5 + [False]
    assert b"secret" not in run.kept["vocabulary"].tobytes()
    assert run.seen is not None
    assert run.seen.tolist() == fit_on.tolist()
    assert [(f.row, f.track_id, f.reason) for f in run.failures] == [
        (5, "t5", "its lyrics text has no word that is known")
    ]


def test_lyrics_without_a_word_are_counted_by_name_and_missing_ones_are_not():
    tracks = [
        Track("a", "T", "x", lyrics="rain river"),
        Track("b", "T", "x", lyrics="!!!"),
        Track("c", "T", "x"),
        Track("d", "T", "x", lyrics="river sea"),
    ]
    run = make_run(Path("unused"), 4)
    TfidfSvd().encode(Catalog.from_tracks(tracks), "lyrics", run)
    assert [(failure.row, failure.track_id) for failure in run.failures] == [(1, "t1")]


def test_what_was_fitted_gives_other_tracks_their_vectors():
    words = ["rain river", "river sea", "sea sky", "sky rain"]
    tracks = [Track(str(n), "T", "x", lyrics=text) for n, text in enumerate(words)]
    first = make_run(Path("unused"), 4)
    made = TfidfSvd().encode(Catalog.from_tracks(tracks), "lyrics", first)
    other = Catalog.from_tracks(
        [Track("new", "T", "x", lyrics="sky rain"), Track("b", "T", "x", lyrics="unheard of")]
    )
    found = TfidfSvd().encode(other, "lyrics", make_run(Path("unused"), 2, earlier=first.kept))
    assert np.allclose(found.vectors[0], made.vectors[3], atol=1e-6)
    assert found.present.tolist() == [True, False]
