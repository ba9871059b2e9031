"""A conversation as JSON and as a link; a playlist as M3U, CSV and JSPF."""

import base64
import csv
import io
import json
import tracemalloc
import zlib

import pytest
from fake_recommender import TRACKS
from hypothesis import given
from hypothesis import strategies as st
from talkplay_space import sharing
from talkplay_space.conversation import MAX_CHARACTERS, MAX_TURNS, Conversation, RefusedError, Turn
from talkplay_space.settings import Settings
from talkplay_space.sharing import Shared

from talkplay_hf import Track

IDS = ["t1", "t/2 ?", "t3", "ü夜"]
# whatever a browser can send: no half of a surrogate pair
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LOUD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def conversations(draw):
    conversation = Conversation()
    for _ in range(draw(st.integers(0, 5))):
        tracks = tuple(draw(st.lists(st.sampled_from(IDS), max_size=3, unique=True)))
        reaction = draw(st.sampled_from([None, "like", "skip"])) if tracks else None
        text = draw(TEXT.filter(str.strip))
        turn = Turn(text, tracks, reply=draw(TEXT), reaction=reaction)
        conversation = conversation.with_turn(turn)
    for track_id in draw(st.lists(st.sampled_from(IDS), max_size=3)):
        conversation = conversation.moved(track_id, draw(st.integers(-3, 3)))
    for track_id in draw(st.lists(st.sampled_from(IDS), max_size=2)):
        conversation = conversation.without(track_id)
    return conversation


TALK = Conversation((Turn("calm", ("t1",), reply="Here"), Turn("more", ("t3",), reply="There")))
PLAIN = json.loads(sharing.to_json(Shared(TALK, Settings())))


@given(conversations())
def test_json_brings_a_conversation_back(conversation):
    settings = Settings(tracks=2, year_from=1990, tags=("jazz",))
    text = sharing.to_json(Shared(conversation, settings))
    assert sharing.from_json(text) == Shared(conversation, settings)
    assert sharing.from_json(text.encode()) == Shared(conversation, settings)
    assert sharing.from_json(b"\xef\xbb\xbf" + text.encode()) == Shared(conversation, settings)


@given(conversations())
def test_a_link_brings_a_conversation_back(conversation):
    link = sharing.to_link(Shared(conversation, Settings(seed=7)))
    assert set(link) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert sharing.from_link(link) == Shared(conversation, Settings(seed=7))


def test_the_names_of_model_and_catalogue_come_along():
    shared = Shared(TALK, Settings(), "owls", "larks 夜")
    assert sharing.from_link(sharing.to_link(shared)) == shared
    assert json.loads(sharing.to_json(shared))["model"] == "owls"
    assert "model" not in PLAIN


def test_codes_are_not_shared_and_come_from_the_catalogue():
    turn = Turn("calm", ("t1",), ((9, 9, 9, 9, 9),), "Here", scores=(-1.0,), seed=4)
    told = sharing.to_json(Shared(Conversation((turn,)), Settings()))
    assert "9" not in told
    read = sharing.from_json(told).conversation
    assert read.turns[0].codes == ()
    codes = sharing.with_codes(read, lambda track_id: [1, 2, 3, 4, 5]).turns[0].codes
    assert codes == ((1, 2, 3, 4, 5),)


def test_the_longest_conversation_can_be_saved_and_loaded():
    turn = Turn("\x01" * MAX_CHARACTERS, ("t1",), reply="🎵" * MAX_CHARACTERS)
    whole = Conversation((turn,) * MAX_TURNS)
    assert sharing.from_json(sharing.to_json(Shared(whole, Settings()))).conversation == whole
    assert sharing.from_link(sharing.to_link(Shared(whole, Settings()))).conversation == whole


def test_what_is_too_long_for_a_link_says_so():
    noise = "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(MAX_CHARACTERS * MAX_TURNS))
    turns = [Turn(noise[n : n + MAX_CHARACTERS]) for n in range(0, len(noise), MAX_CHARACTERS)]
    with pytest.raises(RefusedError, match="too long for a link"):
        sharing.to_link(Shared(Conversation(tuple(turns)), Settings()))


@given(st.binary(max_size=200) | TEXT)
def test_whatever_is_handed_in_is_a_conversation_or_refused(data):
    text = data if isinstance(data, str) else data.decode("latin-1")
    for read in (
        lambda: sharing.from_json(data),
        lambda: sharing.from_link(text),
        lambda: sharing.from_link(pack(data if isinstance(data, bytes) else text.encode())),
    ):
        polite(read)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*IDS, "like", "skip", "forged"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "tracks", "reply", "reaction", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from([*PLAIN, "settings", "removed", "order", "codes", "model"]), JSON)
def test_any_forged_part_is_a_conversation_or_refused(name, value):
    polite(lambda: sharing.from_json(json.dumps(PLAIN | {name: value})))


@given(st.sampled_from(["text", "tracks", "reply", "reaction", "codes"]), JSON)
def test_any_forged_turn_is_a_conversation_or_refused(name, value):
    turn = PLAIN["turns"][0] | {name: value}
    polite(lambda: sharing.from_json(json.dumps(PLAIN | {"turns": [turn]})))


def polite(read) -> None:
    refused, found = "", Shared(TALK, Settings())
    try:
        found = read()
    except RefusedError as error:
        refused = str(error)
    assert not refused or (refused.endswith(".") and "\n" not in refused and len(refused) < 250)
    assert len(found.conversation) <= MAX_TURNS
    assert set(found.conversation.playlist()) <= set(found.conversation.played())
    assert sharing.from_json(sharing.to_json(found)) == found


TURN = PLAIN["turns"][0]
LONG = "x" * (MAX_CHARACTERS + 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other"}, "not a conversation"),
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"extra": 1}, "unknown name"),
        ({"turns": {}}, "list of at most 50"),
        ({"turns": [TURN] * 51}, "list of at most 50"),
        ({"turns": [TURN | {"codes": [[1, 2, 3, 4, 5]]}]}, "nothing else"),
        ({"turns": [TURN | {"role": "system"}]}, "nothing else"),
        ({"turns": [TURN | {"text": ""}]}, "turn 1 needs a message"),
        ({"turns": [TURN, TURN | {"text": LONG}]}, "turn 2 needs a message"),
        ({"turns": [TURN | {"text": "\ud800"}]}, "needs a message"),
        ({"turns": [TURN | {"reply": LONG}]}, "needs a reply"),
        ({"turns": [TURN | {"reply": None}]}, "needs a reply"),
        ({"turns": [TURN | {"tracks": ["t1", "t1"]}]}, "twice"),
        ({"turns": [TURN | {"tracks": ["t1"] * 6}]}, "at most 5"),
        ({"turns": [TURN | {"tracks": [["t1"]]}]}, "must be ids"),
        ({"turns": [TURN | {"reaction": "love"}]}, "reaction"),
        ({"turns": [TURN | {"reaction": ["like"]}]}, "reaction"),
        ({"turns": [TURN | {"tracks": [], "reaction": "like"}]}, "reaction"),
        ({"removed": ["t/2 ?"]}, "were played"),
        ({"order": ["t1", "t1"]}, "twice"),
        ({"order": [{}]}, "were played"),
        ({"settings": {"tracks": 99}}, "number of tracks"),
        ({"settings": []}, "settings"),
        ({"model": 7}, "names of model and catalogue"),
        ({"catalog": ["a"]}, "names of model and catalogue"),
        ({"model": "\ud800"}, "names of model and catalogue"),
        ({"catalog": "x" * 1001}, "names of model and catalogue"),
    ],
)
def test_a_forged_conversation_is_refused_with_its_reason(change, reason):
    with pytest.raises(RefusedError, match=reason):
        sharing.from_json(json.dumps(PLAIN | change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[" * 100_000,
        "1" * 10_000,
        b"\xff",
        b"[" * 4_000_001,
    ],
    ids=lambda text: f"{text[:20]!r}",
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(RefusedError, match=r"JSON|MB|not a conversation"):
        sharing.from_json(text)


def test_a_name_that_stands_twice_is_refused():
    twice = sharing.to_json(Shared(TALK, Settings())).replace("{", '{"turns": [],', 1)
    with pytest.raises(RefusedError, match="not valid JSON"):
        sharing.from_json(twice)


def pack(data: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(data, 9)).rstrip(b"=").decode()


def test_a_link_that_unpacks_to_gigabytes_is_refused_cheaply():
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * 1_000_000) for _ in range(40)) + packer.flush()
    bomb = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    tracemalloc.start()
    with pytest.raises(RefusedError, match="4 MB"):
        sharing.from_link(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


@pytest.mark.parametrize("harm", ["cut", "grown", "swapped", "signs", "long"])
def test_a_damaged_link_is_refused(harm):
    link = sharing.to_link(Shared(TALK, Settings()))
    damaged = {
        "cut": link[:-4],
        "grown": link + "AAAA",
        "swapped": link[4:] + link[:4],
        "signs": f"{link}%20",
        "long": link * 1000,
    }[harm]
    with pytest.raises(RefusedError, match="link"):
        sharing.from_link(damaged)


TRACK = st.builds(
    Track,
    track_id=LOUD,
    title=LOUD,
    artist=LOUD,
    album=st.none() | LOUD,
    release_date=st.none() | LOUD,
    tags=st.lists(LOUD, max_size=3).map(tuple),
    tempo=st.none() | st.floats(30, 250),
    audio=st.none() | LOUD | LOUD.map("https://example.com/{}".format),
    extra=st.fixed_dictionaries({"duration_ms": st.none() | st.integers(-5, 10**7)}),
)


@given(st.lists(TRACK, max_size=4))
def test_m3u_has_two_or_three_lines_a_track(tracks):
    text = sharing.m3u(tracks)
    assert text.encode()
    lines = text.splitlines()
    assert lines[:2] == ["#EXTM3U", "#EXTENC:UTF-8"]
    assert sum(line.startswith("#EXTINF:") for line in lines) == len(tracks)
    places = [line for line in lines if not line.startswith("#")]
    assert len(places) == len(tracks)
    assert len(lines) == 3 + 2 * len(tracks) + sum(bool(track.album) for track in tracks)
    for place, track in zip(places, tracks, strict=True):
        if (track.audio or "").startswith("https://"):
            assert place.isascii()
        else:
            assert not set(place) & set(":/\\")


def test_m3u_reads_like_a_playlist():
    assert sharing.m3u([TRACKS[0], TRACKS[2]]).splitlines()[3:] == [
        "#EXTINF:183,Nova Quill - Lanterns",
        "#EXTALB:Tides",
        "Nova Quill - Lanterns",
        '#EXTINF:-1,=HYPERLINK("https://example.com") - Ember Road',
        "#EXTALB:Coal, Ash",
        "https://example.com/a%20b.mp3",
    ]


@given(st.lists(TRACK, max_size=4))
def test_csv_parses_back_and_holds_no_formula(tracks):
    rows = list(csv.DictReader(io.StringIO(sharing.csv_text(tracks), newline="")))
    assert len(rows) == len(tracks)
    for row, track in zip(rows, tracks, strict=True):
        for name in ("track_id", "title", "artist"):
            value = getattr(track, name)
            assert row[name] in (value, f"'{value}")
        for cell in row.values():
            assert cell.strip()[:1] not in tuple("=+-@")


def test_csv_guards_formulas_only():
    rows = list(csv.reader(io.StringIO(sharing.csv_text([TRACKS[0], TRACKS[2]]), newline="")))
    assert rows[1] == [
        *("t1", "Lanterns", "Nova Quill", "Tides", "2014-05-02", "calm; folk", "82.0", "C major")
    ]
    assert rows[2][1:3] == ["Ember\nRoad", '\'=HYPERLINK("https://example.com")']


@pytest.mark.parametrize("title", ["=1+1", " =1+1", "\u00a0@x", "+1", "-1", "\t=1", "＝1", "\n=1"])
def test_csv_disarms_a_formula(title):
    text = sharing.csv_text([Track("a", title, "One")])
    assert next(csv.DictReader(io.StringIO(text, newline="")))["title"] == f"'{title}"


@given(st.lists(TRACK, max_size=4))
def test_jspf_is_a_playlist_of_the_tracks(tracks):
    playlist = json.loads(sharing.jspf(tracks))["playlist"]
    assert [one["title"] for one in playlist["track"]] == [track.title for track in tracks]
    assert [one["trackNum"] for one in playlist["track"]] == list(range(1, len(tracks) + 1))
    for one in playlist["track"]:
        assert set(one) <= {"title", "creator", "trackNum", "location", "album", "duration"}
        assert all(place.startswith("https://") for place in one.get("location", []))
        assert one.get("duration", 1) > 0


def test_no_path_of_the_server_is_exported():
    for export in (sharing.m3u, sharing.csv_text, sharing.jspf):
        assert "audio/a.wav" not in export(TRACKS)
