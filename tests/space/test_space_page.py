"""The page: what each press does to the conversation, behind a real tiny recommender."""

import contextlib
import json
import shutil
import socket
import urllib.error
import urllib.request
import wave
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio_client import Client
from talkplay_space import layout
from talkplay_space import page as pages
from talkplay_space.clips import clip_path
from talkplay_space.offers import Offers, Served
from talkplay_space.settings import Settings

from talkplay_hf import Track


class Visitor:
    """Presses what a visitor presses, and keeps what the page answers."""

    def __init__(self, page):
        self.page = page
        self.visit = pages.Visit()
        self.feed = self.playlist = self.why = ""
        self.told = {}
        self.values = [getattr(Settings(seed=1), name) for name in page.controls.names]
        self.stages = []

    def press(self, act, **data):
        event = gr.EventData(None, {"act": act, "n": 7, **data})
        inputs = (event, self.visit, *self.values)
        if act in ("say", "retry", "edit"):
            self.stages = list(self.page.turn(*inputs))
            self._take(self.stages[-1])
        elif act in ("load", "restore", "choose"):
            given = self.page.open(*inputs)
            self._take(given[:5])
            self.chooser = given[5]
            self.loaded = dict(zip(self.page.controls.names, given[6:], strict=True))
        else:
            self._take(self.page.act(*inputs))
        return self.told

    def _take(self, given):
        feed, playlist, why, told, visit = given
        self.feed = self.feed if _skipped(feed) else "".join(feed)
        self.playlist = self.playlist if _skipped(playlist) else playlist
        self.why = self.why if _skipped(why) else why
        self.told = told
        self.visit = self.visit if _skipped(visit) else visit

    @property
    def conversation(self):
        return self.visit.conversation


def _skipped(value):
    return isinstance(value, dict) and value.get("__type__") == "update"


def one_offer(recommender, root=None):
    return Offers([Served("owls", "owls", recommender, root)])


@pytest.fixture(scope="module")
def page(recommender):
    return pages.Page(one_offer(recommender))


@pytest.fixture
def visitor(page):
    return Visitor(page)


@pytest.fixture
def talked(visitor):
    """A visitor after two turns."""
    visitor.press("say", text="something calm")
    visitor.press("say", text="something fast")
    return visitor


def test_an_answer_shows_card_reply_playlist_and_asks_for_the_reasons(visitor):
    told = visitor.press("say", text="something calm")
    (turn,) = visitor.conversation.turns
    track = visitor.page.offers[0].recommender.track(turn.track_ids[0])
    for words in ("something calm", track.title, track.artist):
        assert words in visitor.feed
    assert track.title in visitor.playlist
    assert track.title in told["say"]
    assert told["n"] == 7
    assert told["next"] == {"act": "why", "turn": 0, "place": 0}


def test_the_message_is_shown_before_the_answer_and_the_track_before_the_reply(visitor):
    visitor.press("say", text="something calm")
    running = ["".join(stage[0]) for stage in visitor.stages[:-1]]
    assert "tp-dots" in running[0]
    assert "tp-card" not in running[0]
    assert "something calm" in running[0]
    assert any("tp-card" in stage for stage in running)
    assert all("tp-running" in stage for stage in running)
    assert "tp-running" not in visitor.feed


def test_a_reaction_is_taken_back_by_pressing_again(talked):
    for expected in ("skip", None):
        talked.press("react", turn="0", reaction="skip")
        assert talked.conversation.turns[0].reaction == expected


def test_a_skipped_track_leaves_the_playlist_and_leads_the_next_message(talked):
    talked.press("react", turn="1", reaction="skip")
    (kept,) = talked.conversation.playlist()
    assert kept == talked.conversation.turns[0].track_ids[0]
    talked.press("say", text="go on")
    assert "You skipped" in talked.feed


def test_moves_and_removals_keep_the_focus_and_say_what_happened(talked):
    first, second = talked.conversation.playlist()
    told = talked.press("move", track=first, by="1")
    assert talked.conversation.playlist() == (second, first)
    assert told["focus"] == {"act": "move", "track": first, "by": "1"}
    assert "place 2" in told["say"]
    talked.press("remove", track=second)
    assert talked.conversation.playlist() == (first,)


def test_undo_gives_the_words_back(talked):
    told = talked.press("undo")
    assert len(talked.conversation) == 1
    assert told["restore"] == "something fast"


def test_undo_of_the_first_turn_leads_back_to_the_welcome(visitor):
    visitor.press("say", text="something calm")
    visitor.press("undo")
    assert "tp-welcome" in visitor.feed
    assert "tp-empty" in visitor.why
    visitor.press("undo")
    assert "tp-welcome" in visitor.feed


def test_retry_plays_something_else_and_edit_says_it_anew(talked):
    before = talked.conversation.turns[1]
    talked.press("retry")
    assert talked.conversation.turns[1].track_ids != before.track_ids
    talked.press("edit", turn=1, text="something sad")
    assert [turn.text for turn in talked.conversation.turns] == ["something calm", "something sad"]


def test_new_starts_anew(talked):
    told = talked.press("new")
    assert talked.visit == pages.Visit()
    assert told["code"] == ""
    assert "tp-welcome" in talked.feed
    assert "tp-row" not in talked.playlist


def test_why_explains_a_track_and_a_swap_changes_the_list(talked):
    talked.press("why", turn="0", place="0")
    turn = talked.conversation.turns[0]
    assert talked.why.count('data-act="code"') == 5
    assert talked.page.offers[0].recommender.track(turn.track_ids[0]).title in talked.why
    assert "tp-swapped" not in talked.why
    code = (turn.codes[0][1] + 1) % talked.page.offers[0].recommender.tokenizer.config.codes[1]
    talked.press("swap", modality="semantic", code=str(code))
    assert "tp-swapped" in talked.why
    assert talked.visit.swapped[1] == code
    talked.press("swap-back")
    assert "tp-swapped" not in talked.why
    assert talked.visit.swapped is None


def test_a_link_holds_the_conversation_and_the_settings(talked, page):
    talked.press("react", turn="0", reaction="like")
    talked.values[page.controls.names.index("tracks")] = 3
    code = talked.press("link")["code"]
    other = Visitor(page)
    told = other.press("load", code=code)
    assert told["next"] == {"act": "why", "turn": 1, "place": 0}
    assert [turn.track_ids for turn in other.conversation.turns] == [
        turn.track_ids for turn in talked.conversation.turns
    ]
    assert other.conversation.turns[0].reaction == "like"
    assert other.loaded["tracks"] == 3
    assert other.playlist == talked.playlist
    other.press("why", turn=1, place=0)
    assert "tp-why-match" in other.why


def test_json_goes_out_and_comes_in(talked, page):
    file = talked.press("export", format="json")["file"]
    assert json.loads(file["text"])["turns"][0]["text"] == "something calm"
    other = Visitor(page)
    other.press("load", text=file["text"])
    assert other.conversation.playlist() == talked.conversation.playlist()


@pytest.mark.parametrize("kind", ["m3u", "csv", "jspf"])
def test_the_playlist_can_be_saved(talked, kind):
    file = talked.press("export", format=kind)["file"]
    for track_id in talked.conversation.playlist():
        assert talked.page.offers[0].recommender.track(track_id).title in file["text"]
    assert file["name"].startswith("talkplay.")


@pytest.mark.parametrize(
    ("act", "data"),
    [
        ("say", {"text": "  "}),
        ("say", {"text": "x" * 2001}),
        ("say", {"text": 7}),
        ("say", {}),
        ("edit", {"text": "hi", "turn": 9}),
        ("edit", {"text": "hi", "turn": "x"}),
        ("react", {"turn": 9, "reaction": "like"}),
        ("react", {"turn": 0, "reaction": "love"}),
        ("react", {"turn": 1e999, "reaction": "like"}),
        ("move", {"track": "unknown", "by": 1}),
        ("move", {"track": "t", "by": None}),
        ("export", {"format": "exe"}),
        ("why", {"turn": -1, "place": 0}),
        ("why", {"turn": 0, "place": 5}),
        ("swap", {"modality": "semantic", "code": 1}),
        ("load", {"code": "%%%"}),
        ("load", {"text": "[1, 2"}),
        ("load", {}),
        ("launch", {}),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(talked, act, data):
    before = talked.visit
    told = talked.press(act, **data)
    assert told["problem"]
    assert told["n"] == 7
    assert talked.visit == before
    assert "something calm" in talked.feed
    assert "tp-problem" in talked.feed


def test_a_refused_message_is_given_back(talked):
    assert talked.press("say", text="y" * 2001)["restore"] == "y" * 2001


def test_data_that_is_no_object_is_refused(page):
    *_, last = page.turn(gr.EventData(None, "nonsense"), pages.Visit(), *Visitor(page).values)
    assert last[3]["problem"]


def test_an_unexpected_error_gives_nothing_away(talked, monkeypatch):
    def explode(*_):
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(talked.page.offers[0].view, "playlist", explode)
    told = talked.press("new")
    assert "went wrong" in told["problem"]
    assert "secret" not in str(told)


def test_the_settings_reach_the_answer(page, visitor):
    visitor.values[page.controls.names.index("tracks")] = 2.0
    visitor.press("say", text="something calm")
    assert len(visitor.conversation.turns[0].track_ids) == 2


def test_an_impossible_setting_is_refused(page, visitor):
    visitor.values[page.controls.names.index("seed")] = 1.5
    assert "whole number" in visitor.press("say", text="hi")["problem"]


def test_the_controls_say_again_what_they_were_told(page):
    names = page.controls.names
    told = Settings(tracks=2, strategy="sample", year_from=1990, no_repeats=False, seed=3)
    assert page.controls.settings(page.controls.values(told, page.offers[0].choices)) == told
    assert {"year_from", "tags", "explicit", "one_per_artist"} <= set(names)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A folder with a clip, beside it what must not be sent."""
    root = tmp_path_factory.mktemp("sound") / "catalog"
    (root / "audio").mkdir(parents=True)
    for path in (root / "audio" / "a.wav", root.parent / "secret.wav"):
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(b"\0\0" * 800)
    (root / "tracks.parquet").write_bytes(b"PAR1")
    (root / "audio" / "link.wav").symlink_to(root.parent / "secret.wav")
    return root


@pytest.mark.parametrize(
    "audio",
    [
        *("../secret.wav", "/etc/hostname", "tracks.parquet", "audio/none.wav", "audio/link.wav"),
        *("https://example.com/a.wav", "audio", "a\0.wav", "", None),
    ],
)
def test_only_audio_inside_the_root_is_sent(sound, audio):
    assert clip_path(Track("t", "T", "A", audio=audio), sound) is None
    assert clip_path(Track("t", "T", "A", audio="audio/a.wav"), sound) is not None
    assert clip_path(Track("t", "T", "A", audio="audio/a.wav"), None) is None


@pytest.fixture(scope="module")
def address(recommender, sound, tmp_path_factory):
    root = tmp_path_factory.mktemp("clips") / "root"
    shutil.copytree(sound, root, symlinks=True)
    first = recommender.track(recommender.track_ids[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with_sound = _WithSound(recommender, Track(first.track_id, "T", "A", audio="audio/a.wav"))
    offers = one_offer(with_sound, root)
    app = layout.build_page(offers)
    options = layout.launch_options(offers, title="<Owls>")
    _, url, _ = app.launch(server_port=port, prevent_thread_lock=True, **options)
    yield SimpleNamespace(url=url, root=root, track_id=first.track_id)
    app.close()


class _WithSound:
    """A recommender whose first track has a clip."""

    def __init__(self, recommender, track):
        self._recommender, self._track = recommender, track

    def __getattr__(self, name):
        return getattr(self._recommender, name)

    def track(self, track_id):
        if track_id == self._track.track_id:
            return self._track
        return self._recommender.track(track_id)


def fetch(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code


def test_the_server_sends_the_clips_of_the_catalogue_and_nothing_else(address):
    assert fetch(f"{address.url}clips/0/{address.track_id}") == 200
    for path in ("unknown", "..%2Fsecret.wav", "%2Fetc%2Fpasswd", "a%00b", "../../app.py"):
        assert fetch(f"{address.url}clips/0/{path}") == 404
    for path in (f"1/{address.track_id}", f"{10**30}/{address.track_id}", address.track_id):
        assert fetch(f"{address.url}clips/{path}") == 404
    for path in (address.root / "tracks.parquet", "/etc/passwd"):
        assert fetch(f"{address.url}gradio_api/file={path}") in (403, 404)


def test_the_page_asks_no_other_server_and_keeps_its_own_acts_private(address):
    with urllib.request.urlopen(f"{address.url}config") as answer:
        config = json.load(answer)
    assert "fonts.googleapis" not in json.dumps(config)
    named = Client(address.url, verbose=False).view_api(return_format="dict")["named_endpoints"]
    assert list(named) == ["/recommend"]


def test_something_is_seen_before_the_script_has_run(address):
    with urllib.request.urlopen(address.url) as answer:
        source = answer.read().decode()
        assert int(answer.headers["content-length"]) == len(source.encode())
    assert source.count("&lt;Owls&gt;</h1>") == 1
    assert source.index("</h1>") < source.index("<gradio-app")
    assert source.rstrip().endswith("</html>")


def test_the_style_holds_no_address():
    for name in ("style.css", "page.js"):
        source = (layout.HERE / name).read_text(encoding="utf-8")
        assert "http" not in source.replace("http-equiv", "")
        assert "innerHTML" not in source
