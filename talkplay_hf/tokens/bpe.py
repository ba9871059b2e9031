"""A small byte-level BPE tokenizer trained on the text at hand, for models made from scratch."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BOS, END_OF_TURN, PAD = "<|begin_of_text|>", "<|eot_id|>", "<|pad|>"
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")


def train_bpe(texts: Iterable[str], *, vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with Llama 3's control tokens.

    Any text can be encoded, since all 256 bytes are in the vocabulary.

    Args:
        texts (`Iterable[str]`): The text to learn merges from.
        vocab_size (`int`): Tokens in all, control tokens included; fewer where the text has not
            enough.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, *HEADERS, END_OF_TURN, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        extra_special_tokens=list(HEADERS),
    )
