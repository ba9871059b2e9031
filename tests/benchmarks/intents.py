"""How well intents are found in text: precision and recall by intent.

    python tests/benchmarks/intents.py --cpcd DATA/cpcd/cpcd_train.jsonl

The truth is of two kinds. 100 user messages of human conversations (CPCD), drawn by a seed,
labelled by one person before the cues were tried on them, and given by conversation and turn: the
mistakes on the first 60 were seen while the cues were written, the 40 others are held out. And
messages of the simulator, which knows what it meant; some of its phrases were seen while the cues
were written, so its figures tell of agreement more than of skill. A catalog's artists would find
more of the names that people type without a cue around them; none is given here.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.world import make_world
from talkplay_hf.conversations.intents import detect_intents, taxonomy
from talkplay_hf.conversations.simulation.simulator import simulate

LABELS = """
088a809b1197e964 4 change
115c9ce561cb8f52 1 thank refine artist
1b21b573d6a72bba 2 accept refine artist
2280796ea6908dfc 2 refine activity
34ba1b122d16e550 4 refine sound
379ee7ca7cb09568 2 accept refine artist activity
3d7468d0cdbfaa12 0 open era activity
3e2498abb83fefd6 1 refine artist
3fd5cd1d2d81307c 2 refine artist
432c898c630888ca 0 open greet genre
4f56bfcdda890c30 3 accept refine artist
5a1202aa766b1e88 3 accept refine era genre artist similar
5ad27cf266d09878 0 open similar artist
5b0d3ca9c930a5da 4 accept refine artist
5e15341adedb1b94 5 accept continue similar artist
5ee189ca132bfdac 0 open greet genre mood activity
5f7ba9e701ed4664 1 refine era genre
5f7be039f7542da8 2 continue album thank
607eaee8a0226636 5 accept refine genre
64b54d551e28f90e 2 accept
65c4704e159f692a 2 accept continue artist
6626b822490cc0d4 3 accept continue artist
685999262dd84884 1 refine genre
6dd9f986cc1bdb36 0 open greet genre
706c4a630add7166 3 thank refine track artist
7320dfd12b9ef984 1 refine mood activity
75196a4f8c07a746 1 refine artist
89b89511c9a04480 1 accept continue
8cc360444c897096 4 accept refine artist
90597b48dfa333f8 3 continue artist
92ca2410aca4eb7e 2 reject refine artist sound
95cefaab27fdab10 3 refine artist
9658cf0b7cd68bb6 3 refine artist
98350a31a6c10ca2 1 accept refine sound
9835b1d3a4a1a05e 0 open greet genre activity
9835b1d3a4a1a05e 1 refine artist
9d0fbc23fee81e92 2 accept continue artist
9f98d234e639b54a 8 continue artist
a151417c78c818d0 4 accept continue activity
a1a2eb50c3db2a94 3 accept continue artist
a5376ef7c07e4d1a 6 accept sound track
a5982f36a4de2fbe 3 refine activity
ab97e70b12118ba0 2 accept refine
acb27c1cb40bd3c8 4 accept refine genre artist
b614a5d622b3fe08 3 accept refine artist
b751627f2ba816b8 4 accept continue
b8f140be00452040 2 accept mood
b904380069ef3ac6 3 thank refine artist era album
b9e5ef25d5caa6d0 4 accept continue artist era
ba662097fc9e6f14 2 reject refine similar artist
bb9ae67c3d7821be 1 refine genre
bc0345bc6077e4c2 3 accept reject track sound mood
c8c65e1a6a68751a 1 refine theme
c8e8c2907d86c600 1 refine culture era
c9acca9fb5533de6 3 thank refine similar genre
ca29203a7f10ebc0 1 accept refine artist
d6409d01115ad122 4 accept refine sound
d8dd58f40e3cf0d0 4 accept refine mood era similar
dc2f84454b06be18 0 open greet activity
e21353fcfbdc915c 3 refine artist
"""
# labelled when the cues were done; one message of a line without names does nothing that has one
HELD_OUT = """
12c8af7aa7da2fde 1
12c8af7aa7da2fde 7 refine artist
2026d7623567404a 2 accept refine artist
265fc18e6ad4458e 3 refine artist
2dd5309994eeec3c 4 accept refine artist
33f58441dd26366e 1 thank
33f58441dd26366e 2 continue artist
34ce5b693cf77df0 6 accept thank
3552f92b18f7a5ba 7 continue artist
379ee7ca7cb09568 1 accept refine era artist similar
3cf09fb33fb4ea96 1 thank refine artist
3d32d395071388ce 4 accept reject track artist
5ad27cf266d09878 2 continue artist
5e1c6ef8238c6644 3 refine artist
5ee189ca132bfdac 2 accept refine genre popularity
5efc2ccf90b450c0 2 accept track artist
607eaee8a0226636 6 thank
65777a83395c5cd8 4 refine artist
6f1983a9b8aff9f6 1 refine era genre artist
75196a4f8c07a746 2 accept continue
80fc1ff2d141553a 3 accept continue
83745875e67510be 0 open activity
91f8f9b152fe0014 3 accept refine activity
95b375c6db33d232 3 continue
99ad90f73139e604 2 accept
9d8bc83206861a0a 2 refine era genre
a2c73054ff0baa96 3 thank continue artist
a732ca2b59b98202 2 accept refine artist
a83abb51c8105524 1 refine artist
aa040748eb81a34c 2 correct similar album
adb0a88d6432ca78 2 accept refine artist
af03948a263b8344 3 accept refine artist
b8fc35effb4ddb82 2 relax accept
bd2d851f17071b36 7
bdd09fda79e8ba86 4 accept refine artist
c1fb8734118983c6 2 accept continue artist
c7c8ff0b5a0749ce 1 refine genre
c9b05eb1b9696a9a 0 open greet activity
d3c41768aff05ebc 6 reject accept continue genre similar track
dcb33e36d2bf58bc 1 refine sound
"""
Labelled = tuple[str, bool, frozenset[str]]


def of_cpcd(path: Path, labels: str) -> Iterable[Labelled]:
    """The labelled messages: text, whether it is the first, its intents."""
    with path.open(encoding="utf-8") as lines:
        conversations = {row["id"]: row["turns"] for row in map(json.loads, lines)}
    for line in labels.split("\n")[1:-1]:
        conversation, turn, *intents = line.split()
        text = conversations[conversation][int(turn)]["user_query"]
        yield text, turn == "0", frozenset(intents)


def of_simulator(count: int, tracks: int) -> Iterable[Labelled]:
    """User messages of the simulator that carry their intents."""
    with TemporaryDirectory() as folder:
        make_world(Path(folder) / "world", tracks=tracks, audio=False)
        catalog = Catalog.load(Path(folder) / "world")
        for conversation in simulate(catalog, count=count):
            users = [message for message in conversation.messages if message.role == "user"]
            for number, message in enumerate(users):
                if message.intents and conversation.language in (None, "en"):
                    yield message.content, number == 0, frozenset(message.intents)


def report(name: str, labelled: Iterable[Labelled], wrong: int) -> None:
    """Print precision, recall and counts by intent."""
    hits: Counter[str] = Counter()
    found: Counter[str] = Counter()
    true: Counter[str] = Counter()
    messages = exact = 0
    for text, first, intents in labelled:
        detected = detect_intents(text, first=first)
        hits.update(detected & intents)
        found.update(detected)
        true.update(intents)
        messages += 1
        exact += detected == intents
        if detected != intents and wrong > 0:
            wrong -= 1
            missed, extra = sorted(intents - detected), sorted(detected - intents)
            print(f"  {text!r}: missed {missed}, extra {extra}")
    print(f"\n{name}: {messages} messages, {exact} exactly right")
    print(f"{'intent':<12}{'true':>7}{'found':>7}{'precision':>11}{'recall':>8}")
    rows = [name for name in taxonomy() if true[name] or found[name]]
    for intent in rows:
        print(_row(intent, hits[intent], found[intent], true[intent]))
    print(_row("all", hits.total(), found.total(), true.total()))


def _row(name: str, hits: int, found: int, true: int) -> str:
    precision = f"{hits / found:.2f}" if found else "-"
    recall = f"{hits / true:.2f}" if true else "-"
    return f"{name:<12}{true:>7}{found:>7}{precision:>11}{recall:>8}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cpcd", type=Path, help="cpcd_train.jsonl; left out without it")
    parser.add_argument("--conversations", type=int, default=1000, help="of the simulator")
    parser.add_argument("--tracks", type=int, default=300, help="of its demo world")
    parser.add_argument("--wrong", type=int, default=0, help="how many mistakes to show a set")
    arguments = parser.parse_args()
    if arguments.cpcd is not None:
        report("CPCD", of_cpcd(arguments.cpcd, LABELS), arguments.wrong)
        report("CPCD, held out", of_cpcd(arguments.cpcd, HELD_OUT), arguments.wrong)
    if arguments.conversations:
        labelled = of_simulator(arguments.conversations, arguments.tracks)
        report("simulator", labelled, arguments.wrong)


if __name__ == "__main__":
    main()
