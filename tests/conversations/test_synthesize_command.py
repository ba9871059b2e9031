"""`talkplay synthesize` with a language model."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_server import FaultyServer, Reply, Request, status
from scripted_writer import reply_to
from tiny_chat import save_chat_model

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.cli import main
from talkplay_hf.conversations.dataset import load_conversations, load_quarantine
from talkplay_hf.conversations.synthesis.ledger import Ledger
from talkplay_hf.hub.files import MANIFEST, read_json

Talkplay = Callable[..., tuple[int, str, str]]


@pytest.fixture
def talkplay(capsys: pytest.CaptureFixture[str]) -> Talkplay:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def synthesize(talkplay: Talkplay, world_folder: Path, tmp_path: Path) -> Talkplay:
    def run(server: FaultyServer, *flags: object) -> tuple[int, str, str]:
        return talkplay(
            "synthesize", world_folder, tmp_path / "out", "--writer", "endpoint",
            "--model", "writer", "--base-url", server.base_url, "--playlists", 8,
            "--piece-size", 4, *flags,
        )  # fmt: skip

    return run


def test_a_dataset_with_its_quarantine_comes_out(synthesize: Talkplay, tmp_path: Path):
    with FaultyServer(lambda request: reply_to(request, bad_share=0.6)) as server:
        status, out, _ = synthesize(server, "--json")
        assert status == 0
        report = json.loads(out)
        assert report["calls"] == server.count
        bodies = [request.body for request in server.requests]
    made, refused = load_conversations(tmp_path / "out"), load_quarantine(tmp_path / "out")
    assert len(made) == report["kept"] > 0
    assert len(refused) == report["quarantined"] > 0
    assert {body["model"] for body in bodies} == {"writer"}
    manifest = read_json(tmp_path / "out" / MANIFEST)
    assert manifest["pieces_cut"]["size"] == 4
    with Ledger(f"{tmp_path / 'out'}.ledger.jsonl") as ledger:
        assert len(ledger) == report["calls"]


def test_the_summary_names_what_was_kept_and_why_the_rest_was_not(synthesize: Talkplay):
    with FaultyServer(lambda request: reply_to(request, bad_share=0.6)) as server:
        status, out, _ = synthesize(server)
    assert status == 0
    assert "kept" in out
    assert "reasons of the quarantine:" in out
    assert "too_few_tracks" in out or "unparsable" in out or "unknown_track" in out


def test_a_dry_run_pays_nothing_and_shows_a_prompt(synthesize: Talkplay, tmp_path: Path):
    with FaultyServer([status(500)]) as server:
        code, out, _ = synthesize(server, "--dry-run", "--api-key-env", "NOT_SET")
        told = json.loads(synthesize(server, "--dry-run", "--max-tokens", 100, "--json")[1])
        assert server.count == 0
    assert code == 0
    assert f"{told['calls_at_least']:,} to {told['calls_at_most']:,}" in out
    assert told["answer_tokens"] == 100 * told["calls_at_least"] > 0
    assert "title: " in out
    assert [*tmp_path.iterdir()] == []


def test_a_cap_leaves_a_dataset_and_says_how_to_go_on(synthesize: Talkplay, tmp_path: Path):
    with FaultyServer(lambda request: reply_to(request)) as server:
        code, _, err = synthesize(server, "--max-calls", 5)
        assert code == 3
        assert server.count == 5
        assert len(err.strip().splitlines()) == 1
        assert "5 of" in err
        assert "the same command goes on" in err
        assert len(load_conversations(tmp_path / "out")) == 5
        assert synthesize(server)[0] == 0
        assert len(load_quarantine(tmp_path / "out")) == 0
        needed = server.count
        code, out, _ = synthesize(server, "--max-calls", 0, "--json")
        assert (code, server.count) == (0, needed)
        assert json.loads(out)["calls"] == needed


def test_retries_of_an_earlier_run_count_towards_a_cap(synthesize: Talkplay):
    def script(request: Request) -> Reply:
        return status(500) if request.number % 2 == 0 else reply_to(request)

    with FaultyServer(script) as server:
        for cap in (3, 6):
            assert synthesize(server, "--max-calls", cap, "--concurrency", 1)[0] == 3
            assert server.count == cap


def test_fields_of_the_request_are_set_by_flags(synthesize: Talkplay):
    with FaultyServer(lambda request: reply_to(request)) as server:
        code, _, _ = synthesize(
            server, "--max-tokens", 700, "--max-tokens-field", "max_completion_tokens",
            "--field", "reasoning_effort=low", "--field", 'options={"top_k": 5}', "--top-p", 0.9,
        )  # fmt: skip
        assert code == 0
        body = server.requests[0].body
        assert body.pop("stream", False) is False
        assert set(body) - {"model", "messages"} == {
            "max_completion_tokens", "reasoning_effort", "options", "top_p",
        }  # fmt: skip
        assert (body["options"], body["max_completion_tokens"]) == ({"top_k": 5}, 700)
        code, _, err = synthesize(server, "--field", "temperature=1")
        assert (code, "extra: cannot set temperature" in err) == (2, True)


def test_a_model_in_this_process_writes_and_a_dry_run_does_not_load_it(
    talkplay: Talkplay, world_folder: Path, tmp_path: Path
):
    def run(model: Path, *flags: object) -> tuple[int, str, str]:
        return talkplay(
            "synthesize", world_folder, tmp_path / "out", "--writer", "transformers",
            "--model", model, "--playlists", 2, "--pieces", 1, "--piece-size", 2,
            "--max-tokens", 8, "--attempts", 2, "--device", "cpu", "--json", "--prompt", prompt,
            *flags,
        )  # fmt: skip

    prompt, empty, model = (tmp_path / name for name in ("prompt.jinja", "empty", "model"))
    prompt.write_text("Talk about {{ tracks[0].facts.title }}.")
    empty.mkdir()
    assert json.loads(run(empty, "--dry-run")[1])["answer_tokens"] == 16
    code, _, err = run(empty)
    assert (code, "cannot be loaded" in err) == (2, True)
    assert {*tmp_path.iterdir()} == {prompt, empty}
    save_chat_model(model, context=2048)
    code, out, _ = run(model)
    report = json.loads(out)
    assert (code, report["calls"], report["quarantined"]) == (0, 4, 2)
    assert report["completion_tokens"] > 0
    shutil.rmtree(model)  # harvesting reads the name alone
    model.mkdir()
    assert json.loads(run(model, "--max-calls", 0)[1]) == report


def test_a_model_that_cannot_be_asked_leaves_nothing_behind(synthesize: Talkplay, tmp_path: Path):
    with FaultyServer([status(401, "no such key")]) as server:
        code, _, err = synthesize(server)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "no such key" in err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.ledger.jsonl").exists()


def test_an_interrupt_says_what_is_safe_and_how_to_go_on(synthesize: Talkplay, tmp_path: Path):
    def script(request: Request) -> Reply:
        if request.number == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return reply_to(request)

    with FaultyServer(script) as server:
        code, _, err = synthesize(server, "--concurrency", 2)
        assert code == 130
        assert server.count <= 9 + 2
        assert "answers are safe in" in err
        assert not (tmp_path / "out").exists()
        sent = server.count
        code, out, _ = synthesize(server, "--json")
        assert code == 0
        assert server.count <= json.loads(out)["calls"] + 2
        assert server.count > sent


def test_a_damaged_ledger_is_told_and_used(synthesize: Talkplay, tmp_path: Path):
    with FaultyServer(lambda request: reply_to(request)) as server:
        synthesize(server)
        needed = server.count
        path = tmp_path / "out.ledger.jsonl"
        path.write_bytes(path.read_bytes()[:-30])
        code, _, err = synthesize(server)
        assert (code, server.count) == (0, needed + 1)
    assert "was torn" in err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--model", "m"), "--model is for --writer endpoint or transformers, not simulator"),
        (("--dry-run",), "--dry-run"),
        (("--writer", "endpoint", "--model", "m", "--count", 3), "--count is for --writer sim"),
        (("--writer", "endpoint", "--model", "m", "--device", "cpu"), "--device"),
        (("--writer", "transformers", "--model", "m", "--base-url", "http://x"), "--base-url"),
        (("--writer", "endpoint"), "needs a --model"),
        (("--writer", "endpoint", "--model", "m", "--prompt", "gone.txt"), "gone.txt"),
        (("--writer", "endpoint", "--model", "m", "--base-url", "ftp://x"), "ftp://x"),
        (("--writer", "endpoint", "--model", "m", "--piece-size", "1000", "--api-key-env", "NO_K"),
         "NO_K"),
        (("--languages", "tlh"), "tlh"),
    ],
)  # fmt: skip
def test_what_does_not_belong_is_refused_by_name_before_any_work(
    talkplay: Talkplay, world_folder: Path, tmp_path: Path, flags: tuple[object, ...], named: str
):
    code, _, err = talkplay("synthesize", world_folder, tmp_path / "out", *flags)
    assert code == 2
    assert named in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_another_folder_is_not_written_over_nor_paid_for(synthesize: Talkplay, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with FaultyServer(lambda request: reply_to(request)) as server:
        assert synthesize(server)[0] == 2
        assert server.count == 0
    assert [*(tmp_path / "out").iterdir()] == [tmp_path / "out" / "thesis.txt"]


def test_a_ledger_inside_the_folder_that_is_replaced_is_refused(
    synthesize: Talkplay, tmp_path: Path
):
    with FaultyServer(lambda request: reply_to(request)) as server:
        code, _, err = synthesize(server, "--ledger", tmp_path / "out" / "answers.jsonl")
        assert (code, server.count) == (2, 0)
    assert "would be replaced" in err


def test_the_simulator_writes_in_several_languages(
    talkplay: Talkplay, world_folder: Path, world: Catalog, tmp_path: Path
):
    code, out, _ = talkplay(
        "synthesize", world_folder, tmp_path / "out", "--count", 12, "--languages", "en,de",
        "--title-share", 0, "--json",
    )  # fmt: skip
    assert code == 0
    made = load_conversations(tmp_path / "out")
    assert {one.language for one in made} == {"en", "de"}
    assert json.loads(out)["conversations"] == len(made) == 12
    titles = {track_id: world.track(track_id).title for track_id in world.track_ids}
    for one in made:
        texts = " ".join(m.content for m in one.messages)
        assert not any(titles[m.track_id] in texts for m in one.messages if m.track_id)


@pytest.mark.parametrize("writer", ["simulator", "endpoint"])
def test_the_card_says_that_the_demo_world_is_fictional(
    talkplay: Talkplay, synthesize: Talkplay, world_folder: Path, tmp_path: Path, writer: str
):
    if writer == "simulator":
        talkplay("synthesize", world_folder, tmp_path / "out", "--count", 5)
    else:
        with FaultyServer(reply_to) as server:
            synthesize(server)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "The catalog is fictional." in card
