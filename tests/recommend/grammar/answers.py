"""A toy vocabulary, what is legal in it by a plain state machine, and what tiny models answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from talkplay_hf.recommend.grammar import MusicVocabulary

Codes = tuple[int, ...]
PAD = 0
# text on both sides of the music tokens, as behind a base vocabulary that was grown twice
WORDS = MusicVocabulary(
    start=10,
    end=11,
    offsets=(12, 16, 19, 24),
    end_of_turn=5,
    control=(PAD, 1, 25),
    size=28,
)
SIZES = (4, 3, 5)
ROWS = 31
TEXT = sorted({*range(2, 10), 24, 26, 27} - {WORDS.end_of_turn})


def block(codes: Sequence[int]) -> list[int]:
    inside = [offset + code for offset, code in zip(WORDS.offsets, codes, strict=False)]
    return [WORDS.start, *inside, WORDS.end]


def codes_of(inside: Sequence[int]) -> Codes | None:
    """The codes of tokens in a block, `None` where they are of wrong modalities."""
    codes = [token - offset for token, offset in zip(inside, WORDS.offsets, strict=False)]
    fit = all(0 <= code < size for code, size in zip(codes, SIZES, strict=False))
    return tuple(codes) if fit else None


def played(ids: Sequence[int]) -> list[Codes]:
    """The whole blocks since the last end of a turn."""
    turn = max((at for at, token in enumerate(ids) if token == WORDS.end_of_turn), default=-1)
    whole = []
    for at in range(turn + 1, len(ids) - WORDS.depth - 1):
        codes = codes_of(ids[at + 1 : at + 1 + WORDS.depth])
        if ids[at] == WORDS.start and ids[at + WORDS.depth + 1] == WORDS.end and codes:
            whole.append(codes)
    return whole


def legal_tokens(
    ids: Sequence[int], *, tracks: int, place: str, catalog: Counter[Codes] | None = None
) -> set[int]:
    """What may follow ids, where `catalog` says how many allowed tracks a tuple has."""
    left = Counter(catalog)
    if catalog is not None and tracks > 1:
        left = catalog - Counter(played(ids))
    window = list(ids[-(WORDS.depth + 1) :])
    if WORDS.start in window:
        inside = window[len(window) - window[::-1].index(WORDS.start) :]
        codes = codes_of(inside)
        if codes is None:
            return {WORDS.end_of_turn}
        level = len(codes)
        if catalog is not None:
            known = {t[level : level + 1] for t in left if t[:level] == codes and left[t] > 0}
        else:
            known = {(code,) for code in range(SIZES[level])} if level < WORDS.depth else {()}
        if level == WORDS.depth:
            return {WORDS.end} if known else {WORDS.end_of_turn}
        found = {WORDS.offsets[level] + code for (code,) in known}
        return found or {WORDS.end_of_turn}
    turn = max((at for at, token in enumerate(ids) if token == WORDS.end_of_turn), default=-1)
    blocks = list(ids[turn + 1 :]).count(WORDS.end)
    if blocks >= tracks or (catalog is not None and not sum(left.values())):
        return {*TEXT, WORDS.end_of_turn}
    return {WORDS.start} if place == "first" else {*TEXT, WORDS.start}


class Watched(LogitsProcessor):
    """Another processor, and how many rows it left without a legal token or with a NaN."""

    def __init__(self, inner: LogitsProcessor) -> None:
        self.inner = inner
        self.lost = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        out = self.inner(input_ids, scores)
        self.lost += int((~(out > -torch.inf).any(1) | out.isnan().any(1)).sum())
        return out


def tiny_llama(seed: int, scale: float = 1.0) -> LlamaForCausalLM:
    """Random weights; the larger the scale, the more certain the model is of nonsense."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=WORDS.end_of_turn,
        pad_token_id=PAD,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(50 * scale)
    return model


def prompts(number: int, seed: int) -> list[list[int]]:
    """Chats of different lengths, some of which have played music."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(number):
        row = rng.choice(TEXT, rng.integers(1, 9)).tolist()
        for _ in range(rng.integers(0, 3)):
            row += [*block(rng.integers(0, SIZES).tolist()), *rng.choice(TEXT, 2).tolist()]
        rows.append([1, *row, WORDS.end_of_turn, 25])
    return rows


def answers(
    model: LlamaForCausalLM,
    processor: LogitsProcessor,
    rows: Sequence[Sequence[int]],
    *,
    seed: int = 0,
    **options: Any,
) -> list[list[int]]:
    """What a model writes after each prompt, in one left-padded batch; dead beams are left out."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, width - len(row) :] = torch.tensor(row)
        mask[at, width - len(row) :] = 1
    torch.manual_seed(seed)
    output = model.generate(
        ids,
        attention_mask=mask,
        logits_processor=LogitsProcessorList([processor]),
        **{"max_new_tokens": 24, "top_k": 0, "return_dict_in_generate": True, **options},
    )
    found = [row[width:].tolist() for row in output.sequences]
    scores = getattr(output, "sequences_scores", None)
    if scores is not None:
        found = [row for row, score in zip(found, scores.tolist(), strict=True) if score > -1e6]
    return found


def blocks_of(answer: Sequence[int], *, tracks: int, place: str = "first") -> list[Codes]:
    """Assert the form of an answer, token by token, and give the codes of its whole blocks."""
    if WORDS.end_of_turn in answer:
        at = list(answer).index(WORDS.end_of_turn)
        # beam search fills up with the one or the other
        assert set(answer[at + 1 :]) <= {PAD, WORDS.end_of_turn}
        answer = answer[: at + 1]
        assert len(played([*answer[:-1]])) == tracks
    codes, number = [], 0
    at = 0
    while at < len(answer):
        if answer[at] == WORDS.start:
            inside = list(answer[at + 1 : at + 1 + WORDS.depth])
            got = codes_of(inside)
            assert got is not None
            if at + 1 + WORDS.depth < len(answer):
                assert answer[at + 1 + WORDS.depth] == WORDS.end
                codes.append(got)
            number += 1
            at += WORDS.depth + 2
        else:
            assert answer[at] in {*TEXT, WORDS.end_of_turn}
            assert place == "anywhere" or number == tracks
            at += 1
    assert number <= tracks
    return codes
