"""Where the tokens of a real tokenizer stand."""

import torch

from talkplay_hf.recommend.grammar import MusicGrammarLogitsProcessor, MusicVocabulary
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


def test_the_vocabulary_parts_do_not_overlap(tokenizer: TalkPlayTokenizer) -> None:
    vocabulary = MusicVocabulary.of(tokenizer)
    assert vocabulary.depth == 5
    music = {vocabulary.start, vocabulary.end, *range(*vocabulary.offsets[:: vocabulary.depth])}
    assert len(music) == 2 + sum(tokenizer.config.codes)
    assert not music & set(vocabulary.control)
    assert vocabulary.end_of_turn not in vocabulary.control
    everything = music | set(vocabulary.control) | {vocabulary.end_of_turn}
    assert everything == set(tokenizer.added_tokens_decoder)


def test_the_music_tokens_stand_together(tokenizer: TalkPlayTokenizer) -> None:
    vocabulary = MusicVocabulary.of(tokenizer)
    assert (vocabulary.end, vocabulary.offsets[0]) == (vocabulary.start + 1, vocabulary.start + 2)


def test_text_of_a_real_tokenizer_has_no_control_token(tokenizer: TalkPlayTokenizer) -> None:
    vocabulary = MusicVocabulary.of(tokenizer)
    ids = torch.tensor([tokenizer.block_ids([0] * 5)])
    scores = MusicGrammarLogitsProcessor(vocabulary)(ids, torch.zeros(1, len(tokenizer)))
    legal = set((scores[0] > -torch.inf).nonzero()[:, 0].tolist())
    assert legal & set(tokenizer.added_tokens_decoder) == {vocabulary.end_of_turn}
    assert len(legal) == len(tokenizer) - len(tokenizer.added_tokens_decoder) + 1
