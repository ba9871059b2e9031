"""Text vectors of tags, metadata and lyrics."""

import numpy as np
import pytest

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.features.text import lyrics_texts, metadata_texts, semantic_texts, text_vectors


def test_missing_lyrics_are_absent():
    catalog = Catalog.from_tracks(
        [
            Track("a", "A", "x", lyrics="rain on the river"),
            Track("b", "B", "x"),
            Track("c", "C", "x", lyrics="   "),
            Track("d", "D", "x", lyrics="river of stars"),
        ]
    )
    made = text_vectors(lyrics_texts(catalog))
    assert made.present.tolist() == [True, False, False, True]
    assert not made.vectors[[1, 2]].any()


def test_equal_tags_give_equal_vectors_whatever_the_case():
    tags = [("Hip Hop", "dark"), ("hip  hop", "Dark"), ("hip", "hop"), ("jazz",), ("dark", "jazz")]
    catalog = Catalog.from_tracks([Track(str(n), "T", "x", tags=row) for n, row in enumerate(tags)])
    made = text_vectors(semantic_texts(catalog))
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
    made = text_vectors(metadata_texts(Catalog.from_tracks(tracks)))
    assert made.present.all()
    cosine = made.vectors @ made.vectors.T
    assert cosine[0, 1] > max(cosine[0, 2], cosine[0, 3]) + 0.2


@pytest.mark.parametrize(
    "texts", [[], ["", ""], ["...", "!?"], ["word", ""], ["word", "word"], ["a b", "a b"]]
)
def test_degenerate_texts(texts: list[str]):
    made = text_vectors(texts)
    assert len(made.vectors) == len(texts)
    assert made.present.tolist() == [any(c.isalpha() for c in text) for text in texts]
    assert np.isfinite(made.vectors).all()


def test_rows_have_length_one_and_the_seed_decides(world: Catalog):
    texts = metadata_texts(world)
    made = text_vectors(texts, dim=16)
    assert made.vectors.shape == (60, 16)
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(made.vectors, text_vectors(texts, dim=16).vectors)
