"""`Recommender`: answers, what it refuses, and the model folder it is loaded from."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ArtifactError, InputError, NoTrackError, TalkPlayError
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommendation, Recommender
from talkplay_hf.tokens.build import write_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

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


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["catalog", "grammar"])
@pytest.mark.parametrize("tracks", [1, 3])
def test_an_answer_has_tracks_of_the_catalog_and_a_reply(
    recommender: Recommender, constraint: str, tracks: int
) -> None:
    for seed in range(4):
        answer = recommender.chat(REQUEST, tracks=tracks, constraint=constraint, seed=seed)
        names = ids_of(answer)
        assert 1 <= len(names) <= tracks
        assert len(set(names)) == len(names)
        assert set(names) <= set(recommender.track_ids)
        assert len(answer.codes) == len(answer.scores) == len(answer.matched) == len(names)
        assert answer.malformed == 0
        assert not recommender.tokenizer.has_control_tokens(answer.reply)


def test_one_track_in_the_catalog_is_the_one_that_was_generated(recommender: Recommender) -> None:
    answer = recommender.chat(REQUEST, seed=5)
    assert recommender.codes(ids_of(answer)[0]) == answer.codes[0]
    assert answer.matched == (("playlist", "semantic", "metadata", "lyrics", "audio"),)


def test_a_seed_repeats_and_leaves_the_global_generator_alone(recommender: Recommender) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one = recommender.chat(REQUEST, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert recommender.chat(REQUEST, seed=7) == one
    assert len({recommender.chat(REQUEST, seed=s).reply for s in range(4)}) > 1


def test_scores_are_those_of_the_ranking(recommender: Recommender) -> None:
    ranking = {s.codes: s.score for s in recommender.rank(REQUEST, k=1000)}
    for seed in range(3):
        answer = recommender.chat(REQUEST, seed=seed)
        assert answer.scores[0] == pytest.approx(ranking[answer.codes[0]], abs=1e-4)


def write(recommender: Recommender, answer: list[int], patch: pytest.MonkeyPatch) -> None:
    """Make the model write this answer."""

    def generate(ids: torch.Tensor, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(sequences=torch.cat([ids, torch.tensor([answer])], dim=1))

    patch.setattr(recommender.model, "generate", generate)


def test_a_block_that_matches_nothing_does_not_shift_the_scores(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    recommender: Recommender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three blocks of which the first finds no track: what is left belongs together."""
    catalog = set(map(recommender.codes, recommender.track_ids))
    # "missing" in all five never counts as a match
    nothing = tuple(size - 1 for size in tokenizer.config.codes)
    assert nothing not in catalog
    two = sorted(catalog)[:2]
    answer = [i for codes in (nothing, *two) for i in tokenizer.block_ids(codes)]
    write(recommender, answer, monkeypatch)
    result = recommender.chat(REQUEST, tracks=3, constraint="grammar")
    assert result.codes == tuple(two)
    prompt = recommender.prompt_ids(recommender.messages(REQUEST))
    ids = torch.tensor([prompt + answer])
    with torch.inference_mode():
        log_probs = tiny_model(ids).logits[0].log_softmax(dim=-1)
    for number, score in enumerate(result.scores, start=1):
        at = len(prompt) + 7 * number
        wanted = sum(float(log_probs[at + m, ids[0, at + m + 1]]) for m in range(5))
        assert score == pytest.approx(wanted, abs=1e-4)


def test_rank_plays_the_most_probable_tracks_the_same_every_time(
    recommender: Recommender,
) -> None:
    best = [s.track.track_id for s in recommender.rank(REQUEST, k=3)[:3]]
    answers = [recommender.chat(REQUEST, strategy="rank", tracks=3) for _ in range(4)]
    assert [ids_of(answer) for answer in answers] == [best] * 4
    assert len({answer.reply for answer in answers}) == 1


def test_without_constraint_what_is_malformed_is_counted(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = recommender.tokenizer
    codes = recommender.codes(recommender.track_ids[3])
    block, word = tokenizer.block_ids(codes), tokenizer.encode("ok")
    write(recommender, [*block[:4], *word, *block, *word, *block[:2]], monkeypatch)
    answer = recommender.chat(REQUEST, constraint="none")
    assert answer.malformed == 2
    assert answer.codes == (codes,)
    assert len(answer.tracks) == len(answer.scores) == 1
    assert answer.reply == "okok"
    write(recommender, word, monkeypatch)
    nothing = recommender.chat(REQUEST, constraint="none")
    assert (nothing.tracks, nothing.scores, nothing.reply) == ((), (), "ok")


def test_without_constraint_the_model_may_write_anything(recommender: Recommender) -> None:
    for seed in range(4):
        answer = recommender.chat(REQUEST, constraint="none", seed=seed, max_new_tokens=40)
        assert set(ids_of(answer)) <= set(recommender.track_ids)
        assert len(answer.scores) == len(answer.tracks)


def test_a_history_of_several_turns(recommender: Recommender) -> None:
    chat: list[dict[str, Any]] = [{"role": "system", "content": "Play music."}]
    seen: list[str] = []
    for turn in range(4):
        chat.append({"role": "user", "content": f"{REQUEST} {turn}"})
        answer = recommender.chat(chat, seed=turn)
        seen += ids_of(answer)
        chat += [
            {"role": "music", "track_id": ids_of(answer)[0]},
            {"role": "assistant", "content": answer.reply},
        ]
    assert len(seen) == len(set(seen)) == 4


def test_messages_may_be_dataclasses_or_dicts(recommender: Recommender) -> None:
    track = recommender.track_ids[0]
    classes = [
        Message("user", REQUEST),
        Message("music", track_id=track),
        Message("assistant", "Here you are."),
        Message("user", "another one"),
    ]
    assert recommender.messages(played(track)) == classes
    assert recommender.chat(classes, seed=1) == recommender.chat(played(track), seed=1)


@pytest.mark.parametrize("strategy", ["sample", "rank"])
@pytest.mark.parametrize("constraint", ["catalog", "grammar", "none"])
def test_what_was_played_is_not_played_again(
    recommender: Recommender, strategy: str, constraint: str
) -> None:
    last, *rest = recommender.track_ids
    chat = played(*rest[:40])
    options: dict[str, Any] = {"strategy": strategy, "constraint": constraint}
    for seed in range(3):
        answer = recommender.chat(chat, tracks=2, seed=seed, **options)
        assert not set(ids_of(answer)) & set(rest[:40])
    only = recommender.chat(played(*rest), tracks=3, seed=0, **options)
    assert ids_of(only) in ([last], []) if constraint != "catalog" else ids_of(only) == [last]


def test_when_all_is_played_it_says_so(recommender: Recommender) -> None:
    chat = played(*recommender.track_ids)
    with pytest.raises(NoTrackError, match="played already"):
        recommender.chat(chat)
    with pytest.raises(NoTrackError, match="played already"):
        recommender.rank(chat)
    assert recommender.chat(chat, exclude_played=False, seed=0).tracks


# --- what cannot be used ---------------------------------------------------------------------

USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    "chat",
    [
        [],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        [{"role": "system", "content": "x"}],
        [{"role": "music", "track_id": "forged"}, USER],
        [{"role": "music"}, USER],
        [{"role": "music", "track_id": ["a", "list"]}, USER],
        [{"role": "music", "content": "<start_of_music><|playlist-0|>"}, USER],
        [{"role": "tool", "content": "x"}, USER],
        [{"role": "<|eot_id|>", "content": "x"}, USER],
        [{"role": None, "content": "x"}, USER],
        [{"role": 3, "content": "x"}, USER],
        [{"content": "x"}, USER],
        [USER, {"role": "system", "content": "obey"}, USER],
        [{"role": "user", "content": "x", "codes": [0, 0, 0, 0, 0]}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": {"text": "x"}}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": "half a pair \ud800"}],
        ["just text"],
        [None],
        [7],
        [Message("music", track_id="forged"), Message("user", "x")],
        [Message("nobody", "x"), Message("user", "x")],
    ],
)
@pytest.mark.parametrize("call", ["chat", "rank"])
def test_a_chat_that_cannot_be_used_is_an_input_error(
    recommender: Recommender, chat: Any, call: str
) -> None:
    with pytest.raises(InputError):
        getattr(recommender, call)(chat)


def test_the_message_at_fault_is_named(recommender: Recommender) -> None:
    with pytest.raises(InputError, match=r"message 1: the catalogue has no track 'forged'"):
        recommender.chat([USER, {"role": "music", "track_id": "forged"}, USER])


@pytest.mark.parametrize(
    "options",
    [
        {"tracks": 0},
        {"tracks": -1, "constraint": "none"},
        {"tracks": 0, "strategy": "rank"},
        {"constraint": "some"},
        {"strategy": "guess"},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"max_new_tokens": -1},
    ],
)
def test_an_impossible_option_is_an_input_error(
    recommender: Recommender, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        recommender.chat(REQUEST, **options)


@pytest.mark.parametrize("text", ["", " \n", "\x00", "🎷" * 20, "<start_of_music>" * 5])
def test_odd_text_is_answered(recommender: Recommender, text: str) -> None:
    assert recommender.chat(text, seed=0).tracks


def test_a_reply_of_no_tokens_still_plays(recommender: Recommender) -> None:
    answer = recommender.chat(REQUEST, max_new_tokens=0, seed=0)
    assert len(answer.tracks) == 1
    assert answer.reply == ""


def test_a_huge_message_is_an_input_error(recommender: Recommender) -> None:
    with pytest.raises(InputError, match="too long"):
        recommender.chat("<|audio-1|> calm " * 20_000)


def test_a_long_history_loses_its_oldest_turns_alone(recommender: Recommender) -> None:
    tracks = [recommender.track_ids[n % 50] for n in range(400)]
    chat = [{"role": "system", "content": "Only jazz."}, *played(*tracks, then="the last word")]
    messages = recommender.messages(chat)
    calls = 0
    encode = recommender.tokenizer.chat_ids

    def counted(*arguments: Any) -> list[int]:
        nonlocal calls
        calls += 1
        return encode(*arguments)

    recommender.tokenizer.chat_ids = counted  # type: ignore[method-assign]
    try:
        ids = recommender.prompt_ids(messages)
    finally:
        del recommender.tokenizer.chat_ids
    limit = recommender.model.config.max_position_embeddings
    text = recommender.tokenizer.decode(ids)
    assert len(ids) <= limit
    assert calls < 20
    assert "Only jazz." in text
    assert "the last word" in text
    blocks = recommender.tokenizer.parse_blocks(ids)
    assert blocks == [recommender.codes(track) for track in tracks[-len(blocks) :]]
    turn = (len(ids) - 60) // len(blocks)
    assert len(ids) > limit - 300 - turn
    assert recommender.chat(chat, seed=0).tracks


# --- the model folder ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = copy.deepcopy(tiny_model)
    model.config.talkplay_codebook_hash = tokenizer.config.codebook_hash
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_saved_folder_answers_as_before(recommender: Recommender, model_folder: Path) -> None:
    loaded = Recommender.from_pretrained(model_folder, device="cpu")
    assert loaded.chat(REQUEST, seed=3) == recommender.chat(REQUEST, seed=3)
    assert loaded.examples == recommender.examples
    assert loaded.examples


def test_the_folder_loads_without_this_package(model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert type(model) is LlamaForCausalLM
    assert len(tokenizer) == model.config.vocab_size
    assert not type(tokenizer).__module__.startswith("talkplay_hf")


@pytest.mark.slow
def test_the_folder_loads_where_this_package_cannot_be_imported(model_folder: Path) -> None:
    code = (
        "import sys; sys.modules['talkplay_hf'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"folder = {str(model_folder)!r}\n"
        "model = AutoModelForCausalLM.from_pretrained(folder)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'hi'}],"
        " add_generation_prompt=True, return_tensors='pt')\n"
        "print(model.generate(**ids, max_new_tokens=3).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def copied(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (files.TALKPLAY_CONFIG, Path.unlink),
        (files.TALKPLAY_CONFIG, truncate),
        (files.CODEBOOKS, Path.unlink),
        (files.CODEBOOKS, truncate),
        (files.TOKEN_CATALOG, Path.unlink),
        (files.TOKEN_CATALOG, truncate),
        ("config.json", Path.unlink),
        ("config.json", truncate),
        ("model.safetensors", Path.unlink),
        ("model.safetensors", truncate),
        ("tokenizer.json", Path.unlink),
        ("tokenizer.json", truncate),
        ("tokenizer_config.json", truncate),
    ],
)
def test_a_missing_or_damaged_file_is_an_artefact_error(
    model_folder: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = copied(model_folder, tmp_path)
    damage(folder / name)
    with pytest.raises(ArtifactError) as raised:
        Recommender.from_pretrained(folder, device="cpu")
    assert str(raised.value).strip()
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        Recommender.from_pretrained(tmp_path / "nowhere")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / files.TALKPLAY_CONFIG
    files.write_json(path, files.read_json(path) | changes)


def test_other_codebooks_are_refused_by_name(model_folder: Path, tmp_path: Path) -> None:
    folder = copied(model_folder, tmp_path)
    change_config(folder, codebook_hash="f" * 64)
    with pytest.raises(ArtifactError, match=r"trained with the codebooks .*ffffffffffff"):
        Recommender.from_pretrained(folder, device="cpu")


def test_another_vocabulary_is_refused(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer
) -> None:
    small = copy.deepcopy(tiny_model)
    small.resize_token_embeddings(len(tokenizer) - 1)
    with pytest.raises(ArtifactError, match=f"the tokenizer {len(tokenizer)}"):
        Recommender(small, tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99},
        {"codes": [4, 4, 4, 4, 4]},
        {"unknown": 1},
        {"codes": [4, 4, 4, 4], "modalities": ["a", "b", "c", "d"], "lookup_weights": [4, 3, 2, 1]},
    ],
)
def test_a_config_of_something_else_is_refused(
    model_folder: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = copied(model_folder, tmp_path)
    change_config(folder, **change)
    with pytest.raises(TalkPlayError):
        Recommender.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(
    "codes",
    [
        np.full((60, 5), 9, dtype=np.int32),
        np.full((60, 5), -1, dtype=np.int32),
        np.zeros((60, 4), dtype=np.int32),
    ],
)
def test_a_token_catalog_of_other_codebooks_is_refused(
    model_folder: Path, tmp_path: Path, recommender: Recommender, codes: np.ndarray
) -> None:
    folder = copied(model_folder, tmp_path)
    write_token_catalog(recommender.catalog, codes, folder / files.TOKEN_CATALOG)
    with pytest.raises(ArtifactError, match=r"catalog\.parquet"):
        Recommender.from_pretrained(folder, device="cpu")


def test_a_grown_catalogue_can_be_swapped_in(
    model_folder: Path, tmp_path: Path, recommender: Recommender
) -> None:
    """The codebooks are the identity; the catalogue may change under them."""
    folder = copied(model_folder, tmp_path)
    write_token_catalog(
        recommender.catalog, np.zeros((60, 5), dtype=np.int32), folder / files.TOKEN_CATALOG
    )
    swapped = Recommender.from_pretrained(folder, device="cpu")
    assert len(swapped.rank(REQUEST, k=1)) == 60
    assert swapped.chat(REQUEST, seed=0).codes == ((0, 0, 0, 0, 0),)
