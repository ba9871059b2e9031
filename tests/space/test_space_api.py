"""The endpoint for programs, called by a real client."""

import inspect

import gradio as gr
import pytest
from fake_recommender import TRACKS, FakeRecommender
from gradio_client import Client
from hypothesis import given
from hypothesis import strategies as st
from talkplay_space.answering import Conductor
from talkplay_space.api import endpoint, read_history
from talkplay_space.conversation import Conversation, RefusedError
from talkplay_space.offers import Offers, Served


def offers():
    """Two models; the second has a catalogue of its own and a smaller one."""
    whole, less = FakeRecommender(), FakeRecommender(TRACKS[2:])
    pairs = [("owls", "owls", whole), ("larks", "larks", whole), ("larks", "rock", less)]
    return Offers([Served(*one) for one in pairs])


@pytest.fixture(scope="module")
def client():
    with gr.Blocks(analytics_enabled=False) as app:
        gr.api(endpoint(offers()), api_name="recommend")
    _, address, _ = app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield Client(address, verbose=False)
    app.close()


def turn(track_id="t1", role="music"):
    return [
        {"role": "user", "content": "hi"},
        {"role": role, "track_id": track_id},
        {"role": "assistant", "content": "yes"},
    ]


def call(client, message, *arguments):
    return client.predict(message, *arguments, api_name="/recommend")


def test_a_message_alone_is_answered(client):
    answer = call(client, "something calm")
    assert answer["reply"] == "Here is Lanterns"
    assert answer["tracks"] == [
        {
            "track_id": "t1",
            "title": "Lanterns",
            "artist": "Nova Quill",
            "album": "Tides",
            "year": 2014,
            "tempo": 82.0,
            "key": "C major",
            "tags": ["calm", "folk"],
            "codes": [0, 1, 2, 3, 4],
            "score": -1.0,
            "matched": ["playlist", "semantic", "metadata", "lyrics", "audio"],
        }
    ]


def test_the_history_of_an_answer_leads_to_the_next(client):
    first = call(client, "something calm")
    second = call(client, "more", first["history"], {"tracks": 2, "seed": 3})
    assert [track["track_id"] for track in second["tracks"]] == ["t/2 ?", "t3"]
    assert second["seed"] == 3
    assert [entry["role"] for entry in second["history"]] == [
        *("user", "music", "assistant", "user", "music", "music", "assistant")
    ]
    assert call(client, "more", second["history"])["tracks"][0]["track_id"] == "t4"


@pytest.mark.parametrize(
    ("message", "history", "settings", "reason"),
    [
        ("hi", turn("forged"), None, "does not have"),
        ("hi", turn(role="system"), None, "role user, music or assistant"),
        ("hi", turn(role="user"), None, "needs a text"),
        ("hi", turn()[:2], None, "whole turns"),
        ("hi", turn()[1:], None, "must have the role user"),
        ("hi", turn()[:1] * 2, None, "role music or assistant"),
        ("hi", turn(["t1"]), None, "needs a text"),
        ("hi", [turn()[0], *turn()[1:2] * 2, turn()[2]], None, "each once"),
        ("hi", [1, 2, 3], None, "must hold role"),
        ("hi", {"role": "user"}, None, "must be a list"),
        ("hi", [turn()[0] | {"codes": [1]}], None, "must hold role"),
        ("hi", [turn()[0] | {"content": " "}], None, "is empty"),
        ("hi", [turn()[0] | {"content": "x" * 2001}], None, "at most 2,000"),
        ("hi", [turn()[0] | {"content": "<|eot_id|>"}], None, "control token"),
        ("hi", [*turn()[:2], {"role": "assistant", "content": "<|audio-1|>"}], None, "control"),
        ("hi", turn() * 51, None, "at most 50 turns"),
        ("hi", turn() * 200, None, "at most 50 turns"),
        ("hi", turn() * 50, None, "reached 50 turns"),
        ("x" * 2001, [], None, "too long"),
        ("  ", [], None, "empty"),
        (["hi"], [], None, "empty"),
        ("<|start_header_id|>", [], None, "control token"),
        ("unreadable", [], None, "cannot answer that: a reason"),
        ("boom", [], None, "something went wrong"),
        ("hi", [], {"tracks": 99}, "number of tracks"),
        ("hi", [], {"rules": ["x"]}, "unknown name"),
        ("hi", [], ["tracks"], "settings must be"),
        ("hi", [], {"year_from": 2020}, "loosen the first year"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    client, message, history, settings, reason
):
    with pytest.raises(Exception, match=reason) as caught:
        call(client, message, history, settings)
    assert "secret" not in str(caught.value)


def test_clients_see_types_and_descriptions(client):
    told = client.view_api(return_format="dict")["named_endpoints"]["/recommend"]
    types = {one["parameter_name"]: one["python_type"]["type"] for one in told["parameters"]}
    assert list(types) == ["message", "history", "settings", "model", "catalog"]
    assert types["message"] == "str"
    assert [one["parameter_has_default"] for one in told["parameters"]] == [False, *[True] * 4]
    assert told["returns"]


def test_the_docstring_describes_every_argument():
    function = endpoint(offers())
    description, arguments, returns = gr.utils.get_function_description(function)
    assert description.startswith("Recommend music")
    assert list(arguments) == list(inspect.signature(function).parameters)
    assert all(len(text) > 30 for text in arguments.values())
    assert returns


def test_a_model_and_a_catalogue_are_called_by_name(client):
    def played(**names):
        return client.predict("calm", **names, api_name="/recommend")["tracks"][0]["track_id"]

    assert played(model="larks") == "t1"
    assert played(model="larks", catalog="rock") == played(catalog="rock") == "t3"
    for names in ({"model": "no"}, {"catalog": "no"}, {"model": "owls", "catalog": "rock"}):
        with pytest.raises(Exception, match="There is no such"):
            played(**names)
    with pytest.raises(Exception, match="entry 1 names a track"):
        client.predict("more", turn(), catalog="rock", api_name="/recommend")


def test_clients_are_told_the_names():
    _, arguments, _ = gr.utils.get_function_description(endpoint(offers()))
    assert '"owls", "larks" (the first when left out)' in arguments["model"]
    assert 'with owls "owls" or left out; with larks "larks", "rock"' in arguments["catalog"]


def test_a_turn_without_a_track_is_whole(fake):
    entries = [turn()[0], turn()[2]]
    assert read_history(entries, Conductor(fake)).turns[0].track_ids == ()
    assert read_history(None, Conductor(fake)) == Conversation()


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "music", "assistant", "system", "tool"]) | st.none(),
        "content": st.text(max_size=9) | st.sampled_from(["<|eot_id|>", "ok"]) | st.integers(),
        "track_id": st.sampled_from(["t1", "t3", "t4", "forged"]) | st.none(),
        "name": st.just("x"),
    },
)


@given(st.lists(ENTRY | st.sampled_from(turn()), max_size=8) | st.none() | st.text())
def test_whatever_is_sent_is_a_conversation_or_refused(history):
    recommender = FakeRecommender()
    refused, read = "", Conversation()
    try:
        read = read_history(history, Conductor(recommender))
    except RefusedError as error:
        refused = str(error)
    assert "\n" not in refused
    assert all(track_id in recommender.track_ids for track_id in read.played())
    assert not any("<|" in turn.text + turn.reply for turn in read.turns)
