"""Which tracks a request names."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.names import NameFinder, Names
from talkplay_hf.catalog.schema import Catalog, Track

# id, title, artist, album, tags
TRACKS = [
    ("avicii", "Silhouettes", "Avicii", "True Stories", ("edm",)),
    ("guests", "Long Road Down", "Avicii, Noonie Bao", "Wide Awake", ("pop",)),
    ("sia", "Chandelier", "Sia", "1000 Forms", ("pop",)),
    ("dusty", "Son of a Preacher Man", "Dusty", "In Memphis", ("soul",)),
    ("buddha", "Lotus", "Dusty Buddha Child", "Petals", ("chill",)),
    ("air", "Sexy Boy", "Air", "Moon Safari", ("electronic",)),
    ("can", "Vitamin C", "Can", "Ege Bamyasi", ("rock",)),
    ("sad", "Grey Morning", "Sad", "Tears", ("sad",)),
    ("latin", "Fiesta Grande", "Latin", "Noche", ("latin",)),
    ("simon", "The Boxer", "Simon & Garfunkel", "Bridge over Water", ("folk",)),
    ("beyonce", "Halo", "Beyoncé", "Lemonade Stand", ("pop",)),
    ("acdc", "Thunderstruck", "AC/DC", "The Razors Edge", ("hard rock",)),
    ("cole", "Middle Child (Remastered 2019)", "J. Cole", "Revenge", ("rap",)),
    ("wind", "Boogie Wonderland", "Earth, Wind & Fire", "I Am", ("funk",)),
    ("weeknd", "Blinding Lights", "The Weeknd", "After Hours", ("pop",)),
    ("cover", "Blinding Lights", "Kid Kumquat", "Covers", ("album rock",)),
    ("david", "Broken Love", "David Puentez", "Broken Love", ("dance",)),
    ("adele", "Hello", "Adele", "25", ("pop",)),
    ("feat", "Hometown", "Rudolf Quill feat. Ana Vex", "Hometown", ("pop",)),
    ("doubt", "Spiderwebs", "No Doubt", "Tragic Kingdom", ("ska",)),
    ("hold", "Hold On", "Bea Yond", "First Light", ("country",)),
]
CATALOG = Catalog.from_tracks(
    [Track(i, title, artist, album, tags=tags) for i, title, artist, album, tags in TRACKS]
)
FINDER = NameFinder(CATALOG)
CASES: list[Callable[[str], str]] = [str, str.lower, str.upper]
EVERYTHING = np.ones(len(CATALOG), dtype=bool)


@pytest.fixture(scope="module")
def world_names(world: Catalog) -> NameFinder:
    return NameFinder(world)


def named(text: str) -> set[str]:
    """The ids of the tracks that are chosen for a text."""
    mask = FINDER.find(text).within(EVERYTHING)
    return set() if mask is None else {CATALOG.track_ids[row] for row in np.flatnonzero(mask)}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # artists
        ("a sad track by Avicii", "avicii guests"),
        ("some AVICII please", "avicii guests"),
        ("what about avicii?", "avicii guests"),
        ("play Avicii's best songs", "avicii guests"),
        ("anything by Noonie Bao", "guests"),
        ("Avicii, Noonie Bao", "guests"),
        ("something by beyonce", "beyonce"),
        ("BEYONCÉ!", "beyonce"),
        ("play ac dc", "acdc"),
        ("more acdc", "acdc"),
        ("can you add some of jcole", "cole"),
        ("a song by J Cole", "cole"),
        ("simon and garfunkel for the evening", "simon"),
        ("songs by Garfunkel", "simon"),
        ("Earth Wind and Fire please", "wind"),
        ("some weeknd", "weeknd"),
        ("I want the weeknd", "weeknd"),
        ("I want something by Ana Vex", "feat"),
        ("sia and adele", "sia adele"),
        ("Adele, Sia or David Puentez", "sia adele david"),
        ("i would like some sia", "sia"),
        ("I like Sia", "sia"),
        ("why not Sia?", "sia"),
        ("I can't get enough of Sia", "sia"),
        ("don't you have Sia?", "sia"),
        # the longest name
        ("a chill one by Dusty Buddha Child", "buddha"),
        ("something by dusty", "dusty"),
        # ordinary words after a cue
        ("a song by Air", "air"),
        ("something by can", "can"),
        ("a sad one by Sad", "sad"),
        ("play something by latin", "latin"),
        ("Avicii, Air", "avicii guests air"),
        ("play No Doubt", "doubt"),
        # titles
        ("play Hello by Adele", "adele"),
        ("Adele - Hello", "adele"),
        ("blinding lights by the weeknd", "weeknd"),
        ("Kid Kumquat's Blinding Lights", "cover"),
        ("please play Blinding Lights", "weeknd cover"),
        ("play 'Halo'", "beyonce"),
        ('put on "hold on"', "hold"),
        ("son of a preacher man", "dusty"),
        ("I want to hear Son of a Preacher Man now", "dusty"),
        ("Middle Child by J. Cole", "cole"),
        ("the song Thunderstruck", "acdc"),
        # albums
        ("something off Moon Safari", "air"),
        ("a track from the album tragic kingdom", "doubt"),
        ("the Tragic Kingdom album", "doubt"),
        ("a fast one off the album Broken Love", "david"),
        # other languages
        ("etwas von Sia, bitte", "sia"),
        ("une chanson par Adele", "adele"),
        ("más de Sia", "sia"),
    ],
)
def test_a_name_is_found(text: str, wanted: str) -> None:
    assert named(text) == set(wanted.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!?",
        "something calm for the evening",
        "a sad song please",
        "can you play something sad?",
        "some latin pop or edm",
        "i need air and fire in my life, no doubt",
        "hello! play me some music",
        "Hello, some electronic music please",
        "Put on a rock number. Hold on, a slow one.",
        "I want to boogie in the wind",
        "what album is this from?",
        "album rock please",
        "no doubt, more of this",
        "the sound of earth and wind",
    ],
)
def test_a_text_without_names_finds_nothing(text: str) -> None:
    assert FINDER.find(text) == Names()
    assert named(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "not by Sia",
        "Not Sia again, someone else please.",
        "let's move on from Sia",
        "anyone but Sia",
        "anything but Sia",
        "no more Sia, please",
        "Enough of Sia for now.",
        "I don't like Sia",
        "i dont want to hear anything by sia",
        "It doesn't matter if it isn't by Sia any more.",
        "it need not be by Sia",
        "someone other than Sia",
        "someone other than Sia or Adele",
        "a pop song without Sia",
        "except Sia",
        "Something like Sia.",
        "Do you have anything similar to Sia?",
        "something in the style of Sia",
        "who is like Sia?",
        "some artists like Sia and Adele",
        "I love Sia. What else is like that?",
        "I'm a fan of Sia, find me a similar artist.",
        "Something like Chandelier by Sia",
        "a Sia-like voice",
        "nicht von Sia",
        "pas Sia",
        "algo que no sea de Sia",
        "etwas wie Sia",
    ],
)
def test_a_name_that_is_not_wanted_does_not_count(text: str) -> None:
    assert FINDER.find(text) == Names()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I meant Adele, not Sia", "adele"),
        ("a song by Sia. Actually, make that Adele.", "adele"),
        ("do you have a tune by sia? hang on, adele is what i wanted", "adele"),
        ("Sorry, not Sia, Adele.", "adele"),
        ("The same, but by Adele instead of by Sia.", "adele"),
        ("Adele rather than Sia", "adele"),
        ("A pop tune by Sia. No wait, I meant slow.", "sia"),
        ("move on from Sia to Adele", "adele"),
        ("Not by Sia but by Adele", "adele"),
    ],
)
def test_what_a_correction_says_last_counts(text: str, wanted: str) -> None:
    assert named(text) == set(wanted.split())


def test_what_fits_all_that_is_named_comes_first_and_then_titles() -> None:
    allowed = EVERYTHING.copy()
    both = Names(artists=(0, 1, 2), titles=(1, 5), albums=(1, 6))

    def rows(names: Names) -> list[int] | None:
        mask = names.within(allowed)
        return None if mask is None else np.flatnonzero(mask).tolist()

    assert rows(both) == [1]
    allowed[1] = False
    assert rows(both) == [5]
    allowed[5] = False
    assert rows(both) == [0, 2]
    allowed[[0, 2]] = False
    assert rows(both) == [6]
    allowed[6] = False
    assert rows(both) is None
    assert rows(Names()) is None


def test_a_played_title_leaves_the_other_tracks_of_its_artist() -> None:
    allowed = np.array([track != "avicii" for track in CATALOG.track_ids])
    mask = FINDER.find("Silhouettes by Avicii").within(allowed)
    assert mask is not None
    assert [CATALOG.track_ids[row] for row in np.flatnonzero(mask)] == ["guests"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_artist_and_every_title_of_a_catalog_is_found(
    world: Catalog, world_names: NameFinder, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(world) - 1))
    track = world.track_at(row)
    text = data.draw(st.sampled_from(["Play something by {}", "songs by {} please", "by {}"]))
    change = data.draw(st.sampled_from(CASES))
    assert row in world_names.find(change(text.format(track.artist))).artists
    both = world_names.find(change(f"Play {track.title} by {track.artist}."))
    assert row in both.artists
    assert row in both.titles


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from(["by", "not", "Sia", ",", "Air", ".", "'s", '"'])))
def test_any_text_can_be_searched(text: str | list[str]) -> None:
    names = FINDER.find(text if isinstance(text, str) else " ".join(text))
    for rows in (names.artists, names.titles, names.albums):
        assert list(rows) == sorted(set(rows))
