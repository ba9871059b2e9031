"""Training rows: what is in them, what counts for the loss, and how they are cut."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_lists import continuation_rows, conversation_rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.errors import InputError
from talkplay_hf.tokens.tokenizer import HEADER_STYLES, TalkPlayTokenizer, template_rows
from talkplay_hf.training.rows.encode import (
    BATCH,
    IGNORED,
    RowReport,
    draw_continuations,
)

Codes = dict[str, list[int]]


@pytest.fixture(scope="module")
def chatml_tokenizer(tokenizer: TalkPlayTokenizer, tokenizer_folder: Path) -> TalkPlayTokenizer:
    """ChatML headers and, as in SmolLM2, a first token that is the header's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({sign: at for at, sign in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    base = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    grown = TalkPlayTokenizer.grow(base, tokenizer.config.music_tokens)
    grown.attach(tokenizer_folder)
    return grown


@pytest.fixture(params=["tokenizer", "chatml_tokenizer"])
def any_tokenizer(request: pytest.FixtureRequest) -> TalkPlayTokenizer:
    found: TalkPlayTokenizer = request.getfixturevalue(request.param)
    return found


def dialogue(*messages: Message, name: str = "c1") -> Conversation:
    return Conversation(name, messages)


def labelled(ids: Sequence[int], labels: Sequence[int]) -> list[list[int]]:
    """The runs of ids that count for the loss; a label is the id at its place."""
    runs = []
    for on, pairs in groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORED):
        run = list(pairs)
        if on:
            assert all(token == label for token, label in run)
            runs.append([token for token, _ in run])
    return runs


def text_ids(tokenizer: TalkPlayTokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_labels_are_replies_blocks_and_ends_of_turn(tokenizer: TalkPlayTokenizer, codes: Codes):
    one, two = list(codes)[:2]
    chat = dialogue(
        Message("system", "Recommend music."),
        Message("user", "Play some slow jazz."),
        Message("music", track_id=one, source="playlist"),
        Message("assistant", "Here is a slow one."),
        Message("user", "Now something faster"),
        Message("music", track_id=two, source="playlist"),
        Message("assistant", "This is faster!"),
    )
    rows, report = conversation_rows([chat], tokenizer, codes)
    (ids,), (labels,) = rows["input_ids"], rows["labels"]
    end = tokenizer.eos_token_id
    expected = [
        [*tokenizer.block_ids(codes[one]), *text_ids(tokenizer, "Here is a slow one."), end],
        [*tokenizer.block_ids(codes[two]), *text_ids(tokenizer, "This is faster!"), end],
    ]
    assert labelled(ids, labels) == expected
    assert report.label_tokens == sum(map(len, expected))
    assert (report.rows, report.shortened, report.dropped, report.defused) == (1, 0, 0, 0)
    text = tokenizer.decode(ids)
    assert "Recommend music." in text
    assert "Play some slow jazz." in text


def test_rejected_music_is_masked_unless_asked_for(tokenizer: TalkPlayTokenizer, codes: Codes):
    bad, good = list(codes)[:2]
    chat = dialogue(
        Message("user", "Play jazz"),
        Message("music", track_id=bad, source="negative"),
        Message("assistant", "Try this."),
        Message("user", "No, something else"),
        Message("music", track_id=good, source="playlist"),
        Message("assistant", "Then this."),
    )
    end = tokenizer.eos_token_id
    replies = [[*text_ids(tokenizer, text), end] for text in ("Try this.", "Then this.")]
    blocks = [tokenizer.block_ids(codes[track]) for track in (bad, good)]
    rows, _ = conversation_rows([chat], tokenizer, codes)
    assert labelled(rows["input_ids"][0], rows["labels"][0]) == [replies[0], blocks[1] + replies[1]]
    paper, _ = conversation_rows([chat], tokenizer, codes, train_on_negatives=True)
    assert paper["input_ids"] == rows["input_ids"]
    assert labelled(paper["input_ids"][0], paper["labels"][0]) == [
        blocks[0] + replies[0],
        blocks[1] + replies[1],
    ]


def test_long_conversations_lose_their_oldest_turns_and_never_part_of_a_block(
    tokenizer: TalkPlayTokenizer, codes: Codes, conversations: list[Conversation]
):
    limit = 260
    full, whole = conversation_rows(conversations, tokenizer, codes, max_length=100_000)
    rows, report = conversation_rows(conversations, tokenizer, codes, max_length=limit)
    lengths = [len(ids) for ids in full["input_ids"]]
    assert whole.shortened == whole.dropped == 0
    too_long = sum(length > limit for length in lengths)
    assert too_long > 0
    assert report.shortened + report.dropped == too_long
    assert report.rows == len(rows["input_ids"]) == len(conversations) - report.dropped
    assert max(map(len, rows["input_ids"])) <= limit
    ends = {tuple(ids[-20:]) for ids in full["input_ids"]}
    for ids in rows["input_ids"]:
        assert None not in tokenizer.parse_blocks(ids)
        assert ids.count(tokenizer.start_of_music_id) == ids.count(tokenizer.end_of_music_id) > 0
        music = set(range(int(tokenizer.code_offsets[0]), int(tokenizer.code_offsets[-1])))
        assert sum(token in music for token in ids) == 5 * ids.count(tokenizer.start_of_music_id)
        assert tuple(ids[-20:]) in ends  # the newest turn is whole


def test_shortening_keeps_the_system_message_and_the_newest_turns(
    tokenizer: TalkPlayTokenizer, codes: Codes
):
    tracks = list(codes)[:4]
    turns = [
        message
        for number, track in enumerate(tracks)
        for message in (
            Message("user", f"Request number {number}"),
            Message("music", track_id=track, source="playlist"),
            Message("assistant", f"Reply number {number}"),
        )
    ]
    chat = dialogue(Message("system", "Be brief."), *turns)
    full, _ = conversation_rows([chat], tokenizer, codes)
    limit = len(full["input_ids"][0]) - 1
    rows, report = conversation_rows([chat], tokenizer, codes, max_length=limit)
    shorter, _ = conversation_rows([dialogue(chat.messages[0], *turns[3:])], tokenizer, codes)
    assert rows == shorter
    assert report.shortened == 1


def test_a_turn_that_does_not_fit_is_dropped_and_counted(
    tokenizer: TalkPlayTokenizer, codes: Codes
):
    chat = dialogue(Message("user", "long " * 300), Message("music", track_id=next(iter(codes))))
    rows, report = conversation_rows([chat], tokenizer, codes, max_length=64)
    assert rows == {"input_ids": [], "labels": []}
    assert (report.rows, report.dropped, report.shortened, report.label_tokens) == (0, 1, 0, 0)


def test_spelled_control_tokens_stay_text(tokenizer: TalkPlayTokenizer, codes: Codes):
    track = next(iter(codes))

    def made(user: str, reply: str) -> tuple[list[int], int]:
        chat = dialogue(
            Message("user", user), Message("music", track_id=track), Message("assistant", reply)
        )
        rows, report = conversation_rows([chat], tokenizer, codes)
        return rows["input_ids"][0], report.defused

    special = set(tokenizer.added_tokens_encoder.values())
    plain, none = made("Play jazz", "Here")
    spelled, two = made(
        "Play <|audio-0|><|eot_id|><start_of_music>",
        "<|start_header_id|>user<end_of_music> <|pad|>",
    )
    assert (none, two) == (0, 2)
    assert [i for i in spelled if i in special] == [i for i in plain if i in special]
    assert "audio-0" in tokenizer.decode(spelled).replace(" ", "")


def test_an_unknown_track_is_refused_by_name(tokenizer: TalkPlayTokenizer, codes: Codes):
    chat = dialogue(Message("user", "hi"), Message("music", track_id="nope"), name="talk-7")
    with pytest.raises(InputError, match=r"'talk-7'.*'nope'"):
        conversation_rows([chat], tokenizer, codes)


@pytest.mark.parametrize("negative_only", [False, True])
def test_a_conversation_with_nothing_to_learn_is_refused(
    negative_only: bool, tokenizer: TalkPlayTokenizer, codes: Codes
):
    messages = [Message("user", "hello")]
    if negative_only:
        messages.append(Message("music", track_id=next(iter(codes)), source="negative"))
    with pytest.raises(InputError, match=r"'mute'.*nothing"):
        conversation_rows([dialogue(*messages, name="mute")], tokenizer, codes)


def test_all_conversations_with_nothing_to_learn_are_one_error(
    tokenizer: TalkPlayTokenizer, codes: Codes
):
    mute = [dialogue(Message("user", "hello"), name=f"mute-{number}") for number in range(3)]
    fine = dialogue(Message("user", "hello"), Message("assistant", "hi"))
    with pytest.raises(InputError, match=r"'mute-0' \(and 3 more conversations\).*nothing"):
        conversation_rows([fine, *mute, dialogue(name="empty")], tokenizer, codes)


def test_a_rejected_track_with_a_reply_is_something_to_learn_from(
    tokenizer: TalkPlayTokenizer, codes: Codes
):
    chat = dialogue(
        Message("user", "hi"),
        Message("music", track_id=next(iter(codes)), source="negative"),
        Message("assistant", "This?"),
    )
    _, report = conversation_rows([chat], tokenizer, codes)
    assert report.label_tokens == len(text_ids(tokenizer, "This?")) + 1


def test_what_is_left_without_labels_after_shortening_is_dropped(
    tokenizer: TalkPlayTokenizer, codes: Codes
):
    chat = dialogue(
        Message("user", "long " * 100),
        Message("music", track_id=next(iter(codes)), source="playlist"),
        Message("user", "Thanks"),
    )
    rows, report = conversation_rows([chat], tokenizer, codes, max_length=120)
    assert rows["input_ids"] == []
    assert (report.dropped, report.shortened) == (1, 0)


def test_an_answer_that_ends_in_a_sign_of_several_tokens_is_learnt_whole(
    tokenizer: TalkPlayTokenizer, codes: Codes
):
    track = next(iter(codes))
    chat = dialogue(
        Message("user", "hi"),
        Message("assistant", "Listen \U0001f3b5"),
        Message("music", track_id=track),
    )
    rows, _ = conversation_rows([chat], tokenizer, codes)
    answer = text_ids(tokenizer, "Listen \U0001f3b5") + tokenizer.block_ids(codes[track])
    assert labelled(rows["input_ids"][0], rows["labels"][0]) == [[*answer, tokenizer.eos_token_id]]


def test_text_that_becomes_a_header_in_spite_of_all_is_refused(
    tokenizer: TalkPlayTokenizer, codes: Codes, monkeypatch: pytest.MonkeyPatch
):
    chat = dialogue(
        Message("user", "hi<|start_header_id|>user"), Message("assistant", "hello"), name="sly"
    )
    monkeypatch.setattr(TalkPlayTokenizer, "has_control_tokens", lambda self, text: False)
    with pytest.raises(InputError, match=r"'sly'.*control token"):
        conversation_rows([chat], tokenizer, codes)


# --- any conversation -------------------------------------------------------------------------

PIECES = (
    *("<start_of_music>", "<end_of_music>", "<|playlist-0|>", "<|audio-1|>", "<|eot_id|>"),
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "user", "<|"),
    *("\n", "\n\n", " ", "assistant", "{{ begin }}", "{% generation %}", "\u00e9\U0001f3b5"),
)
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=12).map("".join)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["user", "user", "assistant", "system"]), TEXTS),
    st.builds(
        lambda at, source: Message("music", track_id=str(at), source=source),
        st.integers(0, 59),
        st.sampled_from(["playlist", "negative"]),
    ),
)


def spelled(
    messages: Sequence[Message], tokenizer: TalkPlayTokenizer, codes: Codes, negatives: bool
) -> tuple[list[int], list[int]]:
    """Ids and labels put together message by message, without the chat template."""
    style = "chatml" if tokenizer.eos_token == "<|im_end|>" else "llama3"
    header_open, header_close, end_of_turn, after = HEADER_STYLES[style]
    task = (
        "You are a music expert. Your task is conversational retrieval: Predict the next music "
        "item based on the given chat history."
    )
    if messages and messages[0].role == "system":
        task, messages = tokenizer.defuse(messages[0].content).strip(), messages[1:]
    dates = "Cutting Knowledge Date: December 2023\nToday Date: 20 Jan 2025\n\n"
    row: list[tuple[int, int]] = []

    def say(text: str, counts: bool = False) -> None:
        row.extend((i, i if counts else IGNORED) for i in text_ids(tokenizer, text))

    def header(role: str) -> None:
        say(header_open + role + header_close)

    say(tokenizer.bos_token)
    say(header_open + "system" + header_close + dates + task + end_of_turn + after)
    answers = ("music", "assistant")
    opened = False
    for at, message in enumerate(messages):
        then = messages[at + 1] if at + 1 < len(messages) else None
        if message.role not in answers:
            say(
                header_open
                + "user"
                + header_close
                + tokenizer.defuse(message.content).strip()
                + end_of_turn
                + after
            )
            continue
        if not opened:
            header("assistant")
        counts = negatives or message.source != "negative"
        if message.role == "music":
            block = tokenizer.block_ids(codes[message.track_id or ""])
            row.extend((i, i if counts else IGNORED) for i in block)
        else:
            say(tokenizer.defuse(message.content).strip(), counts)
        same = message.role == "assistant" and then is not None and then.role == "assistant"
        opened = then is not None and then.role in answers and not same
        if not opened:
            say(end_of_turn, counts)
            say(after)
    return [i for i, _ in row], [label for _, label in row]


@settings(deadline=None, max_examples=150)
@given(
    messages=st.lists(MESSAGES, min_size=1, max_size=10),
    max_length=st.integers(120, 700),
    negatives=st.booleans(),
    style=st.sampled_from(["llama3", "chatml"]),
)
def test_any_conversation_is_cut_to_whole_turns_and_labelled_where_it_answers(
    tokenizer: TalkPlayTokenizer,
    chatml_tokenizer: TalkPlayTokenizer,
    codes: Codes,
    messages: list[Message],
    max_length: int,
    negatives: bool,
    style: str,
):
    tokenizer = tokenizer if style == "llama3" else chatml_tokenizer
    codes = {str(at): value for at, value in enumerate(codes.values())}
    head = messages[:1] if messages[0].role == "system" else []
    users = [at for at, message in enumerate(messages) if message.role == "user"]
    kept = [messages, *(head + messages[at:] for at in users[1:])]
    wanted = [spelled(one, tokenizer, codes, negatives) for one in kept]
    chat = dialogue(*messages)
    options = {"max_length": max_length, "train_on_negatives": negatives}
    if all(label == IGNORED for label in wanted[0][1]):
        with pytest.raises(InputError, match="nothing"):
            conversation_rows([chat], tokenizer, codes, **options)
        return
    rows, report = conversation_rows([chat], tokenizer, codes, **options)
    fitting = [one for one in wanted if len(one[0]) <= max_length][:1]
    learnt = [one for one in fitting if any(label != IGNORED for label in one[1])]
    assert list(zip(rows["input_ids"], rows["labels"], strict=True)) == learnt
    assert report.dropped == 1 - len(learnt)
    assert report.shortened == (len(learnt) and learnt[0] != wanted[0])
    for ids, labels in learnt:
        assert len(ids) == report.tokens == report.longest <= max_length
        assert sum(label != IGNORED for label in labels) == report.label_tokens
        assert None not in tokenizer.parse_blocks(ids)


def test_a_batch_of_conversations_is_encoded_like_each_of_them(
    tokenizer: TalkPlayTokenizer, codes: Codes, conversations: list[Conversation]
):
    many = (conversations * (1 + BATCH // len(conversations)))[: BATCH + 3]
    rows, report = conversation_rows(many, tokenizer, codes, max_length=260)
    each = [conversation_rows([one], tokenizer, codes, max_length=260)[0] for one in conversations]
    alone = [ids for one in each for ids in one["input_ids"]]
    assert report.rows == len(rows["input_ids"])
    assert rows["input_ids"][: len(alone)] == alone
    assert report.tokens == sum(map(len, rows["input_ids"]))


# --- playlist continuation --------------------------------------------------------------------


def split_catalog(world: Catalog) -> tuple[Catalog, set[str], set[str]]:
    """Train playlists over one half of the tracks, held-out ones over the other."""
    ids = world.track_ids
    train, held_out = ids[:30], ids[30:]
    lists = [(train[i : i + 12], "train") for i in range(0, 18, 3)]
    lists += [(held_out[i : i + 12], s) for i in range(0, 18, 3) for s in ("test", "validation")]
    table = pa.table(
        {
            "playlist_id": [f"p{i}" for i in range(len(lists))],
            "track_ids": [tracks for tracks, _ in lists],
            "split": [split for _, split in lists],
        }
    )
    return Catalog(world.tracks, table), set(train), set(held_out)


def test_continuation_continues_training_playlists_only(
    world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes
):
    catalog, _, _ = split_catalog(world)
    assert set(playlist_splits(catalog).values()) == {"train", "validation", "test"}
    # every track gets a tuple of its own, so that blocks can be told apart
    sizes = tokenizer.config.codes
    own = {}
    for number, track in enumerate(catalog.track_ids):
        digits = []
        for size in sizes:
            digits.append(number % size)
            number //= size
        own[track] = digits
    back = {tuple(value): track for track, value in own.items()}
    assert len(back) == len(own)
    rows = continuation_rows(catalog, tokenizer, own, label_tokens=3000, max_length=1024, seed=3)
    splits = playlist_splits(catalog)
    allowed = {
        pair
        for playlist in catalog.iter_playlists()
        if splits[playlist.playlist_id] == "train"
        for pair in zip(playlist.track_ids, playlist.track_ids[1:], strict=False)
    }
    seen = set()
    for ids in rows["input_ids"]:
        blocks = tokenizer.parse_blocks(ids)
        assert None not in blocks
        played = [back[block] for block in blocks if block is not None]
        seen |= set(pairwise(played))
    assert seen
    assert seen <= allowed


def test_continuation_labels_start_at_a_block_after_the_first(
    world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes
):
    rows = continuation_rows(world, tokenizer, codes, label_tokens=2000, max_length=400, seed=1)
    offsets = set()
    for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        (run,) = labelled(ids, labels)
        assert run[-1] == tokenizer.eos_token_id
        assert ids[-len(run) :] == run
        blocks = tokenizer.parse_blocks(run)
        assert run[0] == tokenizer.start_of_music_id
        assert len(run) == 7 * len(blocks) + 1
        whole = tokenizer.parse_blocks(ids)
        assert None not in whole
        assert 1 <= len(whole) - len(blocks) < len(whole)
        assert len(ids) <= 400
        offsets.add(len(whole) - len(blocks))
    assert len(offsets) > 2


def test_continuation_reaches_its_budget_and_little_more(
    world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes
):
    for wanted in (1, 500, 1500):
        rows = continuation_rows(world, tokenizer, codes, label_tokens=wanted, max_length=300)
        counts = [sum(label != IGNORED for label in labels) for labels in rows["labels"]]
        assert sum(counts) >= wanted
        assert sum(counts) - counts[-1] < wanted


def test_continuation_is_seeded(world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes):
    made = [
        continuation_rows(world, tokenizer, codes, label_tokens=600, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_continuation_without_training_playlists_is_empty(
    world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes
):
    catalog = Catalog(world.tracks, world.playlists.slice(0, 0))
    assert continuation_rows(catalog, tokenizer, codes, label_tokens=500)["input_ids"] == []


def test_continuation_needs_room_for_two_tracks(
    world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes
):
    with pytest.raises(InputError, match="no room for two tracks"):
        continuation_rows(world, tokenizer, codes, label_tokens=500, max_length=40)


def test_continuations_are_what_the_chat_template_writes(
    world: Catalog, any_tokenizer: TalkPlayTokenizer, codes: Codes
):
    rows = continuation_rows(world, any_tokenizer, codes, label_tokens=1000, seed=2)
    for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        blocks = any_tokenizer.parse_blocks(ids)
        learnt = len(any_tokenizer.parse_blocks([label for label in labels if label != IGNORED]))
        chat = template_rows([Message("music")] * len(blocks), [one or () for one in blocks])
        for row in chat[: len(blocks) - learnt]:
            row["train"] = False
        encoded = any_tokenizer.apply_chat_template(
            chat, return_dict=True, return_assistant_tokens_mask=True
        )
        assert encoded["input_ids"] == ids
        assert encoded["assistant_masks"] == [int(label != IGNORED) for label in labels]


def test_the_last_continuation_ends_where_there_are_enough_labels(
    world: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes
):
    for wanted in range(400, 500, 9):
        rows = continuation_rows(world, tokenizer, codes, label_tokens=wanted)
        counted = sum(label != IGNORED for labels in rows["labels"] for label in labels)
        assert wanted <= counted <= wanted + 7


def test_no_playlist_gives_no_continuation(tokenizer: TalkPlayTokenizer, codes: Codes):
    assert list(draw_continuations([], tokenizer, codes, RowReport(), label_tokens=9)) == []
