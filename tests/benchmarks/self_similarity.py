"""The self-similarity gradient beside autograd: CPU time an optimizer step, and peak memory.

    python tests/benchmarks/self_similarity.py
    python tests/benchmarks/self_similarity.py --codes 1024 --width 2048 --vocabulary 133378

The gradient alone, one thread, the rivals in turn in every round, medians. `callback` is all that
`SelfSimilarityCallback` does at the start of a step: it also clears the gradient of the whole
embedding, into which the cross-entropy's is then added.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from talkplay_hf.training.similarity.callback import SelfSimilarityCallback
from talkplay_hf.training.similarity.geometry import geometry
from talkplay_hf.training.similarity.loss import (
    ModalityTarget,
    add_self_similarity_gradient,
    self_similarity_loss,
)

# codes a modality, width, vocabulary
SHAPES = {"quickstart": (32, 128, 1_100), "SmolLM2-135M": (1024, 576, 54_274)}


def targets_of(codes: int) -> list[ModalityTarget]:
    """Five modalities of random centroids."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for number in range(5):
        rows = torch.nn.functional.normalize(torch.randn(codes, 128, generator=generator), dim=1)
        targets.append(ModalityTarget(f"m{number}", number * codes, rows @ rows.T))
    return targets


def rivals(codes: int, width: int, vocabulary: int) -> dict[str, Callable[[], object]]:
    """Functions that take one step's gradient, and the figures of an evaluation."""
    targets = targets_of(codes)
    embedding = torch.nn.Embedding(vocabulary, width)
    weight = embedding.weight
    grad = torch.zeros_like(weight)
    callback = SelfSimilarityCallback.__new__(SelfSimilarityCallback)
    callback.targets, callback._buffer = targets, None

    def analytic() -> None:
        add_self_similarity_gradient(weight, grad, targets, 0.1)

    def autograd() -> None:
        rows = weight[: 5 * codes].detach().requires_grad_(True)
        (0.1 * self_similarity_loss(rows, targets)).backward()
        grad[: 5 * codes] += rows.grad

    def whole() -> None:
        weight.grad = None
        callback._add(weight, 0.1)

    return {
        "analytic": analytic,
        "autograd": autograd,
        "callback": whole,
        "loss (a log)": lambda: self_similarity_loss(weight.detach(), targets),
        "geometry (an evaluation)": lambda: geometry(weight, targets),
    }


def peak(function: Callable[[], object]) -> float:
    """The most that is allocated at once, in MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        function()
    held = most = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def compare(name: str, codes: int, width: int, vocabulary: int, rounds: int) -> None:
    """Print the table of one shape."""
    functions = rivals(codes, width, vocabulary)
    seconds: dict[str, list[float]] = {key: [] for key in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for key, function in functions.items():
            began = time.process_time()
            function()
            seconds[key].append(time.process_time() - began)
    memory = {key: peak(function) for key, function in functions.items()}
    print(f"\n{name}: 5 x {codes} codes x {width}, vocabulary {vocabulary:,}, {rounds} rounds")
    print(f"{'':26}{'CPU ms':>9}{'of autograd':>13}{'peak MB':>10}")
    for key, times in seconds.items():
        ratio = np.median(np.array(times) / np.array(seconds["autograd"]))
        print(f"{key:26}{1e3 * np.median(times):9.2f}{ratio:13.2f}{memory[key]:10.1f}")


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, help="codes a modality; both shapes if left out")
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--vocabulary", type=int, default=54_274)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    if args.codes:
        compare("shape", args.codes, args.width, args.vocabulary, args.rounds)
    else:
        for name, shape in SHAPES.items():
            compare(name, *shape, args.rounds)


if __name__ == "__main__":
    main()
