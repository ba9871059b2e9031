"""The training entry: recipes, and runs of a few steps from end to end."""

import importlib.util
import json
import runpy
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_llama import random_llama
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.distributed.fsdp import StateDictType
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig
from two_processes import run_in_two_processes

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.errors import ArtifactError, ConfigError, InputError, LeakageError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.training.arguments import parse_recipe
from talkplay_hf.training.sft import _check_spread, load_tokenizer, main, without_tied

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "sft.yaml"
FOLDERS = (
    *("--tokenizer", "t"),
    *("--conversations", "c"),
    *("--catalog", "k"),
    *("--output_dir", "o"),
)


def test_the_quickstart_recipe_parses():
    ours, config, model = parse_recipe(["--config", str(RECIPE), *FOLDERS])
    assert (ours.tokenizer, ours.conversations, ours.catalog) == ("t", "c", "k")
    assert config.output_dir == "o"
    assert model.model_name_or_path == "scratch"
    assert ours.self_similarity_weight > 0
    assert config.max_steps > 0
    assert config.seed == 0


def test_the_command_line_wins_over_the_recipe():
    ours, config, _ = parse_recipe(
        ["--config", str(RECIPE), *FOLDERS, "--max_steps", "3", "--self_similarity_weight", "0.5"]
    )
    assert config.max_steps == 3
    assert ours.self_similarity_weight == 0.5


NO_BF16 = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bf16")


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("bf16: false\nno_such_key: 3\n", "no_such_key"),
        ("playlist_share: 1.0\n", "playlist_share"),
        ("self_similarity_weight: -1\n", "self_similarity_weight"),
        ("self_similarity_weight: .nan\n", "self_similarity_weight nan"),
        ("cov_scale: .inf\n", "cov_scale inf"),
        ("max_steps: [unclosed\n", "recipe"),
        ("just words\n", "recipe"),
        ("- a\n- b\n", "recipe"),
        (
            "bf16: false\nself_similarity_wieght: 1\n",
            r"wieght \(did you mean self_similarity_weight\?\)",
        ),
        ("init: xavier\n", "init 'xavier': must be one of mean_covariance, "),
        ("paper_loss: true\n", "paper_loss: needs playlist_share: 0.5"),
        ("threads: 0\n", "threads 0"),
        ("scratch_layers: 0\n", "scratch_layers 0"),
        ("scratch_heads: 0\n", "scratch_heads 0"),
        ("scratch_heads: 3\n", "multiple of twice scratch_heads"),
        ("bf16: false\nseed: -1\n", "seed -1"),
        ("learning_rate: fast\n", "^recipe: argument --learning_rate"),
        ("deepspeed: no-such-file.json\n", "recipe: "),
        ("bf16: false\neos_token: </s>\n", "eos_token: is not supported"),
        ("bf16: false\nchat_template_path: some/model\n", "chat_template_path: is not supported"),
        ("bf16: false\nuse_liger_kernel: true\n", "use_liger_kernel: is not supported"),
        ("use_cpu: true\nbf16: false\nfp16: true\n", "fp16: needs a GPU"),
        pytest.param("bf16: true\n", "set bf16: false, or use_cpu: true", marks=NO_BF16),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(text: str, word: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=word):
        parse_recipe(["--config", recipe(tmp_path, text), *FOLDERS])


def test_several_gpus_in_one_process_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SFTConfig, "n_gpu", property(lambda self: 2))
    with pytest.raises(ConfigError, match=r"2 GPUs and one process: .*accelerate launch"):
        parse_recipe(["--config", str(RECIPE), *FOLDERS])


def test_bad_input_is_one_line_under_accelerate_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["--config", str(RECIPE), *FOLDERS]
    monkeypatch.setattr(sys, "argv", ["talkplay_hf.training", *words])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("talkplay_hf.training", run_name="__main__")
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "t: holds no talkplay_config.json" in lines[0]


def test_an_unknown_override_is_refused():
    with pytest.raises(ConfigError, match="no_such_flag"):
        parse_recipe(["--config", str(RECIPE), *FOLDERS, "--no_such_flag", "3"])


def test_a_missing_recipe_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        parse_recipe(["--config", str(tmp_path / "gone.yaml"), *FOLDERS])


def run(
    out: Path, world: Path, tokenizer: Path, conversations: Path, *overrides: str, steps: int = 2
) -> Path:
    return main(
        [
            *("--config", str(RECIPE)),
            *("--tokenizer", str(tokenizer)),
            *("--conversations", str(conversations)),
            *("--catalog", str(world)),
            *("--output_dir", str(out)),
            *("--scratch_hidden_size", "32"),
            *("--scratch_layers", "1"),
            *("--scratch_heads", "2"),
            *("--max_steps", str(steps)),
            *("--threads", "1"),
            *("--logging_steps", "1"),
            *("--per_device_train_batch_size", "2"),
            "--disable_tqdm",
            "true",
            *overrides,
        ]
    )


@pytest.fixture(scope="module")
def folders(
    world_folder: Path, tokenizer_folder: Path, conversations_folder: Path
) -> tuple[Path, Path, Path]:
    """What `run` reads."""
    return world_folder, tokenizer_folder, conversations_folder


@pytest.fixture(scope="module")
def trained(folders: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    assert run(out, *folders) == out
    return out


def test_a_run_writes_a_model_that_recommends(trained: Path, world: Catalog):
    recommender = Recommender.from_pretrained(trained, device="cpu")
    answer = recommender.chat("play some jazz", seed=0)
    assert answer.tracks[0].track_id in world


def test_a_trained_model_has_its_card(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    steps = json.loads((trained / "training_report.json").read_text(encoding="utf-8"))["steps"]
    assert f"# {trained.name}" in card
    assert f"| steps | {steps:,} |" in card


def test_a_trained_model_has_a_manifest(trained: Path) -> None:
    verify_folder(trained, kind="model")
    named = files.read_manifest(trained, "model")["files"]
    assert {"model.safetensors", files.TRAINING_REPORT, files.CODEBOOKS} <= named.keys()
    assert {oct(path.stat().st_mode & 0o777) for path in trained.iterdir()} == {"0o644"}


def test_a_run_reports_what_it_did(trained: Path, tokenizer_folder: Path):
    report = json.loads((trained / "training_report.json").read_text(encoding="utf-8"))
    steps = [entry for entry in report["log"] if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2]
    assert all(entry["loss"] > 0 and entry["self_similarity"] > 0 for entry in steps)
    assert report["steps"] == 2
    assert report["base_model"] == "scratch"
    assert str(tokenizer_folder) not in json.dumps(report)
    facts = report["data"]["train"]
    assert facts["rows"] > 0
    assert facts["playlists"]["rows"] > 0


def test_the_model_is_tied_to_its_codebooks(trained: Path, tokenizer_folder: Path):
    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    ours = json.loads((tokenizer_folder / "talkplay_config.json").read_text(encoding="utf-8"))
    assert config["talkplay_codebook_hash"] == ours["codebook_hash"]
    assert config["vocab_size"] == len(AutoTokenizer.from_pretrained(trained))


def test_the_same_seed_gives_the_same_weights(
    trained: Path, folders: tuple[Path, Path, Path], tmp_path: Path
):
    again = load_file(run(tmp_path / "again", *folders) / "model.safetensors")
    other = load_file(run(tmp_path / "other", *folders, "--seed", "1") / "model.safetensors")
    first = load_file(trained / "model.safetensors")
    # usually equal to the bit; float sums may come out in another order
    assert max(float((first[name] - again[name]).abs().max()) for name in first) < 1e-6
    name = "model.embed_tokens.weight"
    assert float((first[name] - other[name]).abs().max()) > 1e-3


def test_validation_conversations_are_evaluated(
    world_folder: Path, tokenizer_folder: Path, talks: Path, tmp_path: Path
):
    out = run(tmp_path / "m", world_folder, tokenizer_folder, talks, steps=1)
    report = json.loads((out / "training_report.json").read_text(encoding="utf-8"))
    assert report["data"]["validation"]["conversations"]["rows"] == 4
    assert report["evaluation"]["eval_conversations_loss"] > 0


def test_a_conversation_of_a_held_out_playlist_is_not_trained_on(
    conversations: list[Conversation],
    world: Catalog,
    world_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
):
    leaked = [replace(one, split="train") for one in conversations if one.split == "test"]
    save_conversations(tmp_path / "talks", leaked, {"catalog": world.fingerprint})
    with pytest.raises(LeakageError, match="is from the test playlist"):
        run(tmp_path / "m", world_folder, tokenizer_folder, tmp_path / "talks", steps=1)


def chatml_base(folder: Path) -> Path:
    """A tiny random Llama with a ChatML tokenizer, as a base model folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["play some music please"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
    )
    fast.save_pretrained(folder)
    # padded, as many bases are
    random_llama(len(fast) + 5).save_pretrained(folder)
    return folder


def test_a_chatml_base_model_trains(
    world: Catalog,
    world_folder: Path,
    features_folder: Path,
    conversations_folder: Path,
    tmp_path: Path,
):
    base = chatml_base(tmp_path / "base")
    make_tokenizer(world, features_folder, tmp_path / "tokenizer", base=str(base))
    out = run(
        tmp_path / "model",
        world_folder,
        tmp_path / "tokenizer",
        conversations_folder,
        *("--model_name_or_path", str(base)),
        *("--max_length", "2048"),
        steps=1,
    )
    recommender = Recommender.from_pretrained(out, device="cpu")
    assert recommender.tokenizer.eos_token == "<|im_end|>"
    assert recommender.chat("play jazz", seed=1).tracks[0].track_id in world
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == len(recommender.tokenizer)
    assert not config["tie_word_embeddings"]


@pytest.mark.parametrize(
    ("override", "error", "word"),
    [
        (("--model_name_or_path", "no/such-model"), ArtifactError, "no/such-model"),
        (
            ("--model_name_or_path", "./nowhere"),
            ArtifactError,
            "'./nowhere' cannot be loaded: no such folder",
        ),
        (("--dtype", "bfloat16"), ConfigError, "dtype bfloat16: is not known to"),
        (("--attn_implementation", "eager"), ConfigError, "attn_implementation eager"),
        (("--report_to", "mlflow"), ConfigError, "report_to 'mlflow'"),
        (("--tokenizer", "no-such-folder"), ArtifactError, "no-such-folder"),
        (("--catalog", "no-such-folder"), ArtifactError, "no-such-folder"),
        (("--conversations", "no-such-folder"), ArtifactError, "no-such-folder"),
    ],
)
def test_missing_inputs_are_refused_before_training(
    override: tuple[str, str],
    error: type[Exception],
    word: str,
    folders: tuple[Path, Path, Path],
    tmp_path: Path,
):
    with pytest.raises(error, match=word):
        run(tmp_path / "model", *folders, *override)
    assert not any(tmp_path.iterdir())


def test_a_recipe_must_say_where_the_model_comes_from_and_where_it_goes(
    tokenizer_folder: Path, tmp_path: Path
):
    text = f"tokenizer: {tokenizer_folder}\nconversations: c\ncatalog: k\nbf16: false\n"
    words = ["--config", recipe(tmp_path, text)]
    with pytest.raises(ConfigError, match="output_dir is missing"):
        main(words)
    with pytest.raises(ConfigError, match="model_name_or_path is missing"):
        main([*words, "--output_dir", str(tmp_path / "m")])
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("tokenizer_config.json", "{", "the tokenizer cannot be loaded: Expecting property name"),
        ("tokenizer.json", "{}", "the tokenizer cannot be loaded: "),
        ("chat_template.jinja", "{% for", "the chat template cannot be used: unexpected"),
        ("chat_template.jinja", "hello", "the chat template cannot be used: it writes no music"),
    ],
)
def test_a_damaged_tokenizer_is_named_before_training(
    name: str, text: str, word: str, tokenizer_folder: Path, tmp_path: Path
):
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder, folder)
    (folder / files.MANIFEST).unlink()
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"{folder}: {word}"):
        load_tokenizer(str(folder))


def test_conversations_with_nothing_to_learn_are_refused_and_leave_nothing(
    conversations: list[Conversation],
    world: Catalog,
    world_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
):
    silent = [
        replace(one, messages=[message for message in one.messages if message.role == "user"])
        for one in conversations
        if one.split == "train"
    ]
    save_conversations(tmp_path / "talks", silent, {"catalog": world.fingerprint})
    with pytest.raises(InputError, match="nothing in it counts for the loss"):
        run(tmp_path / "m", world_folder, tokenizer_folder, tmp_path / "talks")
    assert [path.name for path in tmp_path.iterdir()] == ["talks"]


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed"
)
def test_an_optimizer_that_is_not_installed_is_refused(
    folders: tuple[Path, Path, Path], tmp_path: Path
):
    with pytest.raises(ConfigError, match=r"optim: .*bitsandbytes"):
        run(tmp_path / "m", *folders, "--optim", "adamw_bnb_8bit")
    assert not (tmp_path / "m").exists()


def test_training_goes_on_from_a_finished_model(
    trained: Path,
    world_folder: Path,
    conversations_folder: Path,
    tmp_path: Path,
):
    out = run(
        tmp_path / "more",
        world_folder,
        trained,  # the model folder has all that a tokenizer folder has
        conversations_folder,
        *("--model_name_or_path", str(trained), "--learning_rate", "0"),
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (trained, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("tied", [True, False])
def test_gathered_weights_are_saved_once(tied: bool, tmp_path: Path):
    model = random_llama(40, tie_word_embeddings=tied)
    gathered = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=without_tied(model, gathered))
    saved = load_file(tmp_path / "model.safetensors")
    assert gathered.keys() - saved.keys() == ({"lm_head.weight"} if tied else set())
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert all(torch.equal(loaded.state_dict()[name], gathered[name]) for name in gathered)


def spread_trainer(model: Any, *, kind: str | None, best: bool) -> Any:
    """What is asked of a trainer; real weights are spread only over several processes."""
    plugin = kind and SimpleNamespace(state_dict_type=StateDictType[kind])
    return SimpleNamespace(
        model=model,
        args=SimpleNamespace(load_best_model_at_end=best),
        is_fsdp_enabled=kind is not None,
        accelerator=SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)),
    )


@pytest.mark.parametrize(
    ("kind", "best", "adapters", "word"),
    [
        ("SHARDED_STATE_DICT", True, False, "fsdp_state_dict_type: FULL_STATE_DICT, or leave"),
        ("FULL_STATE_DICT", False, True, "use_peft: adapters cannot be merged"),
        ("SHARDED_STATE_DICT", False, False, None),
        ("FULL_STATE_DICT", True, False, None),
        (None, True, True, None),
    ],
)
def test_what_spread_weights_cannot_do_is_refused(
    kind: str | None, best: bool, adapters: bool, word: str | None
):
    model = SimpleNamespace(peft_config={}) if adapters else SimpleNamespace()
    trainer = spread_trainer(model, kind=kind, best=best)
    with pytest.raises(ConfigError, match=word) if word else nullcontext():
        _check_spread(trainer)


@pytest.mark.slow
def test_two_processes_train_resume_and_write_one_model(
    world_folder: Path, tokenizer_folder: Path, conversations_folder: Path, tmp_path: Path
):
    def train(out: Path, *more: str) -> list[str]:
        words = {
            "config": RECIPE,
            "tokenizer": tokenizer_folder,
            "conversations": conversations_folder,
            "catalog": world_folder,
            "output_dir": out,
            "scratch_hidden_size": 32,
            "scratch_layers": 1,
            "scratch_heads": 2,
            "threads": 1,
            "use_cpu": "true",
            "max_steps": 4,
            "warmup_steps": 0,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "disable_tqdm": "true",
        }
        named = (word for key, value in words.items() for word in (f"--{key}", str(value)))
        done = run_in_two_processes("-m", "talkplay_hf.training", *named, *more)
        assert "find_unused_parameters" not in done.stderr
        return done.stdout.splitlines()

    out, kept = tmp_path / "m", tmp_path / "kept"
    said = train(out)
    # one of the two speaks
    assert sum(line.startswith("trained 4 steps") for line in said) == 1
    assert not (tmp_path / "m-checkpoints" / "rows").exists()
    report = json.loads((out / "training_report.json").read_text(encoding="utf-8"))
    losses = [entry["loss"] for entry in report["log"] if "loss" in entry]
    assert report["world_size"] == 2
    assert len(losses) == 4
    assert losses[-1] < losses[0]

    out.rename(kept)
    shutil.rmtree(tmp_path / "m-checkpoints" / "checkpoint-4")
    said = train(out, "--resume_from_checkpoint", "true")
    assert sum(line.startswith("trained 2 steps") for line in said) == 1
    first, second = (load_file(folder / "model.safetensors") for folder in (kept, out))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((out / "training_report.json").read_text(encoding="utf-8")) == report
