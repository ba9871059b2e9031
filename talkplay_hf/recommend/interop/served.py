"""The client's side of a served model: prompts for it, and tracks of what it answers."""

import sys
from collections.abc import Collection, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from talkplay_hf.errors import InputError
from talkplay_hf.recommend.answers import Recommendation
from talkplay_hf.recommend.loading import load_tokenizer, token_catalog, token_lookup
from talkplay_hf.recommend.prompts import Chat, chat_prompt, read_chat
from talkplay_hf.recommend.reader import AnswerReader
from talkplay_hf.recommend.values import check_seed, check_texts
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


class ServedModel:
    """A model that another process runs; its tokenizer and its catalogue are here.

    Args:
        tokenizer (`TalkPlayTokenizer`): The tokenizer of the served model, with its token catalog.

    Attributes:
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        catalog (`Catalog`): The tracks that can be recommended (no playlists).
        codes (`np.ndarray` of shape `[n, modalities]`, int32): Their codes.

    Raises:
        ArtifactError: If the files of the tokenizer are damaged or do not belong together.
    """

    def __init__(self, tokenizer: TalkPlayTokenizer) -> None:
        self.tokenizer = tokenizer
        self.catalog, self.codes, index = token_catalog(tokenizer, torch.device("cpu"))
        self._lookup = token_lookup(tokenizer, self.codes, index)

    @classmethod
    def from_pretrained(cls, model: str | Path, **kwargs: Any) -> "ServedModel":
        """Load what is needed of a model folder or Hub repository; its weights are not.

        Args:
            model (`str` or `Path`): A folder, or a Hub id.
            kwargs: Passed to `TalkPlayTokenizer.from_pretrained`.

        Raises:
            ArtifactError: If it cannot be loaded.
            InputError: If it is no folder and cannot be the name of a repository.
        """
        return cls(load_tokenizer(model, **kwargs))

    def prompt_ids(
        self, chat: Chat, *, history: Sequence[str] = (), limit: int | None = None
    ) -> list[int]:
        """The prompt as token ids, which is how it should be sent.

        A server that gets text, or messages, tokenizes them itself: it then takes `<|audio-29|>`
        in what a user typed for the token, and knows nothing of music messages.

        Args:
            chat (`str` or `Sequence`): One request, or messages as for `Recommender.chat`.
            history (`Sequence[str]`): Ids of tracks that were listened to before the chat.
            limit (`int`, *optional*): Tokens that fit beside the answer; the oldest turns give way.

        Raises:
            InputError: If the chat cannot be used, or its last message does not fit.
        """
        messages = read_chat(chat, self.catalog, history)
        return chat_prompt(messages, self.tokenizer, self._codes_of, limit or sys.maxsize)

    def read_ids(
        self, ids: Sequence[int], *, exclude: Collection[str] = (), seed: int | None = None
    ) -> Recommendation:
        """Read an answer from the token ids that were generated.

        Args:
            ids (`Sequence[int]`): The ids, without the prompt.
            exclude (`Collection[str]`): Ids of tracks that are not to be given, such as those
                played already.
            seed (`int`, *optional*): Seed of the draw among tracks that match equally well (paper
                4.4); the first of them in catalog order when left out.

        Returns:
            `Recommendation`: The answer. Its scores are not known and NaN.

        Raises:
            InputError: If an id is not one of this tokenizer's, or `exclude` is no collection.
        """
        size = len(self.tokenizer)
        foreign = [token for token in ids if type(token) is not int or not 0 <= token < size]
        if foreign:
            raise InputError(
                f"token {foreign[0]!r:.60} is not one of the {size} of this tokenizer: is the "
                "served model the one that it belongs to?"
            )
        check_texts("exclude", exclude)
        allowed = np.ones(len(self.catalog), dtype=bool)
        allowed[[self.catalog.row(track) for track in exclude if track in self.catalog]] = False
        check_seed(seed)
        rng = None if seed is None else np.random.default_rng(seed)
        reader = AnswerReader(self.tokenizer, self._lookup, self.catalog, rng)
        for token in ids:
            if reader.take(token, nan, allowed):
                allowed[reader.rows] = False
        return reader.answer(whole=True)

    def read_text(
        self, text: str, *, exclude: Collection[str] = (), seed: int | None = None
    ) -> Recommendation:
        """Read an answer from its text, for servers that return no ids.

        The server must leave special tokens in the text. A music token and the same signs written
        one by one look alike here, so text can forge a block; `read_ids` cannot be misled.

        Args:
            text (`str`): The text of the answer, music tokens included.
            exclude (`Collection[str]`): As in `read_ids`.
            seed (`int`, *optional*): As in `read_ids`.

        Raises:
            InputError: If it is no text.
        """
        if not isinstance(text, str):
            raise InputError(f"answer {text!r:.60}: must be text")
        # JSON can bring half of a surrogate pair, which no token stands for
        text = text.encode("utf-8", "replace").decode()
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return self.read_ids(ids, exclude=exclude, seed=seed)

    def _codes_of(self, track_id: str) -> Sequence[int]:
        codes: list[int] = self.codes[self.catalog.row(track_id)].tolist()
        return codes
