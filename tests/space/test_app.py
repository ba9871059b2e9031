"""The chat page, behind a fake recommender."""

import contextlib
import importlib.util
import socket
import sys
import urllib.error
import urllib.request
import wave
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from gradio_client import Client

import talkplay_hf
from talkplay_hf import Message, TalkPlayError, Track

APP = Path(__file__).parents[2] / "space" / "app.py"
EVIL = "<img src=x onerror=alert(1)> <|eot_id|>"
TRACKS = [
    Track("t1", "Lanterns", "Nova Quill", "Tides", "2014-05-02", ("calm",), audio="audio/a.wav"),
    Track("t/2 ?", EVIL, "<script>x</script>", tags=("<b>",), audio="audio/a.wav"),
    Track("outside", "Outside", "Someone", audio="../secret.wav"),
    Track("absolute", "Absolute", "Someone", audio="/etc/hostname"),
    Track("table", "Table", "Someone", audio="tracks.parquet"),
    Track("absent", "Absent", "Someone", audio="audio/none.wav"),
    Track("url", "Elsewhere", "Someone", audio="https://example.com/a.wav"),
]


class FakeRecommender:
    examples = ("Something calm", "Something fast")
    track_ids = tuple(track.track_id for track in TRACKS)

    def __init__(self) -> None:
        self.seen: list[list[Message]] = []

    def track(self, track_id: str) -> Track:
        for track in TRACKS:
            if track.track_id == track_id:
                return track
        raise TalkPlayError(f"the catalogue has no track {track_id!r}")

    def chat(self, messages, *, strategy) -> SimpleNamespace:
        self.seen.append(list(messages))
        text = messages[-1].content
        if "boom" in text:
            raise RuntimeError("a secret detail")
        if "nothing" in text:
            raise TalkPlayError("no track fits")
        track = TRACKS[sum(message.role == "music" for message in messages) % 2]
        return SimpleNamespace(
            tracks=(track,), reply=f"Here is {track.title}", codes=((1, 2, 3, 4, 5),), scores=(0.0,)
        )


@pytest.fixture(scope="module")
def app_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("space_app", APP)
    module = importlib.util.module_from_spec(spec)
    sys.modules["space_app"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def audio_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world") / "catalog"
    (root / "audio").mkdir(parents=True)
    for path in (root / "audio" / "a.wav", root.parent / "secret.wav"):
        with wave.open(str(path), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(b"\0\0" * 800)
    (root / "tracks.parquet").write_bytes(b"PAR1")
    return root


@pytest.fixture
def page(app_module, audio_root):
    return app_module.ChatPage(FakeRecommender(), audio_root)


def send(page, text, turns=()):
    """The last values that a turn yields: chat, playlist, text box, turns."""
    return list(page.respond(text, list(turns)))[-1]


def shown(chat) -> list[str]:
    return [getattr(entry["content"], "value", entry["content"]) for entry in chat]


def test_turn_shows_card_reply_and_playlist(page):
    chat, playlist, box, turns = send(page, "  something calm ")
    user, card, reply = shown(chat)
    assert (user, reply, box) == ("something calm", "Here is Lanterns", "")
    assert "Lanterns" in card
    assert "Tides · 2014" in card
    assert 'src="clips/t1"' in card
    assert "Nova Quill" in playlist
    assert [turn.track_id for turn in turns] == ["t1"]


def test_every_text_is_escaped(page):
    turns = send(page, "first")[3]
    chat, playlist, _, _ = send(page, "<b>hi</b> <|eot_id|>", turns)
    html = "".join(shown(chat)) + playlist
    assert "&lt;b&gt;hi&lt;/b&gt;" in html
    assert "&lt;img src=x onerror=alert(1)&gt; &lt;|eot_id|&gt;" in html
    assert 'src="clips/t%2F2%20%3F"' in html
    assert not [tag for tag in ("<img", "<script", "<b>", "<|") if tag in html]


def test_history_is_rebuilt_from_server_turns(page):
    turns = send(page, "first")[3]
    send(page, "second", turns)
    assert page.recommender.seen[-1] == [
        Message("user", "first"),
        Message("music", track_id="t1"),
        Message("assistant", "Here is Lanterns"),
        Message("user", "second"),
    ]


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        ("boom", "something went wrong"),
        ("nothing", "no track fits"),
        ("x" * 2001, "too long: please keep it under 2,000"),
    ],
)
def test_trouble_becomes_a_polite_message(page, text, notice):
    chat, _, box, turns = send(page, text)
    assert notice in shown(chat)[-1]
    assert "secret" not in str(shown(chat))
    assert box == text  # so that the listener can mend it
    assert not isinstance(turns, list)  # the conversation stays as it was


def test_empty_message_does_nothing(page):
    send(page, "   ")
    assert page.recommender.seen == []


def test_answer_without_track(page, monkeypatch):
    empty = SimpleNamespace(tracks=(), reply="Nothing fits.", codes=(), scores=())
    monkeypatch.setattr(page.recommender, "chat", lambda messages, strategy: empty)
    chat, _, _, turns = send(page, "hello")
    assert shown(chat) == ["hello", "Nothing fits."]
    assert [message.role for message in turns[0].messages()] == ["user", "assistant"]
    assert page.recommend("hello", []) == {"track": None, "reply": "Nothing fits.", "codes": []}


def test_new_conversation_clears(page):
    chat, playlist, box, turns = page.clear()
    assert (chat, box, turns) == ([], "", [])
    assert "Tracks you hear appear here" in playlist


@pytest.mark.parametrize("track", TRACKS[2:], ids=lambda track: track.track_id)
def test_only_audio_inside_the_root_has_a_player(app_module, audio_root, track):
    assert app_module.clip_path(track, audio_root) is None
    assert "<audio" not in app_module.track_card(track, audio_root)


def test_links_out_of_the_root_are_refused(app_module, audio_root):
    (audio_root / "audio" / "link.wav").symlink_to(audio_root.parent / "secret.wav")
    track = Track("link", "Link", "Someone", audio="audio/link.wav")
    assert app_module.clip_path(track, audio_root) is None


@pytest.fixture(scope="module")
def url(app_module, audio_root):
    recommender = FakeRecommender()
    app = app_module.build_app(recommender, audio_root=audio_root)
    options = app_module.launch_options(recommender, audio_root)
    _, address, _ = app.launch(server_port=free_port(), prevent_thread_lock=True, **options)
    yield address
    app.close()


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def turn(track_id="t1", role="music"):
    return [
        {"role": "user", "content": "hi"},
        {"role": role, "track_id": track_id, "content": "x"},
        {"role": "assistant", "content": "yes"},
    ]


def test_api_returns_a_typed_dict(client):
    answer = client.predict(message="something", history=turn(), api_name="/recommend")
    assert answer["track"]["track_id"] == "t/2 ?"
    assert answer["track"]["tags"] == ["<b>"]
    assert answer["reply"] == f"Here is {EVIL}"
    assert answer["codes"] == [[1, 2, 3, 4, 5]]


def test_recommend_is_the_only_public_endpoint(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/recommend"]


@pytest.mark.parametrize(
    ("message", "history", "reason"),
    [
        ("hi", turn("forged"), "does not have"),
        ("hi", turn(role="system"), "must have the role 'music'"),
        ("hi", turn()[:2], "whole turns"),
        ("hi", turn(["t1"]), "needs a text"),
        ("hi", [1, 2, 3], "must have the role 'user'"),
        ("hi", {"role": "user"}, "whole turns"),
        ("hi", turn() * 51, "at most 50 turns"),
        ("x" * 2001, [], "too long"),
        ("  ", [], "empty"),
        ("nothing", [], "no track fits"),
        ("boom", [], "something went wrong"),
    ],
)
def test_api_refuses_with_a_reason(client, message, history, reason):
    with pytest.raises(Exception, match=reason) as caught:
        client.predict(message=message, history=history, api_name="/recommend")
    assert "secret" not in str(caught.value)


def fetch(address: str) -> int:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code


def test_server_sends_only_clips_of_the_catalogue(url, audio_root):
    assert fetch(f"{url}clips/t1") == 200
    assert fetch(f"{url}clips/t%2F2%20%3F") == 200
    for path in ("outside", "absolute", "table", "unknown", "..%2Fsecret.wav", "%2Fetc%2Fpasswd"):
        assert fetch(f"{url}clips/{path}") == 404
    for path in (audio_root.parent / "secret.wav", audio_root / "tracks.parquet", "/etc/passwd"):
        assert fetch(f"{url}gradio_api/file={path}") in (403, 404)


def test_launch_names_what_is_wrong(app_module, monkeypatch, tmp_path, url):
    def from_pretrained(model):
        if model == "missing":
            raise OSError("missing is not a folder\nand more")
        return FakeRecommender()

    fake = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(vars(talkplay_hf), "Recommender", fake)
    with pytest.raises(TalkPlayError, match=r"cannot load the model 'missing': .* folder$"):
        app_module.launch("missing")
    with pytest.raises(TalkPlayError, match="no such catalog folder"):
        app_module.launch("model", catalog=str(tmp_path / "none"))
    busy = int(url.rstrip("/").rpartition(":")[2])
    with pytest.raises(TalkPlayError, match=f"127.0.0.1:{busy}: the port is taken"):
        app_module.launch("model", port=busy)
