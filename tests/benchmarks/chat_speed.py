"""What a turn of a conversation costs: with and without the cache of earlier turns, and in int8.

    python tests/benchmarks/chat_speed.py MODEL --turns 8

The same conversation is held with each recommender, the rivals in turn at every turn. CPU seconds,
one thread, until the first track is there and until the reply is whole. For int8 also how many of
the ten best tracks are the same.
"""

import argparse
import time

import torch

from talkplay_hf.catalog.schema import Message
from talkplay_hf.recommend.recommender import Recommender

REQUESTS = (
    "Something calm for a rainy evening, please",
    "More like this, but a bit older",
    "Now something with more energy",
    "Another artist, same mood",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--reply", type=int, default=24, help="tokens of a reply at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ways = {
        "no memory": Recommender.from_pretrained(args.model, device="cpu", remember=0),
        "memory": Recommender.from_pretrained(args.model, device="cpu"),
        "memory, int8": Recommender.from_pretrained(args.model, device="cpu", int8=True),
    }
    chat: list[Message] = []
    print("CPU seconds to the first track / to the end of the reply")
    print("| turn | prompt tokens | " + " | ".join(ways) + " | same of the ten best in int8 |")
    print("|" + "---|" * (len(ways) + 3))
    for turn in range(args.turns):
        chat.append(Message("user", REQUESTS[turn % len(REQUESTS)]))
        cells = []
        for way in list(ways) if turn % 2 else reversed(list(ways)):
            first = None
            started = time.process_time()
            for answer in ways[way].stream(chat, seed=turn, max_new_tokens=args.reply):
                if first is None and answer.tracks:
                    first = time.process_time() - started
            cells.append((way, f"{first or 0:.2f} / {time.process_time() - started:.2f}", answer))
        best = {
            way: {one.track.track_id for one in ways[way].rank(chat, 10)[:10]}
            for way in ("memory", "memory, int8")
        }
        same = len(best["memory"] & best["memory, int8"])
        shown = {way: cell for way, cell, _ in cells}
        length = len(ways["memory"].prompt_ids(chat))
        row = " | ".join(shown[way] for way in ways)
        print(f"| {turn + 1} | {length} | {row} | {same} |", flush=True)
        # the conversation goes on from one answer, so that all read the same
        answer = next(answer for way, _, answer in cells if way == "memory")
        played = [Message("music", track_id=track.track_id) for track in answer.tracks]
        chat += [*played, Message("assistant", answer.reply)]


if __name__ == "__main__":
    main()
