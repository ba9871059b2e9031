"""Synthesis by a language model: nothing is asked twice, every piece ends in one place."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_server import FaultyServer, Request, cut, hang, raw, reset, status
from scripted_writer import ScriptedModel, reply_to

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.checks.answers import Limits
from talkplay_hf.conversations.dataset import load_conversations, load_quarantine
from talkplay_hf.conversations.llm.budget import Budget
from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions
from talkplay_hf.conversations.llm.faults import PromptFailedError
from talkplay_hf.conversations.llm.language_model import LanguageModel
from talkplay_hf.conversations.pieces import Piece, PieceOptions, cut_playlists
from talkplay_hf.conversations.synthesis.ledger import Ledger
from talkplay_hf.conversations.synthesis.prompt import Prompt
from talkplay_hf.conversations.synthesis.report import SynthesisReport
from talkplay_hf.conversations.synthesis.synthesis import Asked, Synthesis
from talkplay_hf.errors import (
    BudgetError,
    InputError,
    LanguageModelError,
    PromptRefusedError,
)
from talkplay_hf.hub.files import MANIFEST, read_json

PROMPT = Prompt.load()


@pytest.fixture(scope="module")
def pieces(world: Catalog) -> list[Piece]:
    return [*cut_playlists(world, PieceOptions(size=4, playlists=14), seed=0)]


@pytest.fixture
def run(world: Catalog, pieces: list[Piece], tmp_path: Path) -> "Run":
    return Run(world, pieces, tmp_path)


class Run:
    """Asks and harvests with one ledger and one folder."""

    def __init__(self, world: Catalog, pieces: list[Piece], folder: Path) -> None:
        self.world, self.pieces = world, pieces
        self.path, self.out = folder / "answers.jsonl", folder / "conversations"

    def with_ledger(
        self, model: LanguageModel, use: Callable[[Synthesis], object], **more: object
    ) -> object:
        with Ledger(self.path) as ledger:
            return use(Synthesis(self.world, PROMPT, model, ledger, **more))

    def ask(self, model: LanguageModel, **more: object) -> Asked:
        asked = self.with_ledger(model, lambda one: asyncio.run(one.ask(self.pieces)), **more)
        assert isinstance(asked, Asked)
        return asked

    def save(self, model: LanguageModel | None = None, **more: object) -> SynthesisReport:
        report = self.with_ledger(
            model or ScriptedModel(), lambda one: one.save(self.out, self.pieces, {}), **more
        )
        assert isinstance(report, SynthesisReport)
        return report

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}


def fail_at(call: int, error: Exception) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number == call:
            raise error

    return before


def test_every_piece_becomes_a_conversation_or_a_quarantined_row(run: Run):
    model = ScriptedModel(bad_share=0.7)
    assert run.ask(model).finished == len(run.pieces)
    report = run.save(model)
    made, refused = load_conversations(run.out), load_quarantine(run.out)
    kept, quarantined = [c.conversation_id for c in made], [row["piece_id"] for row in refused]
    assert kept
    assert quarantined
    assert sorted(kept + quarantined) == sorted(piece.piece_id for piece in run.pieces)
    assert (report.kept, report.quarantined) == (len(kept), len(quarantined))
    assert report.pieces == len(run.pieces)
    assert report.unfinished == 0
    assert report.calls == len(model.chats)
    assert sum(report.attempts.values()) == len(run.pieces)
    assert sum(n * count for n, count in report.attempts.items()) == report.calls
    assert report.repaired > 0


def test_a_conversation_has_what_its_piece_has(run: Run):
    run.ask(ScriptedModel())
    run.save()
    by_id = {piece.piece_id: piece for piece in run.pieces}
    made = load_conversations(run.out)
    assert len(made) == len(run.pieces)
    for one in made:
        piece = by_id[one.conversation_id]
        assert (one.playlist_id, one.split) == (piece.playlist_id, piece.split)
        assert one.language == "en"
        played = [m.track_id for m in one.messages if m.role == "music"]
        assert set(played) <= {*piece.track_ids, *piece.negative_ids}


def test_conversations_come_in_the_order_of_the_pieces(run: Run):
    run.ask(ScriptedModel(concurrency=7, bad_share=0.5))

    def harvest(synthesis: Synthesis) -> list[str]:
        outcomes = synthesis.harvest(run.pieces, SynthesisReport())
        return [o.conversation_id if isinstance(o, Conversation) else o.piece_id for o in outcomes]

    assert run.with_ledger(ScriptedModel(), harvest) == [piece.piece_id for piece in run.pieces]


def test_a_second_run_asks_nothing(run: Run):
    model = ScriptedModel(bad_share=0.5)
    run.ask(model)
    again = ScriptedModel(bad_share=0.5)
    assert run.ask(again).finished == len(run.pieces)
    assert again.chats == []


def test_the_outcome_is_the_same_bytes_however_it_came_about(
    run: Run, world: Catalog, tmp_path: Path
):
    whole = ScriptedModel(bad_share=0.6, concurrency=1)
    run.ask(whole)
    run.save()
    other = Run(world, run.pieces, tmp_path / "other")
    calls = 0
    while True:
        stop = fail_at(20, LanguageModelError("gone"))
        model = ScriptedModel(bad_share=0.6, concurrency=5, before=stop)
        stopped = other.ask(model).stopped
        calls += model.answered
        other.save()
        if stopped is None:
            break
    assert calls == len(whole.chats)
    assert other.bytes() == run.bytes()
    assert other.path.read_bytes() != run.path.read_bytes()


def test_an_error_of_the_model_stops_the_asking_and_keeps_what_is_in_flight(run: Run):
    model = ScriptedModel(concurrency=4, before=fail_at(9, LanguageModelError("no credit")))
    asked = run.ask(model)
    assert str(asked.stopped) == "no credit"
    with Ledger(run.path) as ledger:
        assert len(ledger) == model.answered
    # nobody begins a further call: those that had begun end, and that is all
    assert len(model.chats) < 9 + 4
    report = run.save()
    assert report.unfinished == len(run.pieces) - report.kept > 0
    assert {reason for row in load_quarantine(run.out) for reason in row["reasons"]} == {
        "not_asked"
    }
    assert {row["answer"] for row in load_quarantine(run.out)} == {None}


def test_a_fault_of_the_program_is_raised_after_what_is_in_flight_was_stored(run: Run):
    model = ScriptedModel(before=fail_at(6, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        run.ask(model)
    with Ledger(run.path) as ledger:
        assert len(ledger) == model.answered >= 5


def test_an_interrupt_costs_no_more_than_the_calls_in_flight(run: Run):
    needed = ScriptedModel(bad_share=0.5)
    Run(run.world, run.pieces, run.path.parent / "whole").ask(needed)

    def before(number: int) -> None:
        if number == 11:
            signal.raise_signal(signal.SIGINT)

    model = ScriptedModel(bad_share=0.5, concurrency=4, before=before)
    with pytest.raises(KeyboardInterrupt):
        run.ask(model)
    resumed = ScriptedModel(bad_share=0.5)
    assert run.ask(resumed).finished == len(run.pieces)
    assert 0 < len(resumed.chats) < len(needed.chats)
    # those in flight may still have been kept
    lost = len(model.chats) + len(resumed.chats) - len(needed.chats)
    assert 0 <= lost <= 4


def test_pieces_are_read_as_they_are_needed(run: Run):
    read = 0

    def slowly() -> Iterator[Piece]:
        nonlocal read
        for piece in run.pieces:
            read += 1
            yield piece

    model = ScriptedModel(concurrency=3, before=fail_at(7, LanguageModelError("gone")))
    run.with_ledger(model, lambda one: asyncio.run(one.ask(slowly())))
    assert read <= 7 + 3 < len(run.pieces)


def test_a_bad_answer_is_asked_again_with_what_was_wrong(run: Run):
    model = ScriptedModel(bad_share=1.0, concurrency=1)
    run.ask(model, attempts=2)
    first, second = model.chats[:2]
    assert second[: len(first)] == first
    assert [message["role"] for message in second[len(first) :]] == ["assistant", "user"]
    with pytest.raises(InputError, match="attempts is 0; a piece must be asked at least once"):
        run.ask(model, attempts=0)
    [row, *_] = run.save(attempts=2) and load_quarantine(run.out)
    assert row["attempts"] == 2
    assert len(model.chats) == 2 * len(run.pieces)


def test_a_model_without_chance_that_says_the_same_again_is_not_asked_for_ever(run: Run):
    greedy = ScriptedModel(bad_share=1.0, parameters={"temperature": 0})
    greedy.write = lambda chat: "no"
    assert run.ask(greedy, attempts=9).finished == len(run.pieces)
    assert len(greedy.chats) == 2 * len(run.pieces)
    warm = ScriptedModel(bad_share=1.0)
    warm.write = lambda chat: "no"
    run.ask(warm, attempts=4)
    assert len(warm.chats) == 4 * len(run.pieces)


def test_what_is_never_good_goes_into_quarantine_with_the_last_answer(run: Run):
    run.ask(ScriptedModel(bad_share=1.0))
    report = run.save()
    rows = load_quarantine(run.out)
    assert report.kept == 0
    assert len(rows) == len(run.pieces) == report.attempts[3]
    assert report.refused.total() >= report.calls == 3 * len(run.pieces)
    for row in rows:
        assert len(row["reasons"]) == len(row["details"]) > 0
        assert isinstance(row["answer"], str)
    assert any("�" in row["answer"] or "?" in row["answer"] for row in rows)


def test_better_checks_later_cost_no_call(run: Run):
    strict = Limits(max_turns=1)
    model = ScriptedModel()
    run.ask(model, limits=strict)
    assert run.save(limits=strict).kept < len(run.pieces)
    asked_again = run.save()
    assert asked_again.kept == len(run.pieces)
    assert asked_again.calls == len(run.pieces) < len(model.chats)


def test_what_the_model_refuses_is_not_asked_again(run: Run):
    def before(number: int) -> None:
        if number % 3 == 0:
            raise PromptRefusedError("the content was filtered")

    model = ScriptedModel(before=before, concurrency=1)
    assert run.ask(model).finished == len(run.pieces)
    again = ScriptedModel()
    run.ask(again)
    assert again.chats == []
    report = run.save()
    rows = load_quarantine(run.out)
    assert len(rows) == report.final_reasons["refused_by_model"] == len(model.chats) // 3
    assert {detail for row in rows for detail in row["details"]} == {"the content was filtered"}


def test_a_refusal_counts_once_the_model_has_answered_something(run: Run):
    def refuse(number: int) -> None:
        raise PromptRefusedError("no chat template is set")

    asked = run.ask(ScriptedModel(before=refuse))
    assert (asked.finished, asked.failed) == (0, len(run.pieces))
    assert asked.failure == "no chat template is set"
    assert not run.path.exists()
    asked = run.ask(ScriptedModel())
    assert (asked.finished, asked.kept) == (len(run.pieces), len(run.pieces))


def test_an_answer_that_a_filter_cut_off_is_stored_and_not_asked_again(run: Run):
    class Filtered(ScriptedModel):
        async def complete(self, chat, schema=None):
            answer = await super().complete(chat, schema)
            return replace(answer, finish_reason="content_filter")

    model = Filtered()
    assert run.ask(model).finished == len(model.chats) == len(run.pieces)
    report = run.save()
    assert report.final_reasons == {"refused_by_model": len(run.pieces)}
    assert report.completion_tokens > 0
    [row, *_] = load_quarantine(run.out)
    assert row["details"] == ["the answer was filtered"]
    assert len(row["answer"]) > 20


def test_progress_tells_what_was_kept(run: Run):
    told: list[Asked] = []
    model = ScriptedModel(bad_share=0.7)
    asked = run.with_ledger(
        model, lambda one: asyncio.run(one.ask(run.pieces, progress=told.append))
    )
    assert told[-1] == asked
    assert [one.finished for one in told] == [*range(1, len(run.pieces) + 1)]
    assert run.save(model).kept == asked.kept < asked.finished


def test_a_call_that_failed_is_asked_again_by_the_next_run(run: Run):
    model = ScriptedModel(before=fail_at(5, PromptFailedError("HTTP 500, over and over")))
    asked = run.ask(model)
    assert (asked.finished, asked.failed) == (len(run.pieces) - 1, 1)
    assert asked.failure == "HTTP 500, over and over"
    assert asked.stopped is None
    assert run.save().unfinished == 1
    again = ScriptedModel()
    assert run.ask(again).finished == len(run.pieces)
    assert len(again.chats) == 1
    assert run.save().unfinished == 0


def test_other_parameters_are_other_answers(run: Run):
    run.ask(ScriptedModel())
    warmer = ScriptedModel(parameters={"temperature": 1.5})
    run.ask(warmer)
    assert len(warmer.chats) == len(run.pieces)


def test_a_piece_that_stands_twice_is_refused(run: Run):
    run.pieces = [*run.pieces, run.pieces[0]]
    with pytest.raises(InputError, match="stands twice"):
        run.save()
    assert not run.out.exists()


def test_an_estimate_counts_what_is_left_to_ask(run: Run):
    estimate = run.with_ledger(ScriptedModel(), lambda one: one.estimate(run.pieces))
    every = len(run.pieces)
    assert (estimate.pieces, estimate.finished) == (every, 0)
    assert (estimate.calls_at_least, estimate.calls_at_most) == (every, 3 * every)
    model = ScriptedModel(bad_share=0.5, concurrency=1, before=fail_at(9, LanguageModelError("")))
    run.ask(model)
    after = run.with_ledger(model, lambda one: one.estimate(run.pieces))
    assert after.finished == every - after.calls_at_least > 0
    assert 0 < after.prompt_tokens < estimate.prompt_tokens
    assert after.example != estimate.example
    complete = ScriptedModel(bad_share=0.5)
    run.ask(complete)
    assert after.calls_at_least <= len(complete.chats) <= after.calls_at_most


def test_the_manifest_says_how_it_was_made(run: Run):
    run.ask(ScriptedModel(bad_share=0.5))
    report = run.save()
    manifest = read_json(run.out / MANIFEST)
    assert manifest["synthesis"] == report.to_dict()
    assert manifest["generator"]["model"] == "scripted"
    assert manifest["generator"]["prompt_sha256"] == PROMPT.sha256
    assert manifest["rejects"]["answers"] == report.calls
    assert PROMPT.sha256 in (run.out / "README.md").read_text()


def test_the_intents_that_were_asked_for_are_looked_for(run: Run):
    run.ask(ScriptedModel())
    report = run.save()
    asked = Counter(intent for piece in run.pieces for intent in piece.intents)
    assert report.kept == len(run.pieces)
    assert report.intents_asked == asked
    assert report.intents_found["open"] == report.kept  # each begins with a request
    assert report.intents_found <= asked
    assert report.intents_found["theme"] < asked["theme"]  # the scripted writer never heeds them


def endpoint(server: FaultyServer, budget: Budget | None = None, **more: object) -> EndpointModel:
    options = {"timeout": 0.5, "backoff": 0.01, "concurrency": 4, "give_up_after": 100} | more
    return EndpointModel(EndpointOptions("writer", server.base_url, **options), budget)


def test_a_faulty_server_costs_nothing_but_time(run: Run):
    faults = [
        lambda: status(429, headers={"Retry-After": "0.01"}), lambda: status(500), cut, hang,
        reset, lambda: raw(b""), lambda: raw(b"<html>"),
    ]  # fmt: skip

    def script(request: Request):
        if request.number % 4 == 3 and request.number < 40:
            return faults[request.number // 4 % len(faults)]()
        return reply_to(request, bad_share=0.3)

    with FaultyServer(script) as server:
        asked = run.ask(endpoint(server))
        report = run.save(endpoint(server))
    assert asked == Asked(len(run.pieces), kept=report.kept)
    assert report.calls == server.count - 10
    assert report.kept + report.quarantined == len(run.pieces)
    assert report.kept > len(run.pieces) / 2
    assert report.prompt_tokens > report.calls


def test_a_cap_on_calls_is_kept_over_several_runs(run: Run):
    with FaultyServer(lambda request: reply_to(request, bad_share=0.3)) as server:
        for cap in (7, 7, 20):
            with Ledger(run.path) as ledger:
                budget = Budget(cap, calls=ledger.usage.calls, tokens=ledger.usage.tokens)
            asked = run.ask(endpoint(server, budget))
            assert isinstance(asked.stopped, BudgetError)
            assert server.count == cap
        assert run.save(endpoint(server)).unfinished > 0
        run.ask(endpoint(server))
        assert run.save(endpoint(server)).unfinished == 0


def test_a_server_that_is_gone_stops_the_asking(run: Run):
    with FaultyServer(lambda request: reply_to(request)) as server:
        model = endpoint(server, tries=2)
    asked = run.ask(model)
    assert asked.finished == 0
    assert isinstance(asked.stopped, LanguageModelError)
