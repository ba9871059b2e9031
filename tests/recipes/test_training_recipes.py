"""The training recipes: each parses as it stands, and runs a few steps scaled down."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.errors import ConfigError
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.training.arguments import parse_recipe
from talkplay_hf.training.sft import main

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
# what is no recipe of training
OTHERS = {"accelerate", "conversations", "encoders", "mpd"}
FOLDERS = [folder for folder in sorted(RECIPES.iterdir()) if (folder / "expected.json").exists()]
FILES = sorted(
    path for folder in FOLDERS for path in folder.glob("*.yaml") if "simulator" not in path.name
)
SCRATCH = [path for path in FILES if "model_name_or_path: scratch" in path.read_text("utf-8")]
PAPER = "llama-3.2-1b"
WHERE = ("--tokenizer", "t", "--conversations", "c", "--catalog", "k", "--output_dir", "o")
# without it bf16 is refused where there is no GPU
NO_GPU = ("--use_cpu", "true")
# a machine without a GPU is only there to see that they run
SMALL = {
    "max_steps": "2",
    "eval_steps": "2",
    "save_steps": "2",
    "logging_steps": "1",
    "warmup_steps": "1",
    "per_device_train_batch_size": "2",
    "gradient_accumulation_steps": "1",
    "bf16": "false",
    "use_cpu": "true",
    "dataloader_pin_memory": "false",
    "report_to": "none",
    "disable_tqdm": "true",
    "threads": "1",
}
SMALL_SCRATCH = {"scratch_hidden_size": "32", "scratch_layers": "1", "scratch_heads": "2"}
# special tokens of the tokenizers that the bases have: text, begin, end of turn, padding
LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def name(path: Path) -> str:
    return str(path.relative_to(RECIPES))


def values(path: Path) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def test_no_recipe_is_forgotten():
    found = {path.parent for path in RECIPES.rglob("*.yaml") if path.parent.name not in OTHERS}
    assert found == set(FOLDERS)
    assert {folder.name for folder in FOLDERS} == {
        *(
            "quickstart",
            "introductions",
            "smollm2-135m",
            "llama-3.2-1b",
            "llama-3.2-1b-lora",
            "self-similarity",
        ),
    }


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_recipe_parses_as_it_stands(path: Path):
    ours, config, model = parse_recipe(["--config", str(path), *WHERE, *NO_GPU])
    for key, value in values(path).items():
        holder = next(part for part in (ours, config, model) if hasattr(part, key))
        found = getattr(holder, key)
        found = getattr(found, "value", found)
        assert found == ([] if value == "none" else value), key
    assert config.max_steps > 0
    assert config.seed == 0


@pytest.mark.parametrize("path", FILES, ids=name)
def test_an_unknown_key_fails(path: Path, tmp_path: Path):
    more = tmp_path / "sft.yaml"
    more.write_text(path.read_text(encoding="utf-8") + "\nno_such_key: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no_such_key"):
        parse_recipe(["--config", str(more), *WHERE, *NO_GPU])


def test_the_pair_differs_in_one_key():
    first, second = (values(RECIPES / "self-similarity" / f"{n}.yaml") for n in ("with", "without"))
    assert first.keys() == second.keys()
    assert {key for key in first if first[key] != second[key]} == {"self_similarity_weight"}
    assert first["self_similarity_weight"] == 0.1
    assert second["self_similarity_weight"] == 0.0


def test_the_settings_of_the_paper():
    ours, config, model = parse_recipe(
        ["--config", str(RECIPES / PAPER / "sft.yaml"), *WHERE, *NO_GPU]
    )
    assert model.model_name_or_path == "meta-llama/Llama-3.2-1B-Instruct"
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    assert (8 * rows, config.max_length) == (48, 1024)
    assert config.learning_rate == 1e-4
    assert str(getattr(config.optim, "value", config.optim)).startswith("adamw")
    assert config.max_steps == 2_300_000
    assert (ours.self_similarity_weight, ours.effective_weight) == (0.1, 0.05)
    assert (ours.paper_loss, ours.train_on_negatives, ours.playlist_share) == (True, True, 0.5)
    assert ours.init == "mean_covariance"
    assert not model.use_peft


def base_model(folder: Path, specials: tuple[str, ...], texts: list[str]) -> Path:
    """A tiny random Llama with a byte-level tokenizer of these special tokens and texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=specials[0],
        eos_token=specials[-1],
        extra_special_tokens=list(specials[1:-1]),
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def talks(
    world: Catalog, conversations: list[Conversation], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A few conversations, with a validation split."""
    split = [
        replace(one, split="validation" if number < 2 else "train")
        for number, one in enumerate([c for c in conversations if c.split == "train"][:8])
    ]
    folder = tmp_path_factory.mktemp("recipes") / "talks"
    save_conversations(folder, split, {"catalog": world.fingerprint})
    return folder


@pytest.fixture(scope="module")
def bases(
    world: Catalog,
    conversations: list[Conversation],
    features_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Path, Path]]:
    """A base model and its tokenizer folder by the name of what they stand for."""
    texts = [message.content for one in conversations for message in one.messages]
    made = {}
    for base, specials in (("meta-llama", LLAMA3), ("HuggingFaceTB", CHATML)):
        folder = tmp_path_factory.mktemp(base)
        where = base_model(folder / "base", specials, texts)
        make_tokenizer(world, features_folder, folder / "tokenizer", base=str(where))
        made[base] = (where, folder / "tokenizer")
    return made


@pytest.fixture
def run(
    bases: dict[str, tuple[Path, Path]],
    talks: Path,
    world_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
) -> Callable[..., Path]:
    """A recipe, scaled down; returns the model folder."""

    def call(path: Path, **more: str) -> Path:
        overrides, tokenizer = SMALL | more, tokenizer_folder
        if path in SCRATCH:
            overrides |= SMALL_SCRATCH
        else:
            base, tokenizer = bases[str(values(path)["model_name_or_path"]).partition("/")[0]]
            overrides["model_name_or_path"] = str(base)
        overrides |= {
            "tokenizer": str(tokenizer),
            "conversations": str(talks),
            "catalog": str(world_folder),
            "output_dir": str(tmp_path / "model"),
        }
        flags = [word for key, value in overrides.items() for word in (f"--{key}", value)]
        return main(["--config", str(path), *flags])

    return call


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_recipe_trains_a_model_that_recommends(
    path: Path, run: Callable[..., Path], world: Catalog
):
    out = run(path)
    report = json.loads((out / "training_report.json").read_text(encoding="utf-8"))
    assert report["steps"] == 2
    losses = [entry for entry in report["log"] if "loss" in entry]
    assert all(0 < entry["loss"] < 20 for entry in losses)
    assert "self_similarity" in losses[-1]
    model = AutoModelForCausalLM.from_pretrained(out)
    assert type(model) is LlamaForCausalLM
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(out))
    assert not list(out.glob("adapter*"))
    answer = Recommender.from_pretrained(out, device="cpu").chat("play some jazz", seed=0)
    assert answer.tracks[0].track_id in world


@pytest.mark.slow
def test_the_merged_model_is_that_of_the_best_checkpoint(run: Callable[..., Path]):
    path = RECIPES / "llama-3.2-1b-lora" / "sft.yaml"
    # so fast that it gets worse after the first evaluation
    out = run(
        path, max_steps="4", learning_rate="1.0", lr_scheduler_type="constant", warmup_steps="0"
    )
    report = json.loads((out / "training_report.json").read_text(encoding="utf-8"))
    assert report["best"]["step"] == 2
    assert report["evaluation"][report["best"]["metric"]] == report["best"]["value"]
    (best,) = out.parent.glob("model-checkpoints/checkpoint-2/adapter_model.safetensors")
    adapters, merged = load_file(best), load_file(out / "model.safetensors")
    (embedding,) = [weight for key, weight in adapters.items() if "embed_tokens" in key]
    assert torch.equal(merged["model.embed_tokens.weight"], embedding)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_recipe_has_expected_figures_or_says_why_not(folder: Path):
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    assert (expected["format_version"], expected["recipe"]) == (1, folder.name)
    assert expected["hardware"]
    assert expected["data"]
    assert set(expected["figures"]) <= {path.name for path in folder.glob("*.yaml")}
    if expected["measured"]:
        assert expected["seeds"]
        assert all(expected["figures"].values())
        for figure in chain.from_iterable(expected["figures"].values()):
            assert figure.keys() == {"name", "file", "key", "value", "tolerance"}
            assert figure["file"] in ("evaluation", "report")
            assert figure["tolerance"] > 0
    else:
        assert expected["reason"]
        assert not expected["figures"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_recipe_is_in_the_table_and_has_its_page(folder: Path):
    table = (RECIPES / "README.md").read_text(encoding="utf-8")
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    (row,) = [line for line in table.splitlines() if line.startswith(f"| [{folder.name}]")]
    assert ("not measured" in row) is not expected["measured"]
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert all(path.name in page for path in folder.glob("*.yaml"))


def launches() -> list[list[str]]:
    """The words after `talkplay train` or `-m talkplay_hf.training` in the pages of recipes."""
    found = []
    for page in [RECIPES / "README.md", *(folder / "README.md" for folder in FOLDERS)]:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                start = re.search(r"talkplay train |-m talkplay_hf\.training ", line)
                if start:
                    found.append(shlex.split(line[start.end() :], comments=True))
    return found


def test_every_launch_line_parses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    lines = launches()
    assert len(lines) >= len(FILES)
    for words in lines:
        ours, config, _ = parse_recipe([*words, *NO_GPU])
        assert ours.catalog
        assert config.output_dir


def test_every_file_that_the_pages_name_exists():
    for page in RECIPES.rglob("*.md"):
        named = re.findall(
            r"(?<!tests/)recipes/[\w./-]+\.(?:yaml|py|json)", page.read_text("utf-8")
        )
        assert not [path for path in named if not (ROOT / path).exists()], page
