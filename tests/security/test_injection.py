"""No text of a user, a catalogue or a writer becomes a control or music token.

The slow run counts its strings: more than 15,000 different ones, each through the prompt of a chat
as a message of every role and through training rows. The default suite takes every 23rd.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hostile import DISGUISES, batched, grown, halves, llama3, qwen, smollm2, strings
from transformers import AutoTokenizer

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.conversations.simulation.simulator import simulate
from talkplay_hf.recommend.interop.grammars import answer_regex
from talkplay_hf.recommend.pipeline import RecommendationPipeline, _Asked
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, template_rows
from talkplay_hf.training.rows.encode import RowReport, encode_conversations

LEAST = 15_000
FEW = 23
CODES = (1, 0, 1, 0, 1)
ROLES = ("system", "user", "assistant")
TOKENIZERS: dict[str, Callable[[], TalkPlayTokenizer]] = {
    "llama3": llama3,
    "smollm2": smollm2,
    "qwen": qwen,
    "scratch": lambda: grown(train_bpe(["play some calm piano music", "Here it is."]), codes=8),
}
STEPS = pytest.mark.parametrize(
    "step", [FEW, pytest.param(1, marks=pytest.mark.slow)], ids=["few", "all"]
)
KINDS = pytest.mark.parametrize("kind", list(TOKENIZERS))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TalkPlayTokenizer]:
    found = {}
    for name, make in TOKENIZERS.items():
        tokenizer = make()
        codes = tuple(
            sum(one.startswith(f"<|{modality}-") for one in tokenizer.added_tokens_encoder)
            for modality in ("playlist", "semantic", "metadata", "lyrics", "audio")
        )
        config = TalkPlayConfig(codes, "base", len(tokenizer) - 2 - sum(codes), "", "")
        tokenizer.__dict__["config"] = config
        found[name] = tokenizer
    return found


def controls(tokenizer: TalkPlayTokenizer, ids: Sequence[int]) -> Counter[int]:
    known = tokenizer.__dict__.setdefault("_known", frozenset(tokenizer.added_tokens_decoder))
    return Counter(token for token in ids if token in known)


def texts_of(tokenizer: TalkPlayTokenizer, step: int) -> list[str]:
    return list(dict.fromkeys(strings(list(tokenizer.added_tokens_encoder))))[::step]


def chat_of(parts: Sequence[str]) -> list[Message]:
    """A system message, then turns of user, music and reply, all of given text."""
    first, *rest = parts
    messages = [Message("system", first)]
    for at, text in enumerate(rest):
        role = ("user", "assistant")[at % 2]
        messages += [Message("music", track_id="t")] * (role == "assistant")
        messages.append(Message(role, text))
    return messages


def in_a_chat(tokenizer: TalkPlayTokenizer, parts: Sequence[str]) -> bool:
    """Whether a chat of these texts has the tokens of one of harmless texts, and no others."""
    chat, harmless = chat_of(parts), chat_of(["a"] * len(parts))
    blocks = [CODES] * sum(one.role == "music" for one in chat)
    ids = tokenizer.chat_ids(chat, blocks)
    same = controls(tokenizer, ids) == controls(tokenizer, tokenizer.chat_ids(harmless, blocks))
    return same and tokenizer.parse_blocks(ids) == blocks


@pytest.mark.slow
def test_there_are_as_many_strings_as_are_spoken_of(
    made: dict[str, TalkPlayTokenizer],
) -> None:
    found = {text for tokenizer in made.values() for text in texts_of(tokenizer, 1)}
    spelled = sum(
        any(token in text for token in tokenizer.added_tokens_encoder)
        for tokenizer in made.values()
        for text in texts_of(tokenizer, 1)
    )
    print(f"{len(found):,} different strings, {spelled:,} of which spell a token outright")
    assert len(found) >= LEAST
    assert spelled >= LEAST // 4


@STEPS
@KINDS
def test_no_message_of_a_chat_becomes_a_token(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    tokenizer = made[kind]
    texts = texts_of(tokenizer, step)
    # 41 texts a chat, so that each stands under another role than its neighbours
    wrong = [part for part in batched(texts, 41) if not in_a_chat(tokenizer, part)]
    assert wrong == []


@STEPS
@KINDS
def test_no_token_comes_together_across_messages(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    tokenizer = made[kind]
    pairs = list(halves(list(tokenizer.added_tokens_encoder)))[::step]
    wrong = [
        part
        for part in batched(pairs, 20)
        if not in_a_chat(tokenizer, [half for pair in part for half in pair])
    ]
    assert wrong == []


@STEPS
@KINDS
def test_no_text_of_a_conversation_becomes_a_token_of_a_training_row(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    tokenizer = made[kind]
    texts = texts_of(tokenizer, step)
    # a conversation of few texts has no answer to learn from
    texts += texts[: -len(texts) % 21]
    codes = {"t": list(CODES)}

    def rows(parts: list[tuple[str, ...]]) -> list[Counter[int]]:
        talks = [Conversation(str(at), tuple(chat_of(part))) for at, part in enumerate(parts)]
        report = RowReport()
        made_rows = encode_conversations(talks, tokenizer, codes, report, max_length=10**6)
        return [controls(tokenizer, ids.tolist()) for ids, _ in made_rows]

    parts = list(batched(texts, 21))
    harmless = rows([("a",) * len(part) for part in parts])
    found = rows(parts)
    assert len(found) == len(parts)
    wrong = [part for part, one, other in zip(parts, found, harmless, strict=True) if one != other]
    assert wrong == []


@STEPS
@KINDS
def test_what_is_defused_stays_so_and_is_text(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    tokenizer = made[kind]
    defused = [tokenizer.defuse(text) for text in texts_of(tokenizer, step)]
    for text, ids in zip(defused, tokenizer(defused)["input_ids"], strict=True):
        assert not controls(tokenizer, ids), text
        assert tokenizer.defuse(text) == text


@STEPS
@KINDS
def test_the_regex_lets_no_reply_spell_a_token(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    tokenizer = made[kind]
    pattern = re.compile(answer_regex(tokenizer.config))
    block = tokenizer.decode(tokenizer.block_ids(CODES))
    assert pattern.fullmatch(f"{block}Here it is <3")
    texts = texts_of(tokenizer, step)
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        if controls(tokenizer, ids):
            assert not pattern.fullmatch(block + text), text


@STEPS
@KINDS
def test_the_plain_tokenizer_reads_no_token_where_it_is_told_to_sanitize(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    """What the saved folder is worth without this package."""
    tokenizer = made[kind]
    with tempfile.TemporaryDirectory() as folder:
        super(TalkPlayTokenizer, tokenizer).save_pretrained(folder)
        config = Path(folder) / "tokenizer_config.json"
        text = config.read_text("utf-8").replace("TalkPlayTokenizer", "PreTrainedTokenizerFast")
        config.write_text(text, "utf-8")
        plain = AutoTokenizer.from_pretrained(folder)
    assert type(plain) is not TalkPlayTokenizer
    texts = texts_of(tokenizer, step * 5)
    for part in batched(texts, 41):
        chat = chat_of(part)
        blocks = [CODES] * sum(one.role == "music" for one in chat)
        ids = plain.apply_chat_template(
            template_rows(chat, blocks),
            add_generation_prompt=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
        neutral = tokenizer.chat_ids(chat_of(["a"] * len(part)), blocks)
        assert controls(tokenizer, ids) == controls(tokenizer, neutral), part


def hostile_catalog(tokenizer: TalkPlayTokenizer, step: int) -> Catalog:
    """Tracks and playlists of which every text is hostile."""
    texts = texts_of(tokenizer, step)
    some = [texts[at : at + 6] for at in range(0, len(texts) - 6, 6)][:200]
    tracks = [
        Track(f"t{at}", a, b, album=c, tags=(d, "calm"), lyrics=e, caption=f, release_date="1999")
        for at, (a, b, c, d, e, f) in enumerate(some)
    ]
    ids = [track.track_id for track in tracks]
    playlists = [
        Playlist(f"p{at}", tuple(ids[at : at + 8]), texts[at], texts[-at], f"2001-01-{at + 1:02d}")
        for at in range(0, min(len(ids) - 8, 28), 2)
    ]
    return Catalog.from_tracks(tracks, playlists)


@STEPS
@KINDS
def test_no_text_of_a_catalogue_becomes_a_token_of_a_training_row(
    made: dict[str, TalkPlayTokenizer], kind: str, step: int
) -> None:
    """Titles, artists, albums, tags, lyrics and names of playlists, by way of the simulator."""
    tokenizer = made[kind]
    catalog = hostile_catalog(tokenizer, max(step // 4, 1))
    talks = simulate(catalog, count=100 // step + 4)
    codes = {track_id: list(CODES) for track_id in catalog.track_ids}
    said = " ".join(one.content for talk in talks for one in talk.messages)
    assert any(token in said for token in tokenizer.added_tokens_encoder)
    report = RowReport()
    rows = list(encode_conversations(talks, tokenizer, codes, report, max_length=10**6))
    assert report.defused > 0
    for talk, (ids, _) in zip(talks, rows, strict=True):
        played = sum(message.role == "music" for message in talk.messages)
        assert tokenizer.parse_blocks(ids.tolist()) == [CODES] * played
        harmless = Conversation(
            talk.conversation_id,
            tuple(Message(one.role, one.content and "a", one.track_id) for one in talk.messages),
        )
        [(plain, _)] = encode_conversations(
            [harmless], tokenizer, codes, RowReport(), max_length=10**6
        )
        assert controls(tokenizer, ids.tolist()) == controls(tokenizer, plain.tolist())


@STEPS
def test_no_message_becomes_a_token_of_a_recommenders_prompt(
    recommender: Recommender, step: int
) -> None:
    """The demo tokenizer, with a history, as `chat`, `rank` and the pipeline read it."""
    tokenizer = recommender.tokenizer
    track = recommender.track_ids[0]
    pipe = RecommendationPipeline(recommender)
    texts = texts_of(tokenizer, step)
    for part in batched(texts, 5):
        chat = [
            {"role": "system", "content": part[0]},
            {"role": "user", "content": part[-1]},
            {"role": "music", "track_id": track},
            *({"role": "assistant", "content": text} for text in part[1:2]),
            {"role": "user", "content": part[len(part) // 2]},
        ]
        harmless = [{**one, "content": "a"} if "content" in one else one for one in chat]
        neutral = controls(tokenizer, recommender.prompt_ids(harmless, history=[track], room=-4000))
        ids = recommender.prompt_ids(chat, history=[track], room=-4000)
        assert controls(tokenizer, ids) == neutral, part
        read = pipe.preprocess(_Asked(chat))["asked"].chat
        assert recommender.prompt_ids(read, history=[track], room=-4000) == ids


def test_a_disguise_is_seen_through_by_the_test_itself(
    made: dict[str, TalkPlayTokenizer],
) -> None:
    """Without the guard, plain spelling does become a token: the checks above can fail."""
    tokenizer = made["qwen"]
    opened = [
        name
        for name, disguise in DISGUISES.items()
        if controls(tokenizer, tokenizer.encode(disguise("<|audio-1|>")))
    ]
    assert {"plain", "twice", "nested", "isolated", "a block", "a turn"} <= set(opened)
    chat = [{"role": "user", "content": "<|audio-1|>"}]
    naive = tokenizer.apply_chat_template(chat, return_dict=False)
    [audio] = tokenizer.encode("<|audio-1|>")
    assert audio in naive
    assert audio not in tokenizer.chat_ids([Message("user", "<|audio-1|>")], [])
