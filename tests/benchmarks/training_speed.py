"""Training speed in real tokens a second: the stock trainer, with our callback, and our settings.

    python tests/benchmarks/training_speed.py --config recipes/quickstart/sft.yaml \
        --tokenizer demo/tokenizer --conversations demo/conversations --catalog demo/catalog

Every way trains the same fresh model for one epoch of the same rows. Rounds are interleaved, and a
ratio is the median over rounds of the ratio within a round. Padding does not count as tokens. The
first three ways see the same batches, so their losses have to agree.
"""

import argparse
import statistics
import tempfile
import time

import torch
from datasets import Dataset

from talkplay_hf.training.arguments import parse_recipe
from talkplay_hf.training.rows.sets import load_datasets
from talkplay_hf.training.sft import load_model, load_tokenizer, make_trainer
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback

# name: label positions only, weight of the self-similarity loss, sampling, bf16
WAYS = {
    "stock": (False, 0.0, "random", False),
    "stock, callback": (False, 0.1, "random", False),
    "label positions, callback": (True, 0.1, "random", False),
    "and by length": (True, 0.1, "group_by_length", False),
    "and bf16": (True, 0.1, "group_by_length", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    args, recipe = parser.parse_known_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        forced = {
            "output_dir": folder,
            "max_steps": "-1",
            "num_train_epochs": "1",
            "per_device_train_batch_size": str(args.batch),
            "report_to": "none",
            "logging_steps": "1",
            "save_strategy": "no",
            "eval_strategy": "no",
            "load_best_model_at_end": "false",
            "use_cpu": "true",
            "disable_tqdm": "true",
        }
        flags = [word for key, value in forced.items() for word in (f"--{key}", value)]
        arguments, config, _ = parse_recipe([*recipe, *flags])
        tokenizer = load_tokenizer(arguments.tokenizer)
        rows = load_datasets(arguments, config, tokenizer)[0]["train"]
        rows = Dataset.from_dict(rows.select(range(args.rows)).to_dict())
        tokens = sum(map(len, rows["input_ids"]))
        seconds: dict[str, list[float]] = {way: [] for way in args.ways}
        losses: dict[str, list[float]] = {}
        shares: dict[str, list[float]] = {way: [] for way in args.ways}
        for number in range(args.rounds):
            for way in args.ways if number % 2 == 0 else reversed(args.ways):
                positions, weight, sampling, bf16 = WAYS[way]
                # read anew, since precision is settled when a config is made
                arguments, config, model_config = parse_recipe(
                    [
                        *(*recipe, *flags, "--bf16", str(bf16)),
                        *("--train_sampling_strategy", sampling),
                        *("--label_positions_only", str(positions)),
                    ]
                )
                config.dataset_kwargs = {"skip_prepare_dataset": True}
                model = load_model(arguments, config, model_config, tokenizer)
                similarity = SelfSimilarityCallback(tokenizer, weight)
                trainer = make_trainer(arguments, config, model, tokenizer, rows, {}, similarity)
                if not weight:
                    trainer.remove_callback(similarity)
                started = time.perf_counter()
                trainer.train()
                seconds[way].append(time.perf_counter() - started)
                shares[way].append(similarity.cost()["share"])
                losses[way] = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    print(f"{tokens:,} tokens in {args.rows} rows, {args.rounds} rounds, {args.threads} thread(s)")
    print(f"{'':28}{'tokens/s':>10}{'ratio':>8}{'callback':>10}  greatest difference of a loss")
    base = args.ways[0]
    for way in args.ways:
        ratio = statistics.median(a / b for a, b in zip(seconds[base], seconds[way], strict=True))
        apart = max(abs(a - b) for a, b in zip(losses[base], losses[way], strict=True))
        said = f"{apart:.1e}" if WAYS[way][2:] == WAYS[base][2:] else "(other batches)"
        print(
            f"{way:28}{tokens / statistics.median(seconds[way]):10,.0f}{ratio:8.2f}"
            f"{statistics.median(shares[way]):10.1%}  {said}"
        )
    if {"stock, callback", "label positions, callback"} <= set(args.ways):
        pair = zip(losses["stock, callback"], losses["label positions, callback"], strict=True)
        print(f"label positions against all, same batches: {max(abs(a - b) for a, b in pair):.1e}")


if __name__ == "__main__":
    main()
