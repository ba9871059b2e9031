"""Packing: the same loss for every row, documents that do not see each other, and refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from random_llama import random_llama
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.rows.encode import IGNORED
from talkplay_hf.training.rows.packing import check_packing, documents_leak
from talkplay_hf.training.rows.sets import load_datasets

MAX_LENGTH = 900
Load = Callable[[bool], dict[str, Dataset]]


def settings(out: Path, **options: object) -> SFTConfig:
    return SFTConfig(
        **{
            "output_dir": str(out),
            "use_cpu": True,
            "bf16": False,
            "activation_checkpointing": False,
            "max_length": MAX_LENGTH,
            "report_to": "none",
            "dataset_kwargs": {"skip_prepare_dataset": True},
            **options,
        }
    )


def llama(vocabulary: int, attention: str) -> LlamaForCausalLM:
    """A Llama of random weights, large enough to tell its neighbours apart."""
    options = {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
    return random_llama(vocabulary, **options, attn_implementation=attention).eval()


@pytest.fixture(scope="module")
def load(
    world_folder: Path,
    tokenizer_folder: Path,
    conversations_folder: Path,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Load:
    out = tmp_path_factory.mktemp("rows")
    arguments = TalkPlayArguments(
        tokenizer=str(tokenizer_folder),
        conversations=str(conversations_folder),
        catalog=str(world_folder),
    )

    def load(packing: bool) -> dict[str, Dataset]:
        config = settings(out / str(packing), packing=packing)
        return load_datasets(arguments, config, tokenizer)[0]

    return load


def documents(dataset: Dataset) -> list[tuple[tuple[int, ...], ...]]:
    """The documents of packed or plain rows: their ids, labels and parts."""
    found = []
    for row in dataset:
        start = 0
        for length in row.get("seq_lengths", [len(row["input_ids"])]):
            columns = (
                row[name][start : start + length] for name in ("input_ids", "labels", "part")
            )
            found.append(tuple(map(tuple, columns)))
            start += length
        assert start == len(row["input_ids"]) == len(row["labels"]) == len(row["part"])
    return found


def test_packing_keeps_every_row_whole_with_its_labels_and_part(load: Load):
    plain, packed = load(False), load(True)
    assert set(packed) == set(plain)
    for name, dataset in packed.items():
        assert sorted(documents(dataset)) == sorted(documents(plain[name]))
        assert max(map(len, dataset["input_ids"])) <= MAX_LENGTH
    assert len(packed["train"]) < 0.7 * len(plain["train"])
    mixed = [len({*row}) == 2 for row in packed["train"]["part"]]
    assert any(mixed)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_and_unpacked_rows_have_the_same_loss(
    attention: str, load: Load, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    model = llama(len(tokenizer), attention)
    plain, packed = load(False)["train"], load(True)["train"].select(range(4))
    some = {ids for ids, _, _ in documents(packed)}
    plain = plain.select([at for at, ids in enumerate(plain["input_ids"]) if tuple(ids) in some])
    losses: dict[bool, dict[tuple[int, ...], float]] = {}
    for packing, dataset in ((False, plain), (True, packed)):
        trainer = SFTTrainer(
            model=model,
            args=settings(tmp_path, packing=packing),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        model.eval()
        losses[packing] = {}
        for start in range(0, len(dataset), 2):
            rows = dataset.select(range(start, min(start + 2, len(dataset))))
            batch = trainer.data_collator(list(rows))
            at = 0
            for ids, labels, _ in documents(rows):
                # the labels of one document alone give the loss of that document
                one = dict(batch, labels=torch.full_like(batch["labels"], IGNORED))
                number, place = (0, at) if packing else (at, 0)
                one["labels"][number, place : place + len(labels)] = torch.tensor(labels)
                with torch.no_grad():
                    losses[packing][ids] = float(trainer.compute_loss(model, one))
                at += len(ids) if packing else 1
    assert len(losses[True]) > len(packed)
    for ids, loss in losses[True].items():
        assert loss == pytest.approx(losses[False][ids], abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_document_does_not_see_the_one_before_it(
    attention: str, load: Load, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    model = llama(len(tokenizer), attention)
    packed = load(True)["train"]
    trainer = SFTTrainer(
        model=model,
        args=settings(tmp_path, packing=True),
        train_dataset=packed,
        processing_class=tokenizer,
    )
    model.eval()
    row = next(row for row in packed if len(row["seq_lengths"]) > 1)
    first = row["seq_lengths"][0]
    other = dict(row, input_ids=[7] * first + row["input_ids"][first:])
    batches = [trainer.data_collator([one]) for one in (row, other)]
    assert all("attention_mask" not in batch for batch in batches)

    def logits(batch: dict[str, torch.Tensor], cache: bool) -> torch.Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
        with torch.no_grad():
            found: torch.Tensor = model(**inputs, use_cache=cache).logits[0, first:]
        return found

    same, changed = (logits(batch, cache=False) for batch in batches)
    assert torch.allclose(same, changed, atol=1e-5)
    # the trainer turns the cache off, without which documents would leak
    leaking, changed = (logits(batch, cache=True) for batch in batches)
    assert not torch.allclose(leaking, changed, atol=1e-2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_that_keeps_documents_apart_may_pack(attention: str, tmp_path: Path):
    model = llama(50, attention)
    model.train()
    check_packing(settings(tmp_path, packing=True), model)
    assert model.training


class Leaky(GPT2LMHeadModel):
    """A model whose attention does not know of documents: a cache comes in every time."""

    def forward(self, *args: object, use_cache: bool | None = None, **kwargs: object) -> object:
        return super().forward(*args, use_cache=True, **kwargs)


def leaky() -> Leaky:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=64, initializer_range=0.3
    )
    return Leaky(config)


def test_attention_that_leaks_is_refused_by_name(tmp_path: Path):
    assert documents_leak(leaky())
    with pytest.raises(ConfigError, match=r"'sdpa'.*Leaky see each other"):
        check_packing(settings(tmp_path, packing=True), leaky())
    check_packing(settings(tmp_path, packing=False), leaky())


def test_packing_that_cannot_be_tried_is_refused(tmp_path: Path):
    # weights that are elsewhere look like this here
    with pytest.raises(ConfigError, match=r"'sdpa' cannot be tried .*; use flash_attention_2"):
        check_packing(settings(tmp_path, packing=True), llama(50, "sdpa").to("meta"))


def test_packing_that_cuts_or_is_half_on_is_refused(tmp_path: Path):
    model = llama(50, "sdpa")
    with pytest.raises(ConfigError, match=r"'wrapped'.*'bfd'"):
        check_packing(settings(tmp_path, packing=True, packing_strategy="wrapped"), model)
    with pytest.raises(ConfigError, match="eval_packing"):
        check_packing(settings(tmp_path, packing=False, eval_packing=True), model)


def test_evaluation_may_stay_unpacked(
    world_folder: Path,
    tokenizer_folder: Path,
    conversations_folder: Path,
    tokenizer: TalkPlayTokenizer,
    tmp_path: Path,
):
    arguments = TalkPlayArguments(
        tokenizer=str(tokenizer_folder),
        conversations=str(conversations_folder),
        catalog=str(world_folder),
    )
    config = settings(tmp_path / "model", packing=True, eval_packing=False)
    sets, facts = load_datasets(arguments, config, tokenizer)
    assert "seq_lengths" in sets["train"].column_names
    assert "seq_lengths" not in sets["conversations"].column_names
    assert facts["packed_rows"] == {"train": len(sets["train"])}
