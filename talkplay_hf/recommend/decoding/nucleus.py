"""Drawing tokens from the nucleus of a distribution, repeatable chat by chat (paper 4.4)."""

import torch

# tokens that are looked at first: sorting a whole vocabulary takes longer than all the rest
MOST_PROBABLE = 256


def draw(
    logits: torch.Tensor, chance: torch.Tensor, *, temperature: float, top_p: float
) -> torch.Tensor:
    """Draw one token a row from its nucleus.

    A row depends on its own logits and number alone, so that a chat gets the same answer alone and
    in a batch.

    Args:
        logits (`torch.Tensor` of shape `[rows, vocabulary]`, float32): Scores; `-inf` is never
            drawn.
        chance (`torch.Tensor` of shape `[rows]`, float64): A number from 0 up to 1 for each row.
        temperature (`float`): What the logits are divided by.
        top_p (`float`): The smallest set of tokens with at least this probability is drawn from.

    Returns:
        `torch.Tensor` of shape `[rows]`, int64.
    """
    scaled = logits.double() / temperature
    total = torch.logsumexp(scaled, dim=-1, keepdim=True)
    count = min(MOST_PROBABLE, logits.shape[-1])
    values, tokens = scaled.topk(count, dim=-1)
    probabilities = (values - total).exp()
    drawn = _pick(tokens, probabilities, chance, top_p)
    wide = probabilities.sum(-1) < top_p
    if count < logits.shape[-1] and bool(wide.any()):
        # only the rows that need it: equal scores may stand in another order once all are sorted
        values, tokens = scaled[wide].sort(dim=-1, descending=True, stable=True)
        drawn[wide] = _pick(tokens, (values - total[wide]).exp(), chance[wide], top_p)
    return drawn


def _pick(
    tokens: torch.Tensor, probabilities: torch.Tensor, chance: torch.Tensor, top_p: float
) -> torch.Tensor:
    """Draw from rows of tokens in falling order of probability."""
    reached = probabilities.cumsum(-1)
    # a token is in the nucleus if those before it do not make it up
    inside = (reached - probabilities < top_p) & (probabilities > 0)
    inside[:, 0] = True
    mass = (probabilities * inside).cumsum(-1)
    at = (mass <= chance[:, None] * mass[:, -1:]).sum(-1, keepdim=True)
    last = inside.sum(-1, keepdim=True) - 1
    return tokens.gather(1, torch.minimum(at, last))[:, 0]
