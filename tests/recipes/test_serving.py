"""`recipes/serving`: asking a served model, and a model as a GGUF file."""

import json
import re
import runpy
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, LogitsProcessorList

from talkplay_hf.recommend.grammar import MusicGrammarLogitsProcessor, MusicVocabulary
from talkplay_hf.recommend.interop.grammars import (
    answer_ebnf,
    answer_gbnf,
    answer_lark,
    answer_regex,
)
from talkplay_hf.recommend.interop.served import ServedModel
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

SERVING = Path(__file__).parents[2] / "recipes" / "serving"
REQUEST = "something calm <|playlist-1|>"

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def model_folder(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server on the loopback interface that answers posts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            status, value = answer(self.path, json.loads(self.rfile.read(length)))
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Engine:
    """A stand-in for vLLM and llama.cpp: runs the model under the rules that it was asked for."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.returns_ids = True

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.paths.append(path)
        self.bodies.append(body)
        rules = json.dumps(body.get("structured_outputs") or body["grammar"])
        tracks = 2 if "block block" in rules or rules.count("<start_of_music>") == 2 else 1
        processor = MusicGrammarLogitsProcessor(MusicVocabulary.of(self.tokenizer), tracks=tracks)
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(body.get("seed", 0))
            output = self.model.generate(
                torch.tensor([body["prompt"]]),
                do_sample=True,
                max_new_tokens=24,
                logits_processor=LogitsProcessorList([processor]),
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
            )
        ids = output[0, len(body["prompt"]) :].tolist()
        if path == "/completion":
            return 200, {"content": self.tokenizer.text_of(ids), "tokens": ids}
        choice: dict[str, Any] = {
            "text": self.tokenizer.decode(ids, skip_special_tokens=body["skip_special_tokens"])
        }
        if self.returns_ids:
            choice["token_ids"] = ids
        return 200, {"choices": [choice]}


@pytest.fixture
def engine(tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer) -> Engine:
    return Engine(tiny_model, tokenizer)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A script of the recipe, in this process, where transformers is loaded already."""

    def call(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(SERVING / script), run_name="__main__")
        return capsys.readouterr().out

    return call


def tracks_of(printed: str, served: ServedModel) -> list[str]:
    """The tracks that the script names."""
    known = set(served.catalog.track_ids)
    return [
        line.split()[0]
        for line in printed.splitlines()
        if line.split()[:1] and line.split()[0] in known
    ]


@pytest.mark.parametrize("server", ["vllm", "llama.cpp"])
def test_a_served_model_answers_with_tracks(
    server: str, run: Run, engine: Engine, model_folder: Path
):
    served = ServedModel.from_pretrained(model_folder)
    with serving(engine.answer) as url:
        printed = run(
            "ask.py", model_folder, REQUEST, "--url", url + "/", "--server", server,
            "--tracks", 2, "--seed", 3,
        )  # fmt: skip
    assert len(tracks_of(printed, served)) == 2
    # a token that a user types must not become one
    assert engine.bodies[0]["prompt"] == served.prompt_ids(REQUEST)
    assert served.tokenizer.convert_tokens_to_ids("<|playlist-1|>") not in served.prompt_ids(
        REQUEST
    )


def test_each_engine_is_sent_its_own_grammar(run: Run, engine: Engine, model_folder: Path):
    tokenizer = engine.tokenizer
    with serving(engine.answer) as url:
        for name in ("xgrammar", "guidance", "regex"):
            run("ask.py", model_folder, REQUEST, "--url", url, "--grammar", name)
        run("ask.py", model_folder, REQUEST, "--url", url, "--server", "llama.cpp")
    sent = [body.get("structured_outputs") or body["grammar"] for body in engine.bodies]
    assert sent == [
        {"grammar": answer_ebnf(tokenizer)},
        {"grammar": answer_lark(tokenizer)},
        {"regex": answer_regex(tokenizer.config)},
        answer_gbnf(tokenizer),
    ]
    assert engine.paths == ["/v1/completions"] * 3 + ["/completion"]


def test_a_server_without_token_ids_is_read_by_its_text(
    run: Run, engine: Engine, model_folder: Path
):
    served = ServedModel.from_pretrained(model_folder)
    with serving(engine.answer) as url:
        printed = run("ask.py", model_folder, REQUEST, "--url", url, "--seed", 1)
        engine.returns_ids = False
        again = run("ask.py", model_folder, REQUEST, "--url", url, "--seed", 1)
    assert len(tracks_of(printed, served)) == 1
    assert tracks_of(again, served) == tracks_of(printed, served)


def test_a_chat_goes_on_and_what_it_played_does_not_come_again(
    run: Run, engine: Engine, model_folder: Path, tmp_path: Path
):
    served = ServedModel.from_pretrained(model_folder)
    # all but one track were played
    *played, left = served.catalog.track_ids
    chat = [{"role": "user", "content": "hi"}]
    chat += [{"role": "music", "track_id": track} for track in played]
    chat += [{"role": "assistant", "content": "there"}]
    (tmp_path / "chat.json").write_text(json.dumps(chat), encoding="utf-8")

    def play_any(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        engine.bodies.append(body)
        block = served.tokenizer.block_ids(served.codes[-1].tolist())
        return 200, {"choices": [{"token_ids": block}]}

    with serving(play_any) as url:
        printed = run(
            "ask.py", model_folder, "more", "--url", url, "--chat", tmp_path / "chat.json"
        )
    assert tracks_of(printed, served) == [left]
    blocks = served.tokenizer.parse_blocks(engine.bodies[0]["prompt"])
    assert blocks == [tuple(codes) for codes in served.codes[:-1].tolist()]


@pytest.mark.parametrize(
    ("server", "status", "value", "message"),
    [
        ("vllm", 400, {"error": "the grammar is too new"}, "400 .*too new"),
        ("vllm", 200, {"choices": []}, "not an answer"),
        ("vllm", 200, {"choices": [{"message": {"content": "hi"}}]}, "not an answer"),
        ("vllm", 200, ["hi"], "not an answer"),
        ("llama.cpp", 200, {"content": "hi"}, "not an answer"),
        ("vllm", 200, {"choices": [{"token_ids": [99_999]}]}, "not one of the"),
        ("llama.cpp", 200, {"tokens": ["a"]}, "not one of the"),
    ],
)
def test_a_server_that_fails_is_named_in_one_line(
    run: Run, model_folder: Path, server: str, status: int, value: object, message: str
):
    with (
        serving(lambda path, body: (status, value)) as url,
        pytest.raises(SystemExit, match=message),
    ):
        run("ask.py", model_folder, REQUEST, "--url", url, "--server", server)


def test_what_cannot_be_asked_is_said_in_one_line(run: Run, model_folder: Path, tmp_path: Path):
    with serving(lambda path, body: (200, {})) as gone:
        pass
    with pytest.raises(SystemExit, match=re.escape(gone)):
        run("ask.py", model_folder, REQUEST, "--url", gone)
    with pytest.raises(SystemExit, match="no such folder"):
        run("ask.py", tmp_path / "nothing", REQUEST, "--url", gone)
    (tmp_path / "chat.json").write_text('{"role": "user"}', encoding="utf-8")
    with pytest.raises(SystemExit, match="not a JSON list of messages"):
        run("ask.py", model_folder, REQUEST, "--url", gone, "--chat", tmp_path / "chat.json")


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.log_softmax(model(torch.arange(60)[None]).logits.float(), dim=-1)


@pytest.mark.parametrize("rope", ["default", "llama3"])
def test_a_gguf_file_has_the_weights_and_the_tokens(
    rope: str, run: Run, model_folder: Path, tmp_path: Path
):
    gguf = pytest.importorskip("gguf")
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if rope == "llama3":
        config["rope_parameters"] |= {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    printed = run("to_gguf.py", folder, tmp_path / "model.gguf", "--weights", "f32")
    assert "tensors" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.gguf"}
    source = AutoModelForCausalLM.from_pretrained(folder)
    read = gguf.GGUFReader(tmp_path / "model.gguf")
    names = {tensor.name for tensor in read.tensors}
    assert ("rope_freqs.weight" in names) == (rope == "llama3")
    fields = read.fields
    tokens = [bytes(fields["tokenizer.ggml.tokens"].parts[at]).decode()
              for at in fields["tokenizer.ggml.tokens"].data]  # fmt: skip
    kinds = [int(fields["tokenizer.ggml.token_type"].parts[at][0])
             for at in fields["tokenizer.ggml.token_type"].data]  # fmt: skip
    tokenizer = TalkPlayTokenizer.from_pretrained(folder)
    assert tokens == tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    control = {row for row, kind in enumerate(kinds) if kind == 3}
    assert control == set(tokenizer.added_tokens_decoder)
    if rope == "default":
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
        assert float((logits_of(loaded) - logits_of(source)).abs().max()) < 1e-4


def test_a_model_that_is_no_llama_makes_no_gguf_file(run: Run, tmp_path: Path):
    pytest.importorskip("gguf")
    with pytest.raises(SystemExit, match="cannot be loaded as a model"):
        run("to_gguf.py", tmp_path, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf")) + list(tmp_path.glob(".*"))


def test_llama_cpp_runs_the_gguf_file_under_the_grammar(
    run: Run, model_folder: Path, tmp_path: Path
):
    pytest.importorskip("gguf")
    engine = pytest.importorskip(
        "xllamacpp", reason="llama.cpp is not there: pip install xllamacpp"
    )
    run("to_gguf.py", model_folder, tmp_path / "model.gguf", "--weights", "f32")
    options = engine.CommonParams()
    options.model.path = str(tmp_path / "model.gguf")
    options.n_ctx, options.n_parallel, options.port, options.fit_params = 512, 1, 0, False
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    server = engine.Server(options)
    served = ServedModel.from_pretrained(model_folder)
    for seed in range(10):
        arguments = ("--url", server.listening_address, "--server", "llama.cpp", "--seed", seed)
        printed = run("ask.py", model_folder, REQUEST, "--tracks", 2, *arguments)
        assert len(tracks_of(printed, served)) == 2
        assert "not well-formed" not in printed
        printed = run("ask.py", model_folder, REQUEST, "--catalog-only", *arguments)
        assert f"(by {', '.join(served.tokenizer.config.modalities)})" in printed
