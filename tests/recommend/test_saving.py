"""A recommender that is written to a folder comes back as it was, and so do its bytes."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from chatting import REQUEST, assert_same
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.evaluation.model_index import add_results
from talkplay_hf.hub import files, verify
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.takedown import remove_tracks
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


@pytest.fixture(scope="module")
def saved(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model folder. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    recommender.save_pretrained(folder)
    return folder


def load(folder: Path, **options: Any) -> Recommender:
    return Recommender.from_pretrained(folder, device="cpu", **options)


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def test_answers_and_rankings_are_those_from_before_saving(
    saved: Path, recommender: Recommender
) -> None:
    loaded = load(saved)
    options = {"seed": 5, "max_new_tokens": 12}
    assert_same(loaded.chat(REQUEST, **options), recommender.chat(REQUEST, **options))
    for strategy in ("exact", "beam"):
        found, expected = (
            one.rank(REQUEST, 60, strategy=strategy) for one in (loaded, recommender)
        )
        assert [s.track for s in found] == [s.track for s in expected]
        assert [s.score for s in found] == pytest.approx([s.score for s in expected], abs=1e-5)
    assert loaded.examples == recommender.examples != []


def test_saving_what_was_loaded_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    load(saved).save_pretrained(tmp_path / "model")
    again = files.read_manifest(tmp_path / "model", "model")
    assert again == files.read_manifest(saved, "model")
    assert set(again["files"]) >= {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        *("model.safetensors.index.json", "chat_template.jinja", *verify.REQUIRED["model"]),
    }
    assert files.CARD not in again["files"]
    assert (tmp_path / "model" / files.CARD).read_text(encoding="utf-8") == (
        (saved / files.CARD).read_text(encoding="utf-8")
    )


def test_everybody_may_read_what_was_saved(saved: Path) -> None:
    assert {oct(path.stat().st_mode & 0o777) for path in saved.iterdir()} == {"0o644"}


def test_the_folder_loads_as_a_plain_model(saved: Path, recommender: Recommender) -> None:
    model, tokenizer = (
        auto.from_pretrained(saved) for auto in (AutoModelForCausalLM, AutoTokenizer)
    )
    assert type(model) is LlamaForCausalLM
    assert type(tokenizer).__module__.startswith("transformers")
    ids = recommender.prompt_ids(REQUEST)
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits
        expected = recommender.model(torch.tensor([ids])).logits
    torch.testing.assert_close(found, expected)


def test_a_folder_can_be_saved_into_itself(saved: Path, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path)
    files.write_json(folder / files.TRAINING_REPORT, {"steps": 3})
    files.write_json(folder / files.BUILD, {"plan": "x"})
    (folder / "training_curves.png").write_bytes(b"picture")
    files.refresh_manifest(folder)
    before = files.read_manifest(folder, "model")
    loaded = load(folder)
    loaded.save_pretrained(folder)
    assert files.read_manifest(folder, "model") == before
    assert files.read_json(folder / files.TRAINING_REPORT) == {"steps": 3}
    assert files.read_json(folder / files.BUILD) == {"plan": "x"}
    assert (folder / "training_curves.png").read_bytes() == b"picture"
    assert load(folder).rank(REQUEST, 3) == loaded.rank(REQUEST, 3)
    loaded.save_pretrained(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / files.TRAINING_REPORT).exists()
    assert not (tmp_path / "elsewhere" / files.BUILD).exists()


def test_an_earlier_model_is_replaced_whole(
    saved: Path, tmp_path: Path, recommender: Recommender
) -> None:
    folder = copied(saved, tmp_path)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"of an earlier model")
    recommender.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in saved.iterdir()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_card_that_a_person_edited_stays(
    saved: Path, tmp_path: Path, recommender: Recommender
) -> None:
    folder = copied(saved, tmp_path)
    (folder / files.CARD).write_text("# Mine\n", encoding="utf-8")
    recommender.save_pretrained(folder)
    assert (folder / files.CARD).read_text(encoding="utf-8") == "# Mine\n"


@pytest.mark.parametrize("what", ["tokenizer", "photos", "file"])
def test_nothing_but_a_model_folder_is_replaced(
    what: str, tokenizer_folder: Path, tmp_path: Path, recommender: Recommender
) -> None:
    out = tmp_path / what
    if what == "tokenizer":
        shutil.copytree(tokenizer_folder, out)
    elif what == "photos":
        out.mkdir()
        (out / "cat.jpg").write_bytes(b"cat")
    else:
        out.write_bytes(b"cat")
    with pytest.raises(ArtifactError, match=what):
        recommender.save_pretrained(out)
    assert [path.name for path in tmp_path.iterdir()] == [what]


def test_a_save_that_fails_leaves_the_earlier_model(
    saved: Path, tmp_path: Path, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(saved, tmp_path)

    def failing(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfile", failing)
    with pytest.raises(OSError, match="disk full"):
        recommender.save_pretrained(folder)
    verify.verify_folder(folder, kind="model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_in_8_bit_integers_is_not_saved(saved: Path, tmp_path: Path) -> None:
    small = load(saved, int8=True)
    with pytest.raises(InputError, match="8-bit integers cannot be saved"):
        small.save_pretrained(tmp_path / "out")
    with pytest.raises(InputError, match="8-bit integers cannot be saved"):
        small.push_to_hub("me/small")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_put_together_by_hand_names_its_codebooks(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, tmp_path: Path
) -> None:
    model = copy.deepcopy(tiny_model)
    del model.config.talkplay_codebook_hash
    Recommender(model, tokenizer).save_pretrained(tmp_path / "model")
    config = files.read_json(tmp_path / "model" / "config.json")
    assert config["talkplay_codebook_hash"] == tokenizer.config.codebook_hash


# --- plain transformers over a folder of ours ------------------------------------------------


def test_weights_saved_by_plain_transformers_are_told_from_the_manifest(
    saved: Path, tmp_path: Path
) -> None:
    folder = copied(saved, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.get_input_embeddings().weight.data *= 1.5
    model.save_pretrained(folder)
    with pytest.raises(ArtifactError) as raised:
        load(folder)
    assert "model.safetensors" in str(raised.value)
    assert "save_pretrained(out)" in str(raised.value)
    tuned = load(folder, verify=False)
    tuned.save_pretrained(folder)
    assert load(folder).rank(REQUEST, 3) == tuned.rank(REQUEST, 3)


def test_a_tokenizer_saved_over_a_model_keeps_the_manifest_right(
    saved: Path, tmp_path: Path
) -> None:
    folder = copied(saved, tmp_path)
    (folder / files.CATALOG_INDEX).unlink()
    tokenizer = TalkPlayTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template + "{# note #}"
    tokenizer.save_pretrained(folder)
    manifest = files.read_manifest(folder, "model")
    assert files.CATALOG_INDEX not in manifest["files"]
    assert "model.safetensors" in manifest["files"]
    assert load(folder).tokenizer.chat_template.endswith("{# note #}")


@pytest.mark.parametrize("model_first", [True, False])
def test_parts_that_were_saved_one_by_one_load(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path: Path,
    model_first: bool,
    recommender: Recommender,
) -> None:
    parts = [tiny_model, tokenizer] if model_first else [tokenizer, tiny_model]
    for part in parts:
        part.save_pretrained(tmp_path / "model")
    assert load(tmp_path / "model").rank(REQUEST, 3) == recommender.rank(REQUEST, 3)


# --- options ---------------------------------------------------------------------------------


def test_options_of_the_weights_do_not_reach_the_tokenizer(saved: Path) -> None:
    loaded = load(saved, dtype=torch.bfloat16, attn_implementation="eager")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.config._attn_implementation == "eager"
    assert not {"dtype", "attn_implementation"} & loaded.tokenizer.init_kwargs.keys()
    placed = Recommender.from_pretrained(saved, device_map="cpu")
    assert placed.model.device.type == "cpu"


@pytest.mark.parametrize(
    "options",
    [{"trust_remote_code": True}, {"use_safetensors": False}, {"subfolder": "inner"}],
)
def test_options_that_would_run_code_or_read_elsewhere_are_refused(
    saved: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        load(saved, **options)
    load(saved, trust_remote_code=False)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", -7])
def test_a_device_that_cannot_be_used_is_refused_before_anything_is_read(
    tmp_path: Path, device: Any
) -> None:
    with pytest.raises(InputError, match=f"device {device!r}: cannot be used"):
        Recommender.from_pretrained(tmp_path / "nothing", device=device)


def test_int8_takes_a_device_object(saved: Path) -> None:
    device: Any = torch.device("cpu")
    assert Recommender.from_pretrained(saved, device=device, int8=True).track_ids


def test_a_folder_of_another_kind_is_told_by_its_kind(
    saved: Path, tokenizer_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"is a tokenizer, not a model.*catalog="):
        load(tokenizer_folder)
    with pytest.raises(ArtifactError, match="is a catalog, not a model"):
        load(world_folder)
    # before the model is looked at, whose weights take long to fetch
    with pytest.raises(ArtifactError, match=r"is a catalog folder.*--codebooks MODEL"):
        load(tmp_path / "nothing", catalog=world_folder)


def test_a_catalogue_of_the_same_codebooks_is_loaded_under_a_model(
    saved: Path, tokenizer_folder: Path, tmp_path: Path, recommender: Recommender
) -> None:
    folder = copied(saved, tmp_path)
    for name in (files.TOKEN_CATALOG, files.CATALOG_INDEX, files.EXAMPLES):
        (folder / name).unlink()
    with pytest.raises(ArtifactError, match=r"has no catalog\.parquet"):
        load(folder)
    swapped = load(folder, catalog=tokenizer_folder)
    assert swapped.rank(REQUEST, 3) == recommender.rank(REQUEST, 3)
    swapped.save_pretrained(tmp_path / "whole")
    assert load(tmp_path / "whole").examples == recommender.examples


def test_one_model_in_memory_serves_several_catalogues(
    saved: Path, world_folder: Path, tmp_path: Path
) -> None:
    recommender = load(saved)
    recommender.prepare()
    remove_tracks(saved, recommender.track_ids[:5], tmp_path / "smaller")
    other = recommender.with_catalog(tmp_path / "smaller")
    assert other.model is recommender.model
    loaded = load(saved, catalog=tmp_path / "smaller")
    assert other.rank(REQUEST, 3) == loaded.rank(REQUEST, 3)
    assert len(other.track_ids) == len(recommender.track_ids) - 5
    assert recommender.rank(REQUEST, 3) == load(saved).rank(REQUEST, 3)
    with pytest.raises(ArtifactError, match=r"is a catalog folder.*--codebooks MODEL"):
        recommender.with_catalog(world_folder)


def test_results_on_one_catalogue_are_not_claimed_for_another(saved: Path, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path)
    figure = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 50}
    add_results(folder, {"ranking": {"talkplay": {"mrr": figure}}}, "my test")
    load(folder).save_pretrained(tmp_path / "same")
    assert "my test" in (tmp_path / "same" / files.CARD).read_text(encoding="utf-8")

    only = load(folder).track_ids[0]
    remove_tracks(folder, [only], tmp_path / "smaller")
    swapped = load(folder, catalog=tmp_path / "smaller")
    swapped.save_pretrained(tmp_path / "swapped")
    assert "my test" not in (tmp_path / "swapped" / files.CARD).read_text(encoding="utf-8")
