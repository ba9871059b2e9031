"""Ranking over the trie against teacher forcing of every track."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.recommend.ranking import RankedLeaves, rank_leaves
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

CHAT = [{"role": "user", "content": "a slow song for the night"}]


@pytest.fixture(scope="module")
def codes(tokenizer: TalkPlayTokenizer) -> np.ndarray:
    return read_token_catalog(tokenizer.side_file("token_catalog_file"))[1]


@pytest.fixture(scope="module")
def prompt(recommender: Recommender) -> list[int]:
    return recommender.prompt_ids(recommender.messages(CHAT))


@pytest.fixture(scope="module")
def forced(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    codes: np.ndarray,
    prompt: list[int],
) -> dict[tuple[int, ...], float]:
    """The log-probability of each tuple's five tokens, one forward pass a tuple."""
    scores = {}
    for row in {tuple(row) for row in codes.tolist()}:
        block = tokenizer.block_ids(row)
        ids = torch.tensor([prompt + block[:-1]])
        with torch.inference_mode():
            logits = tiny_model(ids).logits[0].double()
        log_probs = logits[len(prompt) : -1].log_softmax(dim=-1)
        scores[row] = float(log_probs.gather(1, ids[0, len(prompt) + 1 :, None]).sum())
    return scores


def ranked(
    model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    codes: np.ndarray,
    prompt: list[int],
    width: int,
    allowed: np.ndarray | None = None,
) -> tuple[RankedLeaves, list[tuple[int, ...]]]:
    index = CatalogIndex(codes, tokenizer.config.codes)
    found = rank_leaves(
        model, prompt, MusicVocabulary.of(tokenizer), index, width=width, allowed=allowed
    )
    return found, [tuple(codes[index.tracks(leaf)[0]].tolist()) for leaf in found.leaves.tolist()]


@pytest.mark.parametrize("share", [1, 3, 60])
def test_a_wide_beam_is_exact(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    codes: np.ndarray,
    prompt: list[int],
    forced: dict[tuple[int, ...], float],
    share: int,
) -> None:
    allowed = np.arange(len(codes)) % share == 0
    mask = None if share == 1 else allowed
    found, tuples = ranked(tiny_model, tokenizer, codes, prompt, 10_000, mask)
    assert set(tuples) == {tuple(row) for row in codes[allowed].tolist()}
    assert len(tuples) == len(set(tuples))
    np.testing.assert_allclose(found.scores, [forced[t] for t in tuples], atol=1e-4)
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("width", [1, 4])
def test_a_narrow_beam_gives_some_with_the_same_scores(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    codes: np.ndarray,
    prompt: list[int],
    forced: dict[tuple[int, ...], float],
    width: int,
) -> None:
    found, tuples = ranked(tiny_model, tokenizer, codes, prompt, width)
    assert len(set(tuples)) == len(tuples) == width
    np.testing.assert_allclose(found.scores, [forced[t] for t in tuples], atol=1e-4)


def test_the_list_has_whole_groups_in_catalog_order(
    recommender: Recommender, codes: np.ndarray, forced: dict[tuple[int, ...], float]
) -> None:
    everything = recommender.rank(CHAT, k=len(codes))
    assert sorted(s.track.track_id for s in everything) == sorted(recommender.track_ids)
    for scored in everything:
        assert scored.codes == recommender.codes(scored.track.track_id)
        assert scored.score == pytest.approx(forced[scored.codes], abs=1e-4)
    groups: dict[tuple[int, ...], list[str]] = {}
    for scored in everything:
        groups.setdefault(scored.codes, []).append(scored.track.track_id)
    assert [i for ids in groups.values() for i in ids] == [s.track.track_id for s in everything]
    for group, ids in groups.items():
        rows = [row for row, code in enumerate(codes.tolist()) if tuple(code) == group]
        assert ids == [recommender.track_ids[row] for row in rows]
    assert max(map(len, groups.values())) > 1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_ends_after_a_whole_group(recommender: Recommender, k: int) -> None:
    everything = recommender.rank(CHAT, k=1000)
    some = recommender.rank(CHAT, k=k)
    assert [s.track.track_id for s in some] == [s.track.track_id for s in everything[: len(some)]]
    assert len(some) >= k
    assert some[-1].codes != everything[len(some)].codes
    assert len({s.codes for s in some[:k]}) == len({s.codes for s in some})


def test_played_tracks_are_left_out(recommender: Recommender) -> None:
    first = recommender.rank(CHAT, k=1)[0].track.track_id
    chat = [
        *CHAT,
        {"role": "music", "track_id": first},
        {"role": "assistant", "content": "There."},
        {"role": "user", "content": "another"},
    ]
    without = {s.track.track_id for s in recommender.rank(chat, k=1000)}
    assert without == set(recommender.track_ids) - {first}
    within = {s.track.track_id for s in recommender.rank(chat, k=1000, exclude_played=False)}
    assert within == set(recommender.track_ids)
