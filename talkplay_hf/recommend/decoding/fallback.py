"""The same beams, samples and scores for models that take no branching tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, PreTrainedModel

from talkplay_hf.recommend.decoding.beams import RankedCodes
from talkplay_hf.recommend.decoding.sampling import SampledTokens
from talkplay_hf.recommend.decoding.writer import write
from talkplay_hf.recommend.grammar import MusicVocabulary

TUPLES_AT_A_TIME = 64
DEAD = -1e8


@torch.inference_mode()
def generate_beams(
    model: PreTrainedModel,
    prompt: Sequence[int],
    vocabulary: MusicVocabulary,
    rules: LogitsProcessorList,
    *,
    width: int,
) -> RankedCodes:
    """The best blocks after a prompt that ends with `<start_of_music>`, by `generate`.

    Args:
        model (`PreTrainedModel`): Any causal language model.
        prompt (`Sequence[int]`): Ids up to `<start_of_music>`.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        rules (`LogitsProcessorList`): What may follow.
        width (`int`): Beams.
    """
    never = model.config.vocab_size
    config = GenerationConfig(
        max_new_tokens=vocabulary.depth,
        do_sample=False,
        num_beams=width,
        num_return_sequences=width,
        length_penalty=0.0,
        # what is not set here is filled in from the model's own settings
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        # a block has a fixed number of tokens, whatever they are
        eos_token_id=never,
        pad_token_id=never,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = torch.tensor([list(prompt)], device=model.device)
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=config,
        logits_processor=rules,
    )
    tokens = found.sequences[:, len(prompt) :].cpu().numpy()
    codes = tokens - np.asarray(vocabulary.offsets[:-1])
    if width == 1:
        return RankedCodes(codes, score_tuples(model, prompt, codes, vocabulary))
    scores = found.sequences_scores.double().cpu().numpy()
    # where there are fewer blocks than beams, the others have a score that no block can have
    alive = scores > DEAD
    return RankedCodes(codes[alive], scores[alive])


def sample_rows(
    model: PreTrainedModel,
    prompt: Sequence[int],
    vocabulary: MusicVocabulary,
    rules: LogitsProcessorList,
    *,
    draws: int,
    free: bool,
    rng: np.random.Generator,
    temperature: float,
    top_p: float,
) -> SampledTokens:
    """The draws of `sample_blocks`, each in a row of its own.

    Args:
        model (`PreTrainedModel`): Any causal language model.
        prompt (`Sequence[int]`): Ids up to where the answer begins.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        rules (`LogitsProcessorList`): What may follow.
        draws (`int`): How many to draw.
        free (`bool`): Draw all tokens from where the answer begins; else the block is open already.
        rng (`np.random.Generator`): Where the draws come from.
        temperature (`float`): Sampling temperature.
        top_p (`float`): Nucleus.
    """
    opened = [] if free else [vocabulary.start]
    tokens = np.full((draws, vocabulary.depth + 2), vocabulary.end_of_turn)
    if not free:
        tokens[:, 0], tokens[:, -1] = vocabulary.start, vocabulary.end
    log_probs = np.zeros(tokens.shape)
    written = write(
        model,
        [[*prompt, *opened]] * draws,
        rules,
        cache=DynamicCache(config=model.config),
        read=0,
        limit=vocabulary.depth + (2 if free else 0),
        end_of_turn=vocabulary.end_of_turn,
        rngs=[rng] * draws,
        temperature=temperature,
        top_p=top_p,
    )
    for step, drawn in enumerate(written, start=len(opened)):
        for row, one in enumerate(drawn):
            if one is not None:
                tokens[row, step], log_probs[row, step] = one
    return SampledTokens(tokens, log_probs[:, 1:-1].sum(1))


@torch.inference_mode()
def score_tuples(
    model: PreTrainedModel, prompt: Sequence[int], codes: np.ndarray, vocabulary: MusicVocabulary
) -> np.ndarray:
    """Log-probabilities of blocks by teacher forcing, each in a row of its own.

    Args:
        model (`PreTrainedModel`): Any causal language model.
        prompt (`Sequence[int]`): Ids up to `<start_of_music>`.
        codes (`np.ndarray` of shape `[n, modalities]`, int): The blocks.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.

    Returns:
        `np.ndarray` of shape `[n]`, float64.
    """
    tokens = torch.from_numpy(codes + np.asarray(vocabulary.offsets[:-1])).long().to(model.device)
    opening = torch.tensor(list(prompt), device=model.device)
    scores = np.empty(len(codes))
    for at in range(0, len(codes), TUPLES_AT_A_TIME):
        block = tokens[at : at + TUPLES_AT_A_TIME]
        ids = torch.cat([opening.expand(len(block), -1), block[:, :-1]], dim=1)
        logits = model(ids, logits_to_keep=vocabulary.depth).logits.float()
        log_probs = torch.log_softmax(logits, dim=-1).gather(2, block[..., None])[..., 0]
        scores[at : at + len(block)] = log_probs.double().sum(-1).cpu().numpy()
    return scores
