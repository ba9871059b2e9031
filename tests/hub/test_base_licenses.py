"""What is known of the licences of base models, and nothing that is not."""

import pytest

from talkplay_hf.hub.cards import base_rules, name_problem
from talkplay_hf.hub.cards.licenses import license_fields


@pytest.mark.parametrize(
    ("base", "license"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama3.1"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3.1"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2"),
        ("unsloth/Llama-3.2-1B", "llama3.2"),
        ("Llama-3.2-1B", "llama3.2"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
        ("google/gemma-2-2b-it", "gemma"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "apache-2.0"),
        ("Qwen/Qwen3-0.6B", "apache-2.0"),
        ("HuggingFaceTB/SmolLM2-135M", "apache-2.0"),
        ("HuggingFaceTB/SmolLM3-3B", "apache-2.0"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "apache-2.0"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "apache-2.0"),
        ("microsoft/Phi-3.5-mini-instruct", "mit"),
    ],
)
def test_known_bases_have_their_licence(base: str, license: str) -> None:
    rules = base_rules(base)
    assert rules is not None
    assert rules.license == license
    assert rules.link.startswith("https://")


@pytest.mark.parametrize(
    "base",
    ["scratch", "", "me/base", "Qwen/Qwen2.5-3B", "me/not-Llama-3.2-1B", "me/SmolLM2-135M",
     "mistralai/Mistral-Large-Instruct-2407", "google/gemma-4"],
)  # fmt: skip
def test_nothing_is_claimed_of_other_bases(base: str) -> None:
    assert base_rules(base) is None
    assert name_problem(base, "me/anything") is None


@pytest.mark.parametrize(
    ("base", "repo", "right"),
    [
        ("meta-llama/Llama-3.2-1B", "me/talkplay", False),
        ("meta-llama/Llama-3.2-1B", "llama/talkplay", False),
        ("meta-llama/Llama-3.2-1B", "me/Llama-talkplay", True),
        ("meta-llama/Llama-3.2-1B", "Llama-3.2-talkplay", True),
        ("meta-llama/Meta-Llama-3-8B", "me/Llama-talkplay", False),
        ("meta-llama/Meta-Llama-3-8B", "me/Llama-3-talkplay", True),
        ("HuggingFaceTB/SmolLM2-135M", "me/talkplay", True),
    ],
)
def test_names_follow_the_rule_of_the_base(base: str, repo: str, right: bool) -> None:
    problem = name_problem(base, repo)
    assert (problem is None) == right
    if problem is not None:
        assert repo in problem
        assert base in problem


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (None, {"license": "unknown"}),
        (" ", {"license": "unknown"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("ask  Ann", {"license": "other", "license_name": "ask-ann"}),
        ("my-own-1.0", {"license": "other", "license_name": "my-own-1.0"}),
    ],
)
def test_a_licence_is_named_as_the_hub_knows_it(given: str | None, fields: dict[str, str]) -> None:
    assert license_fields(given) == fields
