"""What the controls say."""

import json
from dataclasses import replace

import pytest
from fake_recommender import FakeRecommender
from hypothesis import given
from hypothesis import strategies as st
from talkplay_space.conversation import RefusedError
from talkplay_space.settings import MAX_SEED, MAX_TAGS, Choices, Settings

from talkplay_hf import Track

BARE = [Track("a", "A", "One"), Track("b", "B", "One", release_date="soon")]
YEARS = st.none() | st.integers(1, 9999)
TAGS = st.text(min_size=1, max_size=30).filter(str.strip)


@st.composite
def settings(draw):
    years = sorted(filter(None, (draw(YEARS), draw(YEARS))))
    return Settings(
        tracks=draw(st.integers(1, 5)),
        strategy=draw(st.sampled_from(["rank", "sample"])),
        temperature=draw(st.floats(0, 2, exclude_min=True)),
        top_p=draw(st.floats(0, 1, exclude_min=True)),
        year_from=years[0] if years else None,
        year_to=years[1] if len(years) > 1 else None,
        tags=tuple(draw(st.lists(TAGS, max_size=MAX_TAGS))),
        explicit=draw(st.booleans()),
        no_repeats=draw(st.booleans()),
        one_per_artist=draw(st.booleans()),
        names=draw(st.booleans()),
        seed=draw(st.none() | st.integers(0, MAX_SEED)),
    )


@given(settings())
def test_settings_come_back_from_json(chosen):
    assert Settings.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_defaults_are_left_out():
    assert Settings().to_dict() == {}
    assert Settings(tracks=2, tags=("a",)).to_dict() == {"tracks": 2, "tags": ["a"]}


@pytest.mark.parametrize(
    "values",
    [
        {"tracks": 0},
        {"tracks": 6},
        {"tracks": True},
        {"tracks": 1.5},
        {"tracks": "1"},
        {"strategy": "beam"},
        {"strategy": ["rank"]},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 2.1},
        {"temperature": None},
        {"top_p": 1.01},
        {"top_p": -1},
        {"top_p": True},
        {"year_from": 0},
        {"year_to": 10_000},
        {"year_from": "1990"},
        {"year_from": 2000, "year_to": 1999},
        {"tags": "jazz"},
        {"tags": ["a"] * (MAX_TAGS + 1)},
        {"tags": [" "]},
        {"tags": [1]},
        {"tags": ["x" * 101]},
        {"explicit": 0},
        {"names": None},
        {"seed": -1},
        {"seed": MAX_SEED + 1},
        {"seed": 0.5},
        {"rules": ["year > 1"]},
        {1: 2},
        ["tracks"],
        "tracks",
        None,
    ],
    ids=repr,
)
def test_impossible_values_are_refused(values):
    with pytest.raises(RefusedError, match=r"^[^\n]{10,200}\.$"):
        Settings.from_dict(values)


@given(
    st.dictionaries(
        st.sampled_from([*vars(Settings()), "other"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_whatever_comes_in_is_settings_or_refused(values):
    refused, chosen = "", Settings()
    try:
        chosen = Settings.from_dict(values)
    except RefusedError as error:
        refused = str(error)
    assert "\n" not in refused
    assert Settings.from_dict(chosen.to_dict()) == chosen


def test_rules_say_what_the_controls_say():
    chosen = Settings(
        year_from=1990, year_to=1999, tags=("jazz", "calm"), explicit=False, one_per_artist=True
    )
    assert list(map(str, chosen.rules())) == [
        "year >= 1990",
        "year <= 1999",
        "tags is jazz",
        "tags is calm",
        "not explicit",
        "artist at most 1",
    ]
    assert Settings().rules() == []


def test_a_real_recommender_takes_every_option(recommender):
    tag = recommender.catalog.column("tags")[0][0]
    chosen = Settings(2, "sample", 0.7, 0.8, 1900, 2100, (tag,), False, True, True, True)
    answer = recommender.chat("something", seed=0, **chosen.options())
    assert 1 <= len(answer.tracks) <= 2
    assert all(tag in track.tags for track in answer.tracks)
    assert recommender.rank("something", 3, **chosen.ranking())


def test_choices_are_what_the_columns_hold(fake):
    choices = Choices.of(fake)
    assert choices.years == (1984, 2014)
    assert choices.tags[0] == "folk"
    assert choices.explicit
    assert choices.artists == 4
    assert choices.tempo == 120.0


def test_a_bare_catalogue_offers_no_rules():
    choices = Choices.of(FakeRecommender(BARE))
    assert choices == Choices(artists=1)
    for chosen in (
        Settings(year_from=1990),
        Settings(year_to=1990),
        Settings(tags=("jazz",)),
        Settings(explicit=False),
    ):
        assert chosen.problem(choices).endswith(".")
    assert Settings().problem(choices) is None


def test_an_explicit_column_that_is_no_flag_is_not_offered():
    for values in ((None, None), ("clean", "dirty")):
        rows = [
            replace(track, extra={"explicit": value})
            for track, value in zip(BARE, values, strict=True)
        ]
        assert not Choices.of(FakeRecommender(rows)).explicit


def test_settings_fit_the_catalogue(fake):
    chosen = Settings(year_from=2000, tags=("FOLK", "calm"), explicit=False, one_per_artist=True)
    assert chosen.problem(Choices.of(fake)) is None
    assert "tags" in Settings(tags=("polka",)).problem(Choices.of(fake))


def test_choices_are_read_once(fake):
    assert Choices.of(fake) is Choices.of(fake)
