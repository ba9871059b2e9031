"""Chats with a recommender, and what it is made to answer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from talkplay_hf.recommend import answering
from talkplay_hf.recommend.answers import Recommendation

REQUEST = "something calm for the evening"


def played(*track_ids: str, then: str = "another one") -> list[dict[str, Any]]:
    """A chat in which these tracks were played, one a turn."""
    chat: list[dict[str, Any]] = []
    for track_id in track_ids:
        chat += [
            {"role": "user", "content": REQUEST},
            {"role": "music", "track_id": track_id},
            {"role": "assistant", "content": "Here you are."},
        ]
    return [*chat, {"role": "user", "content": then}]


def ids_of(answer: Recommendation) -> list[str]:
    return [track.track_id for track in answer.tracks]


def assert_same(answer: Recommendation, other: Recommendation) -> None:
    """Equal answers; scores differ in their last digits by how tokens are read together."""
    assert replace(answer, scores=()) == replace(other, scores=())
    assert answer.scores == pytest.approx(other.scores, abs=1e-4)


def answer_with(answer: Sequence[int], patch: pytest.MonkeyPatch) -> None:
    """Make every model write this answer; the log-probabilities are its own."""

    def write(
        model: PreTrainedModel, rows: Sequence[Sequence[int]], *_: Any, **options: Any
    ) -> Iterator[list[tuple[int, float]]]:
        (ids,) = map(list, rows)
        for token in answer[: options["limit"]]:
            with torch.inference_mode():
                log_probs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            ids.append(token)
            yield [(token, float(log_probs[token]))]

    patch.setattr(answering, "write", write)


class CountedTokens:
    """Counts the tokens that go through a model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.read: list[int] = []

    def __enter__(self) -> "CountedTokens":
        embedding = self._model.get_input_embeddings()
        self._hook = embedding.register_forward_hook(
            lambda _, inputs, __: self.read.append(inputs[0].numel())
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
