"""What the user liked beyond the track that was played is a label of the evaluation only."""

from dataclasses import replace

from row_lists import conversation_rows

from talkplay_hf.catalog.schema import Conversation, Message
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


def with_liked(messages: tuple[Message, ...], liked: tuple[str, ...]) -> tuple[Message, ...]:
    return tuple(
        replace(message, liked=liked) if message.role == "music" else message
        for message in messages
    )


def test_neither_rows_nor_prompts_depend_on_further_liked_tracks(
    conversations: list[Conversation],
    tokenizer: TalkPlayTokenizer,
    codes: dict[str, list[int]],
    recommender: Recommender,
) -> None:
    plain = conversations[:20]
    # one that the model knows and one that would be refused if it were read
    liked = (next(iter(codes)), "nowhere")
    more = [replace(one, messages=with_liked(one.messages, liked)) for one in plain]
    assert conversation_rows(more, tokenizer, codes) == conversation_rows(plain, tokenizer, codes)
    for one, other in zip(plain, more, strict=True):
        at = max(i for i, message in enumerate(one.messages) if message.role == "user")
        assert recommender.prompt_ids(other.messages[: at + 1]) == recommender.prompt_ids(
            one.messages[: at + 1]
        )
