"""Ask a model that is served by vLLM or by llama.cpp for a track.

vllm serve run/model --served-model-name talkplay
python recipes/serving/ask.py run/model "Something calm for a rainy evening" \
    --url http://127.0.0.1:8000 --server vllm --name talkplay

llama-server -m talkplay.gguf
python recipes/serving/ask.py run/model "Something calm for a rainy evening" \
    --url http://127.0.0.1:8080 --server llama.cpp

Of the model folder only the tokenizer and the catalogue are read. The prompt goes out as token ids
and the answer comes back as token ids, so that no text can pass for a music token on the way.
`--grammar regex` is for a vLLM too old for the grammar over ids.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import InputError, LanguageModelError, TalkPlayError
from talkplay_hf.recommend.answers import Recommendation
from talkplay_hf.recommend.interop.grammars import (
    answer_ebnf,
    answer_gbnf,
    answer_lark,
    answer_regex,
)
from talkplay_hf.recommend.interop.served import ServedModel
from talkplay_hf.tokens.config import TEMPERATURE, TOP_P

# a music block is seven tokens, a reply some tens
MAX_TOKENS = 128


def vllm_request(
    served: ServedModel, prompt: list[int], args: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request to vLLM."""
    options = grammar_options(served, args)
    makers: dict[str, Callable[[], dict[str, str]]] = {
        "xgrammar": lambda: {"grammar": answer_ebnf(served.tokenizer, **options)},
        "guidance": lambda: {"grammar": answer_lark(served.tokenizer, **options)},
        "regex": lambda: {"regex": answer_regex(served.tokenizer.config, **options)},
    }
    body = {
        "model": args.name,
        "prompt": prompt,
        "max_tokens": MAX_TOKENS,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "structured_outputs": makers[args.grammar](),
        "return_token_ids": True,
        # without these two, music tokens vanish from the text or have spaces between them
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }
    return "/v1/completions", body


def llama_request(
    served: ServedModel, prompt: list[int], args: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request to the server of llama.cpp."""
    body = {
        "prompt": prompt,
        "n_predict": MAX_TOKENS,
        "temperature": args.temperature,
        "top_p": args.top_p,
        # its own defaults of these two change the distribution
        "top_k": 0,
        "min_p": 0.0,
        "grammar": answer_gbnf(served.tokenizer, **grammar_options(served, args)),
        "return_tokens": True,
    }
    return "/completion", body


REQUESTS = {"vllm": vllm_request, "llama.cpp": llama_request}


def grammar_options(served: ServedModel, args: argparse.Namespace) -> dict[str, Any]:
    """How many tracks, and whether only those of the catalogue."""
    return {"tracks": args.tracks, "codes": served.codes if args.catalog_only else None}


def ask(served: ServedModel, messages: list[Message], args: argparse.Namespace) -> Recommendation:
    """Send a chat to the server and read the answer.

    Raises:
        LanguageModelError: If the server cannot be reached, refuses, or answers something else.
    """
    path, body = REQUESTS[args.server](served, served.prompt_ids(messages), args)
    if args.seed is not None:
        body["seed"] = args.seed
    url = args.url.rstrip("/") + path
    try:
        response = httpx2.post(url, json=body, timeout=args.timeout)
        response.raise_for_status()
        said = response.json()
    except httpx2.HTTPStatusError as error:
        text = error.response.text[:300]
        raise LanguageModelError(f"{url}: {error.response.status_code} {text}") from None
    except (httpx2.HTTPError, ValueError) as error:
        raise LanguageModelError(f"{url}: {error}") from None
    # what was played already is not given again
    played = {message.track_id for message in messages if message.track_id is not None}
    try:
        if args.server == "llama.cpp":
            return served.read_ids(said["tokens"], exclude=played, seed=args.seed)
        choice = said["choices"][0]
        if choice.get("token_ids") is not None:
            return served.read_ids(choice["token_ids"], exclude=played, seed=args.seed)
        return served.read_text(choice["text"], exclude=played, seed=args.seed)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise LanguageModelError(f"{url}: not an answer: {json.dumps(said)[:300]}") from None


def read_chat(path: Path) -> list[Message]:
    """Earlier messages: a JSON list of objects with `role`, `content` or `track_id`."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Message(row["role"], row.get("content") or "", row.get("track_id")) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a JSON list of messages ({error})") from None


def main() -> None:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("model", type=Path, help="folder of the model that is served")
    made.add_argument("request", help="what you want to hear")
    made.add_argument("--chat", type=Path, help="JSON list of the messages so far")
    made.add_argument("--url", required=True, help="address of the server, without a path")
    made.add_argument("--server", choices=REQUESTS, default="vllm")
    made.add_argument("--name", default="talkplay", help="the model's name at the server")
    made.add_argument("--grammar", choices=("xgrammar", "guidance", "regex"), default="xgrammar")
    made.add_argument("--tracks", type=int, default=1)
    made.add_argument("--catalog-only", action="store_true", help="small catalogues only")
    made.add_argument("--temperature", type=float, default=TEMPERATURE)
    made.add_argument("--top-p", type=float, default=TOP_P)
    made.add_argument("--seed", type=int)
    made.add_argument("--timeout", type=float, default=300.0, help="seconds")
    args = made.parse_args()
    try:
        served = ServedModel.from_pretrained(args.model)
        messages = [*(read_chat(args.chat) if args.chat else []), Message("user", args.request)]
        answer = ask(served, messages, args)
    except TalkPlayError as error:
        raise SystemExit(str(error)) from None
    for track, matched in zip(answer.tracks, answer.matched, strict=True):
        print(f"{track.track_id}  {track.title} - {track.artist}  (by {', '.join(matched)})")
    if answer.malformed or not answer.tracks:
        print(f"{answer.blocks} music blocks, and {answer.malformed} that are not well-formed")
    print(answer.reply)


if __name__ == "__main__":
    main()
