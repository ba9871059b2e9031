"""`talkplay report` with a judge: what it said is kept and paid once."""

import json
from pathlib import Path

import pytest
from faulty_server import FaultyServer, Reply, Request, answer
from scripted_writer import reply_to

from talkplay_hf.cli import main
from talkplay_hf.conversations.quality.judge import DIMENSIONS


def judge_or_write(request: Request) -> Reply:
    if request.body["model"] == "judge":
        return answer(json.dumps(dict.fromkeys(DIMENSIONS, 4)))
    return reply_to(request)


def test_a_judge_is_paid_once_within_its_cap_and_takes_the_fields_that_it_knows(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"

    def talkplay(*arguments: object) -> int:
        return main([str(argument) for argument in arguments])

    def report(server: FaultyServer, *flags: object) -> dict[str, object]:
        capsys.readouterr()
        judge = ("--judge", "judge", "--judge-base-url", server.base_url, "--judge-sample", 5)
        assert talkplay("report", out, "--catalog", world_folder, "--json", *judge, *flags) == 0
        told = json.loads(capsys.readouterr().out)["judge"]
        assert isinstance(told, dict)
        return told

    with FaultyServer(judge_or_write) as server:
        talkplay(
            "synthesize", world_folder, out, "--writer", "endpoint", "--model", "writer",
            "--base-url", server.base_url, "--playlists", 4, "--piece-size", 4,
        )  # fmt: skip
        written = server.count
        few = report(server, "--judge-max-calls", 3)
        assert server.count - written == few["judgements"] == 3
        assert "cap of 3 calls" in str(few["stopped"])
        whole = report(server)
        needed = server.count
        assert needed - written == whole["judgements"] == 5 + 1 > whole["judged"] == 5
        assert report(server) == whole
        assert server.count == needed
        assert server.requests[-1].body.keys() >= {"max_tokens", "temperature"}
        assert report(server, "--judge-reasons")["judged"] == 5
        body = server.requests[-1].body
    assert server.count > needed
    assert body["max_completion_tokens"] > 1000
    assert not {"max_tokens", "temperature"} & set(body)


def test_flags_of_a_judge_need_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(tmp_path), "--judge-reasons"]) == 2
    assert "--judge-reasons needs a --judge MODEL" in capsys.readouterr().err
