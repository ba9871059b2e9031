"""Training rows: what is in them and what counts for the loss."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import pyarrow as pa
import pytest

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.errors import InputError
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.data import IGNORED, continuation_rows, conversation_rows

Codes = dict[str, list[int]]


@pytest.fixture(scope="module")
def codes(tokenizer: TalkPlayTokenizer) -> Codes:
    known, values = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    return dict(zip(known.track_ids, values.tolist(), strict=True))


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
