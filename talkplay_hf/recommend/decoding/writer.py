"""Writing answers token by token, from what was read already."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from talkplay_hf.recommend.decoding.nucleus import draw


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    rules: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    cache: DynamicCache,
    read: int,
    limit: int,
    end_of_turn: int,
    rngs: Sequence[np.random.Generator] | None,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Iterator[list[tuple[int, float] | None]]:
    """Write on after each row, one token a step, until all rows have ended.

    Args:
        model (`PreTrainedModel`): A causal language model.
        rows (`Sequence[Sequence[int]]`): Ids so far; shorter rows are padded on the left.
        rules (`Callable`): Logits processors: from the ids so far and the scores of the next token,
            which are left as they are, to the scores of what may follow.
        cache (`DynamicCache`): What was read; it grows. Of a single row, or empty.
        read (`int`): Tokens that are in the cache.
        limit (`int`): Tokens a row at most.
        end_of_turn (`int`): The token that ends a row.
        rngs (`Sequence[np.random.Generator]`, *optional*): Where the draws of each row come from;
            without them the most probable token is taken.
        temperature (`float`): Sampling temperature.
        top_p (`float`): Nucleus.

    Yields:
        `list[tuple[int, float] | None]`: For each row its next token and the log-probability of
        that over the full vocabulary; `None` where the row has ended.
    """
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), end_of_turn)
    seen = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row)
        seen[number, longest - len(row) :] = 1
    ids, seen = ids.to(model.device), seen.to(model.device)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    feed, at = ids[:, read:], positions[:, read:]
    ended = torch.zeros(len(rows), dtype=torch.bool, device=ids.device)
    padded = not bool(seen.all())
    for _ in range(limit):
        output = model(
            feed,
            attention_mask=seen if padded else None,
            position_ids=at,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
        scores = rules(ids, logits)
        if rngs is None:
            tokens = scores.argmax(-1)
        else:
            chance = torch.tensor([rng.random() for rng in rngs], dtype=torch.float64)
            tokens = draw(scores, chance.to(ids.device), temperature=temperature, top_p=top_p)
        tokens = torch.where(ended, end_of_turn, tokens)
        log_probs = logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)
        yield [
            None if over else (token, score)
            for over, token, score in zip(
                ended.tolist(), tokens.tolist(), log_probs.tolist(), strict=True
            )
        ]
        ended |= tokens == end_of_turn
        if bool(ended.all()):
            return
        feed, at = tokens[:, None], at[:, -1:] + 1
        ids = torch.cat([ids, feed], dim=1)
        if padded:
            seen = torch.cat([seen, torch.ones_like(feed)], dim=1)
