"""Whatever the files of a folder say, it gets a card that the Hub's client and `datasets` parse."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset_builder
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talkplay_hf.hub.cards import card
from talkplay_hf.hub.cards.seal import is_ours

EVIL = (
    "a | b", "---", "\n---\n# x\n", "</details><script>alert(1)</script>", "```\n# out\n```",
    "[x](https://evil.example)", "![i](https://evil.example/i.png)", "{{ 7*7 }}", "{% raw %}",
    "<!-- talkplay_hf card -->", "&lt;b&gt;", "yes", "null", "1.0", "!!python/object:os.system",
    "\ud800", "\x00", "\u2028", "\u202e", '"\nimport os', "'", "\\", "#", "- x", "", " ", "é😀",
)  # fmt: skip
texts = st.sampled_from(EVIL) | st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
CONFIG = {
    "base": "me/base", "modalities": ["playlist", "audio"], "codes": [256, 64],
    "missing": "impute", "made_from": {"catalog": "c" * 64}, "talkplay_hf": "0.1.0",
}  # fmt: skip
REPORT = {
    "base_model": "me/base", "parameters": 5, "steps": 3, "tokens_seen": 3, "precision": "fp32",
    "seed": 0, "versions": {"torch": "2"}, "arguments": {"share": 0.05, "x": {"y": 1}},
    "best": {"metric": "loss", "step": 3, "value": 0.4}, "last": {"eval": {"loss": 0.4}},
    "log": [{"learning_rate": 0.1}],
    "data": {"fingerprint": "f", "languages": ["en"], "train": {"conversations": {"rows": 1}}},
}  # fmt: skip
HEALTH = {
    "distinct_tuples": 2, "largest_bucket": 2, "collision_rate": 0.1,
    "modalities": {"audio": {"codes": 64, "used": 64, "perplexity": 6.0, "training": {"never": 3}}},
}  # fmt: skip
MANIFEST = {
    "format_version": 1, "talkplay_hf": "0.1.0", "files": {"train.parquet": "0" * 64},
    "made_from": {"catalog": "c" * 64}, "conversations": 3, "languages": {"en": 3},
    "splits": {"train": {"conversations": 3, "turns": 6, "messages": 9}}, "quarantined": 2,
    "quarantine_reasons": {"long": 2}, "rejects": {"answers": 9, "long": 2},
    "synthesis": {"pieces": 9, "kept": 3, "kept_at": {"1": 3}}, "generator": {"model": "m"},
    "reason_meanings": {"long": "too long"}, "license": "mit", "quality_text": "fine",
    "world": {"seed": 0}, "options": {"seed": 0}, "tracks": 1, "playlists": 1,
    "modalities": {"audio": {"dim": 4, "present": 3, "encoder": {"encoder": "mel"}}},
    "import": {"sources": ["a.csv"]}, "published": {"source": "S", "other_tracks": 3},
}  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn, facts: dict[str, Any]) -> Any:
    """Facts with some values, at any depth, that are missing or something else."""
    if draw(st.integers(0, 30)) == 0:
        return draw(values)
    found: dict[Any, Any] = {}
    for name, value in facts.items():
        choice = draw(st.integers(0, 9))
        if choice == 0:
            continue
        if choice <= 2:
            found[name] = draw(values)
        else:
            found[name] = draw(mangled(value)) if isinstance(value, dict) and value else value
    if draw(st.integers(0, 3)) == 0:
        found[draw(texts)] = draw(values)
    return found


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="ascii")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, used again and again: making one takes longer than making a card."""
    return tmp_path_factory.mktemp("mangled") / "made"


def emptied(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    return folder


def checked(folder: Path, kind: type[ModelCard] | type[DatasetCard], **options: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = card(folder, **options)
        assert is_ours(text)
        # the client reads what was written
        front = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
        assert isinstance(front, dict)
        assert front["license"]
        parsed = kind(text.encode("utf-8").decode())
    assert parsed.data.to_dict()["license"] == front["license"]
    # damaged facts cost their own section, not the card
    assert "## Limits" in text
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        compile(code, "card", "exec")
        assert all(line.isprintable() for line in code.splitlines())
    return without_code(parsed.text)


def without_code(body: str) -> str:
    """The body outside its code blocks; no block is left open."""
    outside, fence = [], ""
    for line in body.splitlines():
        opened = re.match(r"`{3,}", line)
        if not fence and opened:
            fence = opened[0]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence
    return "\n".join(outside)


def harmless(body: str) -> None:
    plain = re.sub(r"<!-- talkplay_hf card [0-9a-f]{64} -->\s*$", "", body)
    plain = re.sub(r"`[^`\n]+`", "", plain)
    assert "<" not in plain.replace("\\<", "")
    links = re.findall(r"(?<!\\)\]\(([^)]*)", plain)
    assert set(links) <= {"training_curves.png"}
    headings = [line for line in plain.splitlines() if line.startswith("# ")]
    assert len(headings) == 1


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(st.data())
def test_any_model_folder_gets_a_card(folder: Path, data: st.DataObject) -> None:
    emptied(folder)
    write(folder / "talkplay_config.json", data.draw(mangled(CONFIG)))
    if data.draw(st.booleans()):
        write(folder / "config.json", data.draw(mangled({"transformers_version": "5"})))
    write(folder / "training_report.json", data.draw(mangled(REPORT)))
    write(folder / "codebook_health.json", data.draw(mangled(HEALTH)))
    write(folder / "examples.json", data.draw(st.lists(texts, max_size=3) | values))
    if data.draw(st.booleans()):
        columns = {"codes": [[1, 2]], "license": [data.draw(st.sampled_from(EVIL[:12]))]}
        pq.write_table(pa.table(columns), folder / "catalog.parquet")
    options = {name: data.draw(st.none() | texts) for name in ("title", "license", "repo_id")}
    harmless(checked(folder, ModelCard, **options))


@SETTINGS
@given(st.sampled_from(["catalog", "features", "conversations"]), st.data())
def test_any_dataset_folder_gets_a_card(folder: Path, kind: str, data: st.DataObject) -> None:
    emptied(folder)
    facts = data.draw(mangled(MANIFEST))
    facts = facts if isinstance(facts, dict) else {"what": facts}
    write(folder / "manifest.json", facts | {"kind": kind})
    rows = pa.table({"track_id": ["a"], "license": [data.draw(st.sampled_from(EVIL[:12]))]})
    for name in ("tracks", "playlists", "audio", "train"):
        if data.draw(st.booleans()):
            pq.write_table(rows, folder / f"{name}.parquet")
    options = {name: data.draw(st.none() | texts) for name in ("title", "license", "repo_id")}
    harmless(checked(folder, DatasetCard, **options))


@settings(SETTINGS, max_examples=15)
@given(mangled(MANIFEST), st.sampled_from(EVIL))
def test_datasets_reads_the_configurations_of_any_catalog(
    folder: Path, facts: Any, name: str
) -> None:
    emptied(folder)
    facts = facts if isinstance(facts, dict) else {}
    write(folder / "manifest.json", facts | {"kind": "catalog"})
    rows = pa.table({"track_id": ["a"], "license": [name.encode("utf-8", "replace").decode()]})
    pq.write_table(rows, folder / "tracks.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (folder / "README.md").write_text(card(folder, title=name), encoding="utf-8")
    cache = str(folder.parent / "cache")
    assert load_dataset_builder(str(folder), cache_dir=cache).config.name == "tracks"


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_of_a_user_gets_out_of_its_place(tmp_path: Path, evil: str) -> None:
    write(tmp_path / "talkplay_config.json", CONFIG | {"made_from": {evil: evil}})
    write(tmp_path / "config.json", {})
    write(tmp_path / "examples.json", [evil, "Play jazz"])
    harmless(checked(tmp_path, ModelCard, title=evil, license=evil, repo_id=evil))
    write(tmp_path / "manifest.json", MANIFEST | {"kind": "conversations", "quality_text": evil})
    for name in ("talkplay_config.json", "config.json"):
        (tmp_path / name).unlink()
    harmless(checked(tmp_path, DatasetCard, title=evil, license=evil, repo_id=evil))


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}', b"null"]
)
def test_files_that_are_no_json_cost_no_card(tmp_path: Path, damage: bytes) -> None:
    names = ("talkplay_config", "config", "training_report", "codebook_health", "examples")
    for name in (*(f"{name}.json" for name in names), "catalog.parquet", "README.md"):
        (tmp_path / name).write_bytes(damage)
    checked(tmp_path, ModelCard)


def test_a_file_that_is_too_large_costs_what_it_says_alone(tmp_path: Path) -> None:
    write(tmp_path / "talkplay_config.json", CONFIG)
    with (tmp_path / "examples.json").open("wb") as handle:
        handle.truncate(65 << 20)
    with pytest.warns(UserWarning, match=r"without what examples\.json says .*too large"):
        assert is_ours(card(tmp_path))


@pytest.mark.parametrize(
    "front",
    ["model-index: 3", "model-index:\n- results: wrong", "tags: {a", "- a", "license: [1]",
     "datasets: {a: 1}", "language: 3"],
)  # fmt: skip
def test_a_standing_card_that_cannot_be_read_costs_no_card(tmp_path: Path, front: str) -> None:
    write(tmp_path / "talkplay_config.json", CONFIG)
    write(tmp_path / "config.json", {})
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Old\n", encoding="utf-8")
    checked(tmp_path, ModelCard)
