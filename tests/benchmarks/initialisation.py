"""How new embedding rows should start, and how much self-similarity: short runs of equal budget.

    python tests/benchmarks/initialisation.py base --conversations run/conversations --out run/base
    talkplay tokenize run/catalog run/features run/tokenizer --base run/base --codes 256
    python tests/benchmarks/initialisation.py run --base run/base --tokenizer run/tokenizer \
        --conversations run/conversations --catalog run/catalog --out run/ablation.jsonl
    python tests/benchmarks/initialisation.py show --out run/ablation.jsonl

`base` pretrains a small Llama on the text of the training conversations alone, so that there are
old rows with a mean and a covariance worth the name; any other base model can be given instead.
`run` trains from it once for each start, weight and seed, and appends a line of JSON each; lines
that are there already are not run again.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer
from turn_metrics import ModelRanker, turn_metrics

from talkplay_hf import Recommender
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import iter_conversations, load_conversations
from talkplay_hf.evaluation.metrics.intervals import ClusterBootstrap
from talkplay_hf.evaluation.turns import collect_turns
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.training.arguments import parse_recipe
from talkplay_hf.training.sft import train

RECIPE = Path(__file__).parents[2] / "recipes" / "self-similarity" / "with.yaml"
DEPTH = 100
STARTS = (
    ("mean_covariance", 1e-9),
    ("mean_covariance", 1e-5),
    ("mean_covariance", 1.0),
    ("mean", 1.0),
    ("normal", 1.0),
    ("centroids", 1.0),
)


def make_base(args: argparse.Namespace) -> None:
    """Pretrain a small Llama on text."""
    texts = [
        "<|im_start|>" + f"{'user' if m.role == 'user' else 'assistant'}\n{m.content}<|im_end|>"
        for one in iter_conversations(args.conversations, ["train"])
        for m in one.messages
        if m.content
    ]
    tokenizer = train_bpe(texts, vocab_size=args.vocabulary)
    rows: list[list[int]] = [[]]
    for text in texts:
        if len(rows[-1]) > args.length:
            rows.append([])
        rows[-1] += tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = [row[: args.length] for row in rows]
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=args.width,
            intermediate_size=max(1, int(8 * args.width / 3 / 32)) * 32,
            num_hidden_layers=args.layers,
            num_attention_heads=4,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    config = SFTConfig(
        output_dir=str(args.out) + "-trainer",
        max_steps=args.steps,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        logging_steps=100,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = Dataset.from_dict({"input_ids": rows, "labels": rows})
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    shutil.rmtree(config.output_dir, ignore_errors=True)


def rank(model: Path, args: argparse.Namespace, catalog: Catalog) -> dict[str, list[float]]:
    """Ranking figures on held-out turns, with intervals clustered by conversation."""
    held_out = load_conversations(args.conversations, ["test"])[: args.held_out]
    turns = [turn for turn in collect_turns(held_out, catalog)[0] if not turn.negative]
    ranker = ModelRanker(Recommender.from_pretrained(model, device="cpu"), catalog, DEPTH)
    values = turn_metrics(ranker, turns, DEPTH)
    interval = ClusterBootstrap([turn.conversation for turn in turns], resamples=1_000, seed=0)
    figures = {name: interval.figure(values[name]) for name in ("mrr", "hit@100")}
    return {name: [one.value, one.low, one.high] for name, one in figures.items()}


def run(args: argparse.Namespace) -> None:
    """Train and measure every combination."""
    done = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    known = {(one["init"], one["cov_scale"], one["weight"], one["seed"]) for one in done}
    catalog = Catalog.load(args.catalog)
    starts = [(i, c) for i, c in STARTS if not args.starts or f"{i}:{c:g}" in args.starts]
    for seed in args.seeds:
        for weight in args.weights:
            for init, scale in starts:
                if (init, scale, weight, seed) in known:
                    continue
                model = args.out.parent / "ablation-model"
                shutil.rmtree(model, ignore_errors=True)
                shutil.rmtree(f"{model}-checkpoints", ignore_errors=True)
                arguments, config, model_config = parse_recipe(
                    [
                        *("--config", str(RECIPE), "--output_dir", str(model)),
                        *("--model_name_or_path", str(args.base), "--init", init),
                        *("--cov_scale", str(scale), "--self_similarity_weight", str(weight)),
                        *("--tokenizer", str(args.tokenizer), "--catalog", str(args.catalog)),
                        *("--conversations", str(args.conversations), "--seed", str(seed)),
                        *("--max_steps", str(args.steps), "--eval_steps", str(args.steps)),
                        *("--threads", "1", "--report_to", "none", "--disable_tqdm", "true"),
                        *args.overrides,
                    ]
                )
                train(arguments, config, model_config)
                report = json.loads((model / "training_report.json").read_text(encoding="utf-8"))
                line: dict[str, Any] = {
                    "init": init,
                    "cov_scale": scale,
                    "weight": weight,
                    "seed": seed,
                    "steps": report["steps"],
                    "conversations": report["evaluation"]["eval_conversations_loss"],
                    "playlists": report["evaluation"].get("eval_playlists_loss"),
                    "self_similarity": report["evaluation"]["eval_self_similarity"],
                    "start": {
                        k: v
                        for k, v in report["geometry"]["start"].items()
                        if "_" not in k or k == "overlap_at_10"
                    },
                    "geometry": report["geometry"]["end"],
                    "losses": [e["loss"] for e in report["log"] if "loss" in e],
                }
                if args.held_out:
                    line |= rank(model, args, catalog)
                with args.out.open("a") as handle:
                    handle.write(json.dumps(line) + "\n")


def show(args: argparse.Namespace) -> None:
    """Print a table."""
    lines = [json.loads(line) for line in args.out.read_text().splitlines()]
    lines.sort(key=lambda one: one["conversations"])
    print(
        f"{'init':18}{'cov':>7}{'λ':>5}{'seed':>5}{'CE conv':>9}{'CE list':>9}{'self-sim':>9}"
        f"{'Spearman':>9}{'overlap':>9}  MRR"
    )
    for one in lines:
        shape = one["geometry"]
        mrr = "{:.4f} [{:.4f}, {:.4f}]".format(*one["mrr"]) if "mrr" in one else ""
        print(
            f"{one['init']:18}{one['cov_scale']:7g}{one['weight']:5g}{one['seed']:5d}"
            f"{one['conversations']:9.4f}{one['playlists'] or 0:9.4f}{one['self_similarity']:9.4f}"
            f"{shape['spearman']:9.3f}{shape['overlap_at_10']:9.3f}  {mrr}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("base")
    sub.add_argument("--conversations", type=Path, required=True)
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--vocabulary", type=int, default=2048)
    sub.add_argument("--width", type=int, default=128)
    sub.add_argument("--layers", type=int, default=4)
    sub.add_argument("--length", type=int, default=256)
    sub.add_argument("--steps", type=int, default=1500)
    sub.set_defaults(call=make_base)
    sub = commands.add_parser("run")
    for name in ("base", "tokenizer", "conversations", "catalog", "out"):
        sub.add_argument(f"--{name}", type=Path, required=True)
    sub.add_argument("--steps", type=int, default=600)
    sub.add_argument("--seeds", type=int, nargs="+", default=[0])
    sub.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.0, 1.0])
    sub.add_argument("--starts", nargs="+", help="such as mean_covariance:1e-05 normal:1")
    sub.add_argument("--held-out", type=int, default=0, help="test conversations to rank")
    sub.add_argument("--overrides", nargs=argparse.REMAINDER, default=[])
    sub.set_defaults(call=run)
    sub = commands.add_parser("show")
    sub.add_argument("--out", type=Path, required=True)
    sub.set_defaults(call=show)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
