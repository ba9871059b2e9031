"""The client of language models: what it sends, what it reads, and where its key goes."""

import asyncio
import gc
import json
import subprocess
import sys
import traceback

import pytest
from asking import CHAT, ask, ask_many, model_of
from faulty_server import FaultyServer, answer, raw, status

from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions, chat_url
from talkplay_hf.conversations.llm.language_model import Answer, NamedModel
from talkplay_hf.errors import ConfigError, LanguageModelError, PromptRefusedError

KEY = "sk-very-secret-0123456789"


def test_an_answer_comes_with_its_usage_and_reason():
    with FaultyServer([answer("Try this one.", finish_reason="length")]) as server:
        assert ask(model_of(server)) == Answer("Try this one.", "length", 5, 4)


def test_usage_may_be_missing():
    with FaultyServer([answer("Try this one.", usage=False)]) as server:
        model = model_of(server)
        assert ask(model) == Answer("Try this one.", "stop", 0, 0)
        assert model.budget.tokens == model.budget.estimate(CHAT) + model.budget.estimate(
            [{"role": "assistant", "content": "Try this one."}]
        )


def test_only_what_is_set_is_sent_and_recorded():
    with FaultyServer([answer()]) as server:
        plain = model_of(server)
        full = model_of(
            server,
            max_tokens_field="max_completion_tokens",
            temperature=None,
            top_p=0.9,
            seed=7,
            extra={"reasoning_effort": "none"},
        )
        ask(plain)
        ask(full)
    first, second = (dict(request.body) for request in server.requests)
    for body, model in ((first, plain), (second, full)):
        assert body.pop("model") == "tiny"
        assert body.pop("messages") == CHAT
        body.pop("stream", None)
        assert body == model.parameters
    assert first == {"max_tokens": 50}
    assert second == {
        "max_completion_tokens": 50,
        "top_p": 0.9,
        "seed": 7,
        "reasoning_effort": "none",
    }


def test_a_json_schema_is_sent_only_as_the_option_says():
    schema = {"type": "object"}
    with FaultyServer([answer()] * 3) as server:
        for how in (None, "json_schema", "json_object"):
            model = model_of(server, structured=how)
            asyncio.run(model.complete(CHAT, schema))
            assert model.parameters.get("structured") == how
    sent = [request.body.get("response_format") for request in server.requests]
    named = {"name": "conversation", "strict": True, "schema": schema}
    assert sent == [
        None,
        {"type": "json_schema", "json_schema": named},
        {"type": "json_object", "schema": schema},
    ]
    assert not any("structured" in request.body for request in server.requests)


def test_content_in_parts_is_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}]
    body = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    with FaultyServer([raw(json.dumps(body).encode())]) as server:
        assert ask(model_of(server)).text == "ab"


def test_an_answer_is_valid_unicode_whatever_the_server_sends():
    body = {"choices": [{"message": {"content": "a\ud83d b\U0001f3b5"}, "finish_reason": "stop"}]}
    with FaultyServer([raw(json.dumps(body).encode())]) as server:
        assert ask(model_of(server)).text == "a\ufffd b\U0001f3b5"
        with pytest.raises(PromptRefusedError, match="Unicode"):
            ask(model_of(server), [{"role": "user", "content": "\ud83d"}])


def test_a_redirect_is_named_and_not_followed():
    with FaultyServer([answer()]) as elsewhere:
        moved = status(307, headers={"Location": elsewhere.base_url + "/v1/chat/completions"})
        with (
            FaultyServer([moved]) as server,
            pytest.raises(LanguageModelError, match=f"redirects to {elsewhere.base_url}"),
        ):
            ask(model_of(server))
        assert elsewhere.count == 0


def test_an_empty_answer_with_a_reason_is_an_answer():
    with FaultyServer([answer("", finish_reason="length")]) as server:
        assert ask(model_of(server)) == Answer("", "length", 5, 0)


def test_connections_are_closed_when_the_loop_ends(recwarn):
    with FaultyServer([answer()]) as server:
        model = model_of(server)
        ask_many(model, 3)
        assert model._http.is_closed
    gc.collect()
    assert [one for one in recwarn if one.category is ResourceWarning] == []


def test_connections_are_kept_from_call_to_call():
    async def several(model: EndpointModel) -> set[int]:
        return {id(model._http) for _ in range(3) if await model.complete(CHAT)}

    with FaultyServer([answer()]) as server:
        assert len(asyncio.run(several(model_of(server)))) == 1


def test_a_model_serves_one_event_loop_after_the_other():
    with FaultyServer([answer()]) as server:
        model = model_of(server, concurrency=1)
        assert [ask(model).text, ask(model).text] == ["hello", "hello"]
        assert all(isinstance(one, Answer) for one in ask_many(model, 3))


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        ("http://localhost:11434/", "http://localhost:11434/v1/chat/completions"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("https://x.org/llm", "https://x.org/llm/v1/chat/completions"),
        ("https://x.org/v1/chat/completions", "https://x.org/v1/chat/completions"),
        ("https://x.org/v1?version=2", "https://x.org/v1/chat/completions?version=2"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
    ],
)
def test_a_base_url_is_taken_with_and_without_its_version(base_url, url):
    assert chat_url(base_url) == url


@pytest.mark.parametrize("path", ["", "/v1", "/v1beta/openai/", "/proxy"])
def test_the_address_is_the_one_that_is_posted_to(path):
    with FaultyServer([answer()]) as server:
        ask(model_of(server, base_url=server.base_url + path))
        assert server.base_url + server.requests[0].path == chat_url(server.base_url + path)


def test_the_key_is_sent_and_shown_nowhere(monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    faults = [
        status(401, f"Incorrect API key provided: {KEY}"),
        status(400, f"what is {KEY}"),
        status(429, f"slow down {KEY}", headers={"Retry-After": "99999"}),
        status(500, f"{KEY} broke me"),
        raw(f"{KEY} is not JSON".encode()),
    ]
    for fault in faults:
        with FaultyServer([fault]) as server:
            model = model_of(server, key_variable="MY_KEY", give_up_after=1)
            with pytest.raises(LanguageModelError) as error:
                ask(model)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        shown = [*traceback.format_exception(error.value), repr(error.value), repr(model)]
        shown += [repr(model.parameters), model.name, repr(vars(model)["_options"])]
        assert not any(KEY in text for text in shown)
        assert "***" in str(error.value)


def test_the_hugging_face_token_goes_to_no_other_address(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with FaultyServer([answer()]) as server:
        ask(model_of(server))
        assert "authorization" not in server.requests[0].headers
        ask(model_of(server, key_variable="HF_TOKEN"))
        assert server.requests[1].headers["authorization"] == "Bearer hf_mine"


def test_a_missing_key_says_which_variable_to_set(monkeypatch, tmp_path):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(LanguageModelError, match=r"variable MY_KEY.*not set"):
        EndpointModel(EndpointOptions("m", base_url="http://x.org", key_variable="MY_KEY"))
    monkeypatch.setenv("MY_KEY", "ключ")
    with pytest.raises(LanguageModelError, match="characters that no key has") as error:
        EndpointModel(EndpointOptions("m", base_url="http://x.org", key_variable="MY_KEY"))
    assert "ключ" not in str(error.value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(LanguageModelError, match="Set HF_TOKEN"):
        EndpointModel(EndpointOptions("m"))


def test_a_provider_of_the_hub_gets_the_token_and_the_models_name(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with FaultyServer([answer("from a provider")]) as server:
        monkeypatch.setattr(
            "huggingface_hub.inference._providers.CONVERSATIONAL_AUTO_ROUTER.base_url",
            server.base_url,
        )
        model = EndpointModel(EndpointOptions("org/chat-model"))
        assert ask(model).text == "from a provider"
        request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer hf_mine"
    assert request.body["model"] == "org/chat-model"


def test_a_provider_that_does_not_exist_ends_the_run_before_any_request(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    model = EndpointModel(EndpointOptions("org/chat-model", provider="nobody"))
    with pytest.raises(LanguageModelError, match=r"provider nobody: .*not supported"):
        ask(model)
    assert model.budget.calls == 0


def test_a_hub_that_cannot_be_asked_for_a_provider_is_named(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    model = EndpointModel(EndpointOptions("org/chat-model", provider="together", tries=1))
    with pytest.raises(LanguageModelError, match="provider together: no connection to the Hub"):
        ask(model)
    assert model.budget.calls == 0


def test_a_model_of_which_only_the_name_is_known_cannot_be_asked():
    with pytest.raises(LanguageModelError, match=r"org/chat-model: .*cannot be asked"):
        ask(NamedModel("org/chat-model", {}))


@pytest.mark.parametrize(
    "bad",
    [
        {"model": ""},
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://x.org"},
        {"base_url": "http://user:word@x.org"},
        {"base_url": "http://x.org:port"},
        {"base_url": "http://x.org", "provider": "together"},
        {"max_tokens": 0},
        {"concurrency": 0},
        {"tries": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"structured": "xml"},
        {"extra": {"messages": []}},
        {"extra": {"seed": 3}},
    ],
    ids=str,
)
def test_impossible_options_are_refused(bad):
    with pytest.raises(ConfigError) as error:
        EndpointOptions(**{"model": "m", **bad})
    assert "word" not in str(error.value)


def test_the_import_is_light():
    code = (
        "import sys\n"
        "import talkplay_hf.conversations.llm.endpoint, talkplay_hf.conversations.llm.local_model\n"
        "print({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
