"""2,300 malformed answers: each ends kept, mended or refused by a name, and none is lost."""

import json
import random
import re
from collections import Counter

import pytest
from scripted_answers import FAULTS, Item, Writer

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.conversations.checks.answers import REPAIRS, Limits, judge_answer
from talkplay_hf.conversations.checks.verdict import REASONS, Verdict
from talkplay_hf.conversations.pieces import Piece

ANSWERS = 2300
LIMITS = Limits()
JUNK = "\x00\ud800\ufeff\u202e{}[]\"',:\\`<|>\n\t “”é日🎶0"


@pytest.fixture(scope="module")
def tracks(world: Catalog) -> list[Track]:
    return [world.track_at(row) for row in range(len(world))]


def judged(text: str, piece: Piece, tracks: dict[str, Track]) -> Verdict:
    """A verdict, after what must hold for every one."""
    verdict = judge_answer(text, piece, tracks, LIMITS)
    assert bool(verdict.turns) == verdict.valid
    assert {problem.reason for problem in verdict.problems} <= set(REASONS)
    assert all(problem.detail for problem in verdict.problems)
    assert set(verdict.repairs) <= set(REPAIRS)
    if verdict.valid:
        played = [turn.track_id for turn in verdict.turns]
        assert len(set(played)) == len(played)
        assert set(played) <= set(tracks)
        assert 2 * len(set(played) & set(piece.track_ids)) >= len(piece.track_ids)
    return verdict


def mangled(rng: random.Random, items: list[Item]) -> str:
    """One or two blows of any kind, whose outcome is not known beforehand."""
    text = json.dumps(items, ensure_ascii=rng.random() < 0.5)
    for _ in range(rng.randint(1, 2)):
        place, other = rng.randrange(len(text)), rng.randrange(len(text))
        low, high = sorted([place, other])
        blow = rng.randrange(12)
        if blow == 0:
            text = text[:place]
        elif blow == 1:
            text = text[place:]
        elif blow == 2:
            text = text[:low] + text[high:]
        elif blow == 3:
            text = text[:place] + "".join(rng.choices(JUNK, k=rng.randint(1, 6))) + text[place:]
        elif blow == 4:
            text = text[:high] + text[low:]
        elif blow == 5:
            text = text.replace(rng.choice('[]{}",:'), rng.choice(["", "'", "“", " ", "[["]))
        elif blow == 6:
            text = json.dumps({"role": "assistant", "content": text})
        elif blow == 7:
            text = json.dumps(text)
        elif blow == 8:
            text = text.replace('"content"', rng.choice(['"contents"', "content", '"role"']))
        elif blow == 9:
            text = text.replace("user", rng.choice(["User ", "usr", "assistant", "0"]))
        elif blow == 10:
            text = f"{text[:place]}\n```\n{text[place:]}"
        else:
            text = text + text[:place]
        if not text:
            break
    return text


def test_of_2300_malformed_answers_none_raises_and_none_is_lost(tracks: list[Track]) -> None:
    writer = Writer(tracks, 7)
    rng = random.Random(7)
    outcomes: Counter[str] = Counter()
    kinds = [*FAULTS, "wrong_title"]
    for number in range(ANSWERS):
        if number % 2:
            piece, by_id = writer.piece()
            text = mangled(rng, writer.good_items(piece, by_id))
            verdict = judged(text, piece, by_id)
            if verdict.valid and not verdict.repairs:
                assert len(re.findall(r"\brole\b", text)) == 3 * len(verdict.turns), text
        else:
            one = writer.bad(kinds[number // 2 % len(kinds)])
            verdict = judged(one.text, one.piece, one.tracks)
            if one.fault != "wrong_title":
                found = {problem.reason for problem in verdict.problems}
                assert one.fault in found, (one.fault, one.text)
        if verdict.problems:
            outcomes["refused"] += 1
        else:
            outcomes["mended" if verdict.repairs else "kept"] += 1
    assert outcomes.total() == ANSWERS
    # no outcome of the three may be out of reach
    assert min(outcomes["refused"], outcomes["mended"], outcomes["kept"]) > 5


def test_an_answer_cut_anywhere_keeps_its_first_turns_or_says_what_is_missing(
    tracks: list[Track],
) -> None:
    writer = Writer(tracks, 3)
    piece, by_id = writer.piece()
    items = writer.good_items(piece, by_id)
    text = json.dumps(items)
    whole = judged(text, piece, by_id).turns
    for length in range(0, len(text), 3):
        verdict = judged(text[:length], piece, by_id)
        assert verdict.turns == whole[: len(verdict.turns)]
        if verdict.valid:
            assert "cut_off" in verdict.repairs
        else:
            reasons = {problem.reason for problem in verdict.problems}
            assert reasons <= {"unparsable", "no_turns", "too_few_tracks"}


def test_good_answers_in_other_forms_are_kept_whole(tracks: list[Track]) -> None:
    writer = Writer(tracks, 5)
    for _ in range(150):
        one = writer.good()
        verdict = judged(one.text, one.piece, one.tracks)
        assert verdict.valid, (one.kind, verdict.problems, one.text)
        if one.kind not in ("plain",):
            assert verdict.repairs or one.kind == "raw_breaks", one.kind
