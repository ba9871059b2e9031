"""A reply speaks of a track where it names it as a name, and of another one where it names that."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from talkplay_hf.catalog.schema import Catalog, Conversation, Track
from talkplay_hf.evaluation.metrics.replies import (
    CatalogNames,
    distinctness,
    reply_values,
    speaks_of,
)
from talkplay_hf.evaluation.turns import collect_turns


def named(reply: str, title: str, artist: str = "Nobody Here", *tags: str) -> str:
    """The first letters of what the reply names: t(itle), a(rtist), g (tag)."""
    spoken = speaks_of(reply, Track("x", title, artist, tags=tags))
    return "t" * spoken.title + "a" * spoken.artist + "g" * spoken.tag


@pytest.mark.parametrize(
    ("reply", "title"),
    [
        ("Here is Velvet Rope.", "Velvet Rope"),
        ('"velvet rope" it is', "Velvet Rope (feat. Q-Tip)"),
        ("Velvet Rope comes next.", "Velvet Rope - Remastered 2011"),
        ("Try VELVET ROPE!", "Velvet Rope - Some Remix"),
        ("This is Déjà-Vu.", "Deja vu"),
        ("I picked You for the night.", "You"),
        ("What about “you”?", "You"),
        ("here's you by nobody here", "You"),
        ("Nobody Here's You, then.", "You"),
        ("i want to hold your hand, of course", "I Want to Hold Your Hand"),
        ("次は「夜に駆ける」です。", "夜に駆ける"),
    ],
)
def test_a_title_is_found_as_it_may_be_written(reply: str, title: str) -> None:
    assert named(reply, title).startswith("t")


@pytest.mark.parametrize(
    ("reply", "title"),
    [
        ("You are going to love this.", "You"),
        ("I think that you will love this.", "You"),
        ("Here's Thank You for you.", "You"),
        ("As I said, more of it.", "I"),
        ("A hit from 1999.", "1999"),
        ("Some old velvet ropes.", "Velvet Rope"),
        ("Stay tuned for this home run.", "Home"),
        ("Home is where it plays.", "Home"),
        ("Drive safely!", "Drive"),
        ("It is on my way.", "On My Way"),
        ("Velvet Ropework is on.", "Velvet Rope"),
    ],
)
def test_everyday_words_are_not_a_title(reply: str, title: str) -> None:
    assert named(reply, title) == ""


@pytest.mark.parametrize(
    ("reply", "artist"),
    [
        ("Something by beyonce knowles.", "Beyoncé Knowles"),
        ("Jay-Z with a fast one.", "Beyoncé, JAY-Z"),
        ("Here's one by Beyonce.", "Beyoncé & JAY-Z"),
        ("Queen's best song.", "Queen"),
        ("More from The Band.", "The Band"),
        ("Here comes AC/DC!", "AC/DC"),
    ],
)
def test_an_artist_is_found_as_they_may_be_written(reply: str, artist: str) -> None:
    assert named(reply, "Quite Another", artist) == "a"


@pytest.mark.parametrize(
    ("reply", "artist"),
    [
        ("The band plays on.", "The Band"),
        ("Train your ears on this.", "Train"),
        ("for the heart", "Heart"),
        ("Some drake sounds", "Drake"),
    ],
)
def test_everyday_words_are_not_an_artist(reply: str, artist: str) -> None:
    assert named(reply, "Quite Another", artist) == ""


def test_a_tag_counts_as_whole_words_outside_the_names() -> None:
    assert named("Some calm hip-hop.", "X Y", "Nobody Here", "hip hop") == "g"
    assert named("Some calm hip-hop.", "X Y", "Nobody Here", "hiphop") == ""
    assert named("Some hiphop.", "X Y", "Nobody Here", "Hip Hop") == "g"
    assert named("Something rocking.", "X Y", "Nobody Here", "rock") == ""
    assert named("Here's Rock and Roll.", "Rock and Roll", "Led Zeppelin", "rock") == "t"
    assert named("A rock tune, Rock and Roll.", "Rock and Roll", "Led Zeppelin", "rock") == "tg"


@pytest.fixture(scope="module")
def names() -> CatalogNames:
    tracks = [
        ("Velvet Rope", "Mara Quill"),
        ("Copper Sky", "Mara Quill"),
        ("Paper Moons", "Odd Lanterns"),
        ("You", "Odd Lanterns"),
        ("Slow River", "Heart"),
        ("Harbour", "The 1975"),
    ]
    return CatalogNames(Catalog.from_tracks([Track(f"t{n}", *one) for n, one in enumerate(tracks)]))


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("Here's Paper Moons.", "Paper Moons"),
        ("Here's Copper Sky by Mara Quill.", "Copper Sky"),
        ("This is Odd Lanterns with a slow song.", "Odd Lanterns"),
        ("A slow tune by Heart.", "Heart"),
        ("Slow River by Heart it is.", "Slow River"),
        ('Enjoy "An Invented Title" by Mara Quill!', "An Invented Title"),
        ("Velvet Rope by Odd Lanterns.", "Velvet Rope by Odd Lanterns"),
    ],
)
def test_another_name_than_the_played_one_is_found(
    names: CatalogNames, reply: str, name: str
) -> None:
    assert names.named_instead(reply, 0) == name


@pytest.mark.parametrize(
    "reply",
    [
        "Here's Velvet Rope by Mara Quill.",
        "Velvet Rope, for fans of Odd Lanterns.",
        "You will like this one from 1975.",
        "Straight to the heart.",
        "Straight to the Heart, then.",
        "I picked a song for you.",
        "",
    ],
)
def test_the_played_track_and_ordinary_words_are_no_other_name(
    names: CatalogNames, reply: str
) -> None:
    assert names.named_instead(reply, 0) is None


def test_tracks_heard_before_may_be_named_beside_the_played_one(names: CatalogNames) -> None:
    reply = "After Paper Moons by Odd Lanterns, here's Velvet Rope."
    assert names.named_instead(reply, 0) is not None
    assert names.named_instead(reply, 0, heard=[2]) is None
    # the artist of an earlier track is not the artist of this one
    assert names.named_instead("Another song by Odd Lanterns.", 0, heard=[2]) == "Odd Lanterns"


def test_names_that_the_user_brought_up_may_come_back(names: CatalogNames) -> None:
    said = ["I loved Odd Lanterns"]
    assert names.named_instead("Odd Lanterns is great, so I chose this.", 0) == "Odd Lanterns"
    assert names.named_instead("Odd Lanterns is great, so I chose this.", 0, said=said) is None
    assert names.named_instead("Here's Odd Lanterns.", 0, said=said) == "Odd Lanterns"


def test_simulated_replies_speak_of_their_own_track(
    world: Catalog, conversations: list[Conversation]
) -> None:
    turns = [turn for turn in collect_turns(conversations[:40], world)[0] if turn.reply]
    replies = [turn.reply for turn in turns]
    heard = [turn.played for turn in turns]
    said = [[m.content for m in turn.history if m.role == "user"] for turn in turns]
    rows, names = [turn.labels[0] for turn in turns], CatalogNames(world)
    own = reply_values(replies, rows, heard, said, names)
    assert own["artist"].mean() > 0.9
    assert own["about"].mean() > 0.95
    assert own["other"].mean() < 0.02
    # the same replies, each with a track of another artist
    artists = world.column("artist")
    wrong = [next(r for r in range(len(world)) if artists[r] != artists[row]) for row in rows]
    other = reply_values(replies, wrong, heard, said, names)
    assert other["title"].max() == other["artist"].max() == 0
    assert other["other"].mean() > 0.9


def test_distinctness_is_of_words_without_case() -> None:
    found = distinctness(["Here is one", "here is another"])
    assert found == {"distinct-1": 4 / 6, "distinct-2": 3 / 4}
    assert distinctness(["one"]) == {"distinct-1": 1}
    assert distinctness([]) == {}


@pytest.mark.realdata
def test_real_names_are_found_where_they_are_named_and_not_in_ordinary_words(
    real_data: Path,
) -> None:
    table = pq.read_table(real_data / "corpus" / "tracks.parquet", columns=["title", "artist"])
    tracks = [Track("x", **row) for row in table.to_pylist()[::60]]
    plain = [
        "You are going to love this one, it is a song about home and the way you feel.",
        "I think that fits tonight. Let me know if you want something else like it!",
        "Sure! More of the same, then, with a little less fire and more soul.",
    ]
    spoken = [speaks_of(f"Here's {t.title} by {t.artist}.", t) for t in tracks]
    assert sum(one.title for one in spoken) > 0.98 * len(spoken)
    assert sum(one.artist for one in spoken) > 0.98 * len(spoken)
    for reply in plain:
        assert not [t for t in tracks if speaks_of(reply, t).title]
        assert not [t for t in tracks if speaks_of(reply, t).artist]
