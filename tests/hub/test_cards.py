"""Cards say what is known, claim nothing else, and parse back."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.schema import Conversation, Message
from talkplay_hf.conversations.dataset import load_conversations, save_conversations
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards.conversations import conversations_card, update_card
from talkplay_hf.hub.cards.seal import is_ours

COUNTED: dict[str, Any] = {
    "conversations": 1500,
    "splits": {
        "test": {"conversations": 500, "turns": 2500, "messages": 7500},
        "train": {"conversations": 1000, "turns": 7120, "messages": 21360},
    },
    "languages": {"en": 1200, "fr": 200},
    "quarantined": 4,
    "quarantine_reasons": {"unknown_track": 3, "too_long": 1},
}
GENERATOR = {
    "model": "org/model",
    "prompt_sha256": "ab" * 32,
    "parameters": {"temperature": 0.7, "max_tokens": 2000},
    "seed": 12345,
}


def save(folder: Path, **facts: Any) -> None:
    messages = (Message("user", "hi"), Message("music", track_id="t"), Message("assistant", "ok"))
    save_conversations(folder, [Conversation("c", messages)], {"catalog": "f" * 64}, **facts)


def test_the_front_matter_parses_back() -> None:
    data = DatasetCard(conversations_card(COUNTED | {"generator": GENERATOR})).data.to_dict()
    assert data["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "train.parquet"},
                {"split": "test", "path": "test.parquet"},
            ],
        },
        {
            "config_name": "quarantine",
            "data_files": [{"split": "quarantine", "path": "quarantine.parquet"}],
        },
    ]
    assert data["language"] == ["en", "fr"]
    assert data["size_categories"] == ["1K<n<10K"]
    assert data["task_categories"] == ["text-generation"]
    assert {"music", "synthetic"} <= set(data["tags"])


def test_the_body_says_how_it_was_made_and_what_was_refused() -> None:
    rejects = {"answers": 1600, "unknown_track": 80}
    made_from = {"catalog": "c" * 64}
    told = {"rejects": rejects, "reason_meanings": {"unknown_track": "a track of another list"}}
    text = conversations_card(COUNTED | told | {"generator": GENERATOR, "made_from": made_from})
    for line in (
        "| train | 1,000 | 7,120 | 7.12 |",
        "| generator / model | org/model |",
        f"| generator / prompt_sha256 | {'ab' * 32} |",
        "| generator / parameters / temperature | 0.7 |",
        "| generator / seed | 12345 |",
        f"| SHA-256 of the catalog | {'c' * 64} |",
        "| too_long |  | 0 | 0.00% | 1 | 25.00% |",
        "| unknown_track | a track of another list | 80 | 5.00% | 3 | 75.00% |",
        "Languages: en (1,200), fr (200), not stated (100).",
    ):
        assert line in text
    assert "language model" in text
    assert "arXiv:2502.13713" in text


@pytest.mark.parametrize(
    ("facts", "tag", "words"),
    [
        ({"simulator": {"seed": 0}}, True, "templates wrote them"),
        ({"generator": {"kind": "simulator"}}, True, "templates wrote them"),
        ({"generator": GENERATOR}, True, "a language model wrote them"),
        ({"published": {"source": "X"}}, False, "taken from a published dataset"),
        ({}, False, "gets one track after another."),
    ],
)
def test_a_card_claims_no_origin_that_was_not_told(
    facts: dict[str, Any], tag: bool, words: str
) -> None:
    card = DatasetCard(conversations_card(COUNTED | facts))
    assert ("synthetic" in card.data.to_dict()["tags"]) == tag
    assert words in card.text
    assert card.text.count("wrote them") == tag


@pytest.mark.parametrize(
    ("facts", "license", "name", "words"),
    [
        ({}, "unknown", None, "Texts: unknown"),
        ({"license": "cc-by-4.0"}, "cc-by-4.0", None, "Texts: cc-by-4.0"),
        ({"license": "ask Ann first"}, "other", "ask-ann-first", "Texts: ask Ann first"),
        ({"published": {"license": "cc-by-4.0"}}, "cc-by-4.0", None, "Texts: cc-by-4.0"),
        ({"published": {"license": None}}, "unknown", None, "Texts: unknown"),
        ({"catalog_license": "CC0"}, "unknown", None, "Catalog: CC0"),
    ],
)
def test_a_card_claims_no_licence_that_was_not_told(
    facts: dict[str, Any], license: str, name: str | None, words: str
) -> None:
    card = DatasetCard(conversations_card(COUNTED | facts))
    assert card.data.license == license
    assert card.data.to_dict().get("license_name") == name
    assert words in card.text
    assert ("Catalog: unknown, see the source" in card.text) == ("catalog_license" not in facts)


def test_languages_are_named_as_the_hub_takes_them() -> None:
    languages = {"en": 1, "en-US": 2, "zh-Hans": 3, "Klingon": 4}
    card = DatasetCard(conversations_card(COUNTED | {"languages": languages}))
    assert card.data.to_dict()["language"] == ["en", "zh"]
    assert "zh-Hans (3)" in card.text


def test_what_became_of_the_pieces_is_told_once() -> None:
    synthesis = {
        "pieces": 80, "kept": 60, "repaired": 15, "calls": 100, "prompt_tokens": 5000,
        "completion_tokens": 700, "kept_at": {"1": 50, "2": 10}, "repairs": {"quotes": 15},
    }  # fmt: skip
    quality = {"synthesis": synthesis, "turns": {"mean": 7.0}}
    told = {"synthesis": synthesis, "quality": quality, "quality_text": "turns  mean 7"}
    text = conversations_card(COUNTED | told)
    assert "Of 80 pieces of playlists, 60 (75.00%) became conversations, 15 of them mended" in text
    assert "Which answer was kept: 1 (50), 2 (10)." in text
    assert "What was mended: quotes (15)." in text
    assert "100 answers took 5,000 tokens of prompts and 700 of answers" in text
    assert "synthesis /" not in text
    assert text.count("80 pieces") == 1
    assert "```text\nturns  mean 7\n```" in text


def test_a_published_set_is_named_with_what_was_left_out_of_it() -> None:
    published = {"source": "A | set", "url": "https://example.org/set", "other_tracks": 4592}
    text = conversations_card(COUNTED | {"published": published})
    assert "taken from a published dataset (A \\| set, https://example.org/set)" in text
    assert "4,592 further tracks are left out" in text
    assert "further tracks" not in conversations_card(COUNTED | {"published": "A set"})


def test_a_licence_without_derivatives_is_warned_of() -> None:
    warning = "does not allow changed copies to be shared"
    for license, warned in (
        ("cc-by-nc-nd-4.0", True),
        ("cc-by-nd-4.0", True),
        ("cc-by-4.0", False),
    ):
        text = conversations_card(COUNTED | {"published": {"source": "S", "license": license}})
        assert (warning in text) == warned


def test_names_of_a_long_list_are_shown() -> None:
    names = [f"name{n}" for n in range(23)]
    text = conversations_card(COUNTED | {"generator": {"tags": names}})
    assert f"| generator / tags | {', '.join(names)} |" in text


def test_a_fictional_catalog_is_named_as_one() -> None:
    assert "The catalog is fictional." in conversations_card(COUNTED | {"demo_world": True})
    assert "fictional" not in conversations_card(COUNTED)


def test_what_a_value_holds_cannot_break_the_card() -> None:
    evil = "a | b\n---\n# c <script> `d`"
    facts = {"pretty_name": evil, "generator": {evil: evil}, "license": evil}
    card = DatasetCard(conversations_card(COUNTED | facts))
    assert card.data.pretty_name == " ".join(evil.split())
    rows = [line for line in card.text.splitlines() if "generator" in line]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 3
    assert "<script>" not in card.text
    assert "\n# c" not in card.text


def test_a_folder_without_conversations_has_a_card() -> None:
    card = DatasetCard(conversations_card({"conversations": 0, "splits": {}}))
    assert "configs" not in card.data.to_dict()
    assert "No conversations." in card.text


def test_the_text_of_a_report_cannot_leave_its_block() -> None:
    text = conversations_card(COUNTED | {"quality_text": "turns  7\n````\n# Not a heading\n"})
    assert "`````text\nturns  7\n````\n# Not a heading\n`````\n" in text
    assert "## Quality" not in conversations_card(COUNTED | {"quality_text": " "})


def test_a_report_can_be_added_later(tmp_path: Path) -> None:
    save(tmp_path / "later", generator=GENERATOR)
    before = files.read_manifest(tmp_path / "later", "conversations")
    update_card(tmp_path / "later", {"b": 2, "a": 1}, "a is 1")
    after = files.read_manifest(tmp_path / "later", "conversations")
    card = tmp_path / "later" / files.CARD
    assert "\na is 1\n" in card.read_text(encoding="utf-8")
    assert after["files"][files.CARD] == files.sha256_file(card)
    assert after["quality"] == {"a": 1, "b": 2}
    assert files.content_hash(after) == files.content_hash(before)
    assert len(load_conversations(tmp_path / "later")) == 1
    # as if the report had been there from the start
    save(tmp_path / "at once", generator=GENERATOR, quality={"a": 1, "b": 2}, quality_text="a is 1")
    for path in (tmp_path / "later").iterdir():
        assert path.read_bytes() == (tmp_path / "at once" / path.name).read_bytes()


def test_only_a_conversations_folder_can_be_updated(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        update_card(tmp_path / "absent", {"a": 1}, "a is 1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(json_values, json_values, st.text(max_size=30), st.text(max_size=30))
def test_any_facts_give_a_card_that_parses(
    generator: Any, quality: Any, license: str, name: str
) -> None:
    told = {
        "generator": generator,
        "quality_text": quality,
        "license": license,
        "pretty_name": name,
    }
    card = DatasetCard(conversations_card(COUNTED | told))
    assert card.data.to_dict()["configs"][0]["config_name"] == "default"
    assert card.text.count("## Limits") == 1


def test_a_card_that_a_person_edited_is_kept_beside_new_figures(tmp_path: Path) -> None:
    save(tmp_path / "talks")
    path = tmp_path / "talks" / files.CARD
    assert is_ours(path.read_text(encoding="utf-8"))
    path.write_text("# My own words\n", encoding="utf-8")
    update_card(tmp_path / "talks", {"a": 1}, "a is 1")
    assert path.read_text(encoding="utf-8") == "# My own words\n"
    manifest = files.read_manifest(tmp_path / "talks", "conversations")
    assert manifest["quality"] == {"a": 1}
    assert manifest["files"][files.CARD] == files.sha256_file(path)


def test_the_shards_of_a_split_are_named_by_their_pattern() -> None:
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"]
    told = COUNTED | {"files": dict.fromkeys(names, "0" * 64)}
    found = DatasetCard(conversations_card(told)).data.to_dict()["configs"][0]["data_files"]
    assert [one["path"] for one in found] == ["train-*-of-*.parquet", "test.parquet"]


def test_refused_answers_that_are_no_numbers_cost_only_their_section() -> None:
    with pytest.warns(UserWarning, match="without its rejects"):
        text = conversations_card(COUNTED | {"rejects": {"answers": "many", "x": 1}})
    assert "## Refused answers" not in text
    assert "| train | 1,000 | 7,120 | 7.12 |" in text
