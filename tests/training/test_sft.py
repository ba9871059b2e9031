"""The training entry: recipes, and runs of a few steps from end to end."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from talkplay_hf.build import make_tokenizer
from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.errors import ArtifactError, ConfigError, LeakageError
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.training.arguments import parse_recipe
from talkplay_hf.training.sft import main

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
        ("max_steps: [unclosed\n", "recipe"),
        ("just words\n", "recipe"),
        ("- a\n- b\n", "recipe"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(text: str, word: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=word):
        parse_recipe(["--config", recipe(tmp_path, text), *FOLDERS])


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
def trained(
    world_folder: Path,
    tokenizer_folder: Path,
    conversations_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    assert run(out, world_folder, tokenizer_folder, conversations_folder) == out
    return out


def test_a_run_writes_a_model_that_recommends(trained: Path, world: Catalog):
    recommender = Recommender.from_pretrained(trained, device="cpu")
    answer = recommender.chat("play some jazz", seed=0)
    assert answer.tracks[0].track_id in world


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
    trained: Path,
    world_folder: Path,
    tokenizer_folder: Path,
    conversations_folder: Path,
    tmp_path: Path,
):
    folders = (world_folder, tokenizer_folder, conversations_folder)
    again = load_file(run(tmp_path / "again", *folders) / "model.safetensors")
    other = load_file(run(tmp_path / "other", *folders, "--seed", "1") / "model.safetensors")
    first = load_file(trained / "model.safetensors")
    # usually equal to the bit; float sums may come out in another order
    assert max(float((first[name] - again[name]).abs().max()) for name in first) < 1e-6
    name = "model.embed_tokens.weight"
    assert float((first[name] - other[name]).abs().max()) > 1e-3


def test_validation_conversations_are_evaluated(
    conversations: list[Conversation],
    world: Catalog,
    world_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
):
    from dataclasses import replace

    split = [
        replace(one, split="validation" if number < 4 else "train")
        for number, one in enumerate([c for c in conversations if c.split == "train"][:16])
    ]
    save_conversations(tmp_path / "talks", split, {"catalog": world.fingerprint})
    out = run(tmp_path / "m", world_folder, tokenizer_folder, tmp_path / "talks", steps=1)
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
    from dataclasses import replace

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
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast) + 5,  # padded, as many bases are
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
    ).save_pretrained(folder)
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
        (("--tokenizer", "no-such-folder"), ArtifactError, "no-such-folder"),
        (("--catalog", "no-such-folder"), ArtifactError, "no-such-folder"),
        (("--conversations", "no-such-folder"), ArtifactError, "no-such-folder"),
    ],
)
def test_missing_inputs_are_refused_before_training(
    override: tuple[str, str],
    error: type[Exception],
    word: str,
    world_folder: Path,
    tokenizer_folder: Path,
    conversations_folder: Path,
    tmp_path: Path,
):
    folders = (world_folder, tokenizer_folder, conversations_folder)
    with pytest.raises(error, match=word):
        run(tmp_path / "model", *folders, *override)
    assert not any(tmp_path.iterdir())
