"""Where the music and control tokens stand in a vocabulary."""

from dataclasses import dataclass

from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


@dataclass(frozen=True)
class MusicVocabulary:
    """Where the music and control tokens stand in a vocabulary.

    The music tokens stand together: start, end, then the codes of one modality after the other.

    Args:
        start (`int`): Id of `<start_of_music>`.
        end (`int`): Id of `<end_of_music>`.
        offsets (`tuple[int, ...]`): Id of code 0 of each modality, with one end mark.
        end_of_turn (`int`): Id of the token that ends a message.
        control (`tuple[int, ...]`): Ids of all other special tokens; a reply never has them.
        size (`int`): Number of tokens; a model can have more rows than that.
    """

    start: int
    end: int
    offsets: tuple[int, ...]
    end_of_turn: int
    control: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, tokenizer: TalkPlayTokenizer) -> "MusicVocabulary":
        """Read it off a tokenizer."""
        offsets = tuple(int(offset) for offset in tokenizer.code_offsets)
        start, end = tokenizer.start_of_music_id, tokenizer.end_of_music_id
        end_of_turn = int(tokenizer.eos_token_id)
        music = {start, end, *range(offsets[0], offsets[-1])}
        special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
        control = tuple(sorted(special - music - {end_of_turn}))
        return cls(start, end, offsets, end_of_turn, control, len(tokenizer))

    @property
    def depth(self) -> int:
        """Number of modalities."""
        return len(self.offsets) - 1
