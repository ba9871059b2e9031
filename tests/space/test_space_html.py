"""The pieces of HTML: nothing from outside becomes a tag, covers tell of the codes, states help."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkplay_space import frame, html
from talkplay_space.conversation import Conversation, Turn
from talkplay_space.covers import cover

from talkplay_hf import Track

EVIL = (
    "\"'><img src=x onerror=alert(1)><script>alert(2)</script>&lt; \u202e \x00 ${1} {{2}} ` 🎧 شغّل"
)
CODES = (3, 5, 4, 0, 7)
VOID = {"img", "input", "br", "path", "circle", "rect"}


class Reader(HTMLParser):
    """What a browser would see."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, name: str) -> list[str | None]:
        return [value for key, value in self.attributes if key == name]


def everything(evil: str) -> str:
    track = Track(
        evil or "x",
        evil,
        evil,
        evil,
        "1999",
        (evil,),
        key=evil,
        extra={"url": f"https://e.org/{evil}"},
    )
    turn = Turn(evil, (track.track_id,), (CODES,), evil, "like")
    card = html.track_card(track, CODES, clip=evil)
    return "".join(
        [
            html.track_card(track, CODES),
            html.turn_block(turn, 0, [card], led=evil, last=True),
            html.running_block(turn, 0, [card], led=evil, ahead=3),
            html.quick_replies([evil]),
            html.problem_block(evil),
            frame.welcome([evil], 3),
            frame.playlist_panel([track, track], [CODES, CODES], clips=[True, False]),
            frame.header(evil),
            frame.composer(10),
            frame.share_dialog(),
            frame.chooser([evil, "b"], evil, [evil, "c"], evil),
        ]
    )


def assert_harmless(source: str) -> None:
    seen, plain = Reader(source), Reader(everything("plain"))
    assert not seen.open
    assert set(seen.tags) <= set(plain.tags)
    assert {name for name, _ in seen.attributes} <= {name for name, _ in plain.attributes}
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_no_text_from_outside_becomes_a_tag_or_an_attribute():
    source = everything(EVIL)
    assert_harmless(source)
    assert "onerror=alert(1)" in Reader(source).text


@given(st.text(max_size=60))
def test_any_text_is_shown_and_nothing_else(evil):
    source = everything(evil)
    assert_harmless(source)
    assert Reader(html.problem_block(evil)).text == html._CONTROLS.sub(" ", evil)


def test_text_takes_out_what_would_turn_the_text_around_it():
    assert html.text("a\u202eb\x00c\u2066d") == "a b c d"
    assert html.text("line\nline\ttab") == "line\nline\ttab"


@pytest.mark.parametrize(
    ("address", "is_link"),
    [
        ("https://example.org/a?b=1&c=2", True),
        ("http://example.org", True),
        ("javascript:alert(1)", False),
        ("JaVaScRiPt://example.org/%0aalert(1)", False),
        ("data:text/html,<b>", False),
        ("//example.org", False),
        ("https://", False),
        ("https://[bad", False),
        (7, False),
        (None, False),
    ],
)
def test_only_web_addresses_become_links(address, is_link):
    card = html.track_card(Track("t", "T", "A", extra={"url": address}), CODES)
    assert ("<a " in card) is is_link
    if is_link:
        assert Reader(card).values("href") == [address]
        assert Reader(card).values("rel") == ["noopener noreferrer nofollow"]


def test_sound_on_the_web_becomes_a_link():
    card = html.track_card(Track("t", "T", "A", audio="https://example.org/a.mp3"), CODES)
    assert Reader(card).values("href") == ["https://example.org/a.mp3"]
    assert "<a " not in html.track_card(Track("t", "T", "A", audio="audio/a.mp3"), CODES)


def test_a_clip_comes_before_a_link():
    track = Track("t", "T", "A", extra={"url": "https://example.org"})
    card = html.track_card(track, CODES, clip="clips/t")
    assert "<audio" in card
    assert "<a " not in card


def test_a_cover_is_the_same_for_the_same_codes_and_another_for_others():
    assert cover(CODES) == cover(list(CODES))
    others = {cover([*CODES[:m], code, *CODES[m + 1 :]]) for m in range(5) for code in range(9)}
    assert len(others) == 5 * 8 + 1


def test_a_code_that_is_shared_is_seen_in_the_cover():
    def colour(codes):
        return cover(codes).split("hsl(")[1].split()[0]

    def bars(codes):
        return cover(codes).split("<rect", 1)[1]

    assert colour((1, 5, 2, 3, 4)) == colour((9, 5, 8, 7, 6)) != colour((1, 6, 2, 3, 4))
    assert bars((1, 5, 2, 3, 4)) == bars((9, 8, 7, 6, 4)) != bars((1, 5, 2, 3, 5))


def test_a_cover_holds_no_id_and_needs_no_other_server():
    source = cover(CODES)
    assert not Reader(source).values("id")
    assert "url(" not in source
    assert "http" not in source


def test_a_cover_of_too_few_codes_can_be_drawn():
    assert cover(()) == cover((0, 0, 0, 0, 0))


def test_a_card_says_only_what_is_known():
    bare = Reader(html.track_card(Track("t", "Title", "Artist"), CODES))
    assert bare.text == "TitleArtist"
    full = Track("t", "Title", "Artist", "Album", "1999-05", ("calm",), tempo=120.4, key="A minor")
    assert "Album · 1999120 BPM · A minorcalm" in Reader(html.track_card(full, CODES)).text


def test_explicit_tracks_are_marked():
    card = html.track_card(Track("t", "T", "A", extra={"explicit": True}), CODES)
    assert "explicit" in Reader(card).text
    assert "explicit" not in html.track_card(Track("t", "T", "A", extra={"explicit": None}), CODES)


def test_only_the_last_turn_can_be_tried_again_undone_and_edited():
    turn = Turn("hi", ("t",), (CODES,), "yes")
    acts = set(Reader(html.turn_block(turn, 1, [], last=True)).values("data-act"))
    assert acts == {"react", "retry", "undo", "edit"}
    assert set(Reader(html.turn_block(turn, 1, [])).values("data-act")) == {"react"}


def test_a_turn_without_a_track_asks_for_no_reaction():
    assert "react" not in Reader(html.turn_block(Turn("hi", reply="no"), 0, [])).values("data-act")


def test_the_reaction_is_pressed():
    pressed = {}
    for reaction in (None, "like", "skip"):
        turn = Turn("hi", ("t",), (CODES,), "yes", reaction)
        pressed[reaction] = Reader(html.turn_block(turn, 0, [])).values("aria-pressed")
    assert pressed == {None: ["false"] * 2, "like": ["true", "false"], "skip": ["false", "true"]}


def test_a_reaction_becomes_a_chip_on_the_next_message():
    turns = (Turn("a", ("t",), reaction="skip"), Turn("b", ("u",)), Turn("c"))
    chips = html.reaction_chips(Conversation(turns), {"t": "Tides", "u": "Ursa"})
    assert chips == ["", "You skipped Tides", "", ""]


def test_every_button_has_a_name_for_screen_readers():
    class Names(HTMLParser):
        def __init__(self):
            super().__init__()
            self.names, self.inside = [], False

        def handle_starttag(self, tag, attrs):
            if tag == "button":
                self.inside = True
                self.names.append(dict(attrs).get("aria-label") or "")

        def handle_endtag(self, tag):
            self.inside = self.inside and tag != "button"

        def handle_data(self, data):
            if self.inside:
                self.names[-1] += data

    reader = Names()
    reader.feed(everything("plain"))
    assert len(reader.names) > 20
    assert all(name.strip() for name in reader.names)


def test_the_waiting_line_tells_how_many_are_before():
    turn = Turn("hi")
    assert "3 before you" in Reader(html.running_block(turn, 0, [], ahead=3)).text
    assert "before you" not in html.running_block(turn, 0, [])


def test_the_empty_playlist_says_what_will_be_there():
    empty = Reader(frame.playlist_panel([], []))
    assert "collected here" in empty.text
    assert "data-act" not in dict(empty.attributes)
