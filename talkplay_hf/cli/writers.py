"""The flags of those who write conversations: the simulator and language models."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import pairs
from talkplay_hf.errors import InputError

if TYPE_CHECKING:
    from talkplay_hf.conversations.llm.endpoint import EndpointOptions
    from talkplay_hf.conversations.llm.local_model import LocalOptions

SIMULATOR, ENDPOINT, LOCAL = WRITERS = ("simulator", "endpoint", "transformers")
COUNT = 12_000
LEDGER_SUFFIX = ".ledger.jsonl"
# beside the ledger: what the calls have cost, also those without an answer
SPENT_SUFFIX = ".spent"


class Flags:
    """Flags of some of the writers. None has a default: what is not given is left to the library,
    and what is given to a writer that has no use for it is refused."""

    def __init__(self, sub: argparse.ArgumentParser, *writers: str) -> None:
        self.writers = writers
        self.names: list[str] = []
        self._group = sub.add_argument_group(f"with --writer {' or '.join(writers)}")

    def add(self, flag: str, **details: Any) -> None:
        """Add one; the details are those of `add_argument`."""
        self._group.add_argument(flag, default=None, **details)
        self.names.append(flag)

    def refuse(self, args: argparse.Namespace) -> None:
        """Refuse the flags that the writer has no use for."""
        for flag in self.names:
            if args.writer not in self.writers and _value(args, flag) is not None:
                wanted = " or ".join(self.writers)
                raise InputError(f"{flag} is for --writer {wanted}, not {args.writer}")


def writer_flags(sub: argparse.ArgumentParser) -> tuple[Flags, ...]:
    """Add the flags of the writers."""
    one = Flags(sub, SIMULATOR)
    one.add("--count", type=take.COUNT, metavar="N", help=f"conversations (default {COUNT})")
    one.add(
        "--languages", metavar="CODES", help="languages to write in, of de,en,es,fr,pt (default en)"
    )
    one.add(
        "--title-share",
        type=float,
        metavar="SHARE",
        help="share of the replies that name the title (default 1; 0 for a small model)",
    )

    one.add("--options", metavar="FILE", help="YAML file of further options of the simulator")

    models = Flags(sub, ENDPOINT, LOCAL)
    models.add("--model", metavar="NAME", help="the model's name, or its folder (required)")
    models.add("--playlists", type=take.COUNT, metavar="N", help="most playlists (default all)")
    models.add(
        "--piece-size",
        type=take.COUNT,
        metavar="N",
        help="about how many tracks of a playlist one conversation is about",
    )
    models.add("--pieces", type=take.COUNT, metavar="N", help="most pieces of one playlist")
    models.add(
        "--negatives",
        type=take.whole_number(0),
        metavar="N",
        help="tracks that the user is not to want",
    )
    models.add("--language", help="language of the conversations, in English (default English)")
    models.add(
        "--labels",
        choices=("id", "number"),
        help="how a prompt names tracks: by id, or by short numbers, which small models copy "
        "better (default id)",
    )
    models.add("--turns", type=take.COUNT, metavar="N", help="most turns to ask for")
    models.add(
        "--lyrics", type=take.whole_number(0), metavar="N", help="most characters of lyrics a track"
    )
    models.add("--prompt", metavar="FILE", help="a prompt in place of the built-in one")
    models.add("--max-tokens", type=take.COUNT, metavar="N", help="most tokens of an answer")
    models.add(
        "--temperature",
        type=float,
        metavar="T",
        help="sampling temperature (default: the server's; in this process 1)",
    )
    models.add("--top-p", type=float, metavar="P", help="nucleus of the sampling")
    models.add(
        "--concurrency",
        type=take.COUNT,
        metavar="N",
        help="most requests at a time, or chats in a batch (default 8)",
    )
    models.add(
        "--attempts", type=take.COUNT, metavar="N", help="most answers for a piece (default 3)"
    )
    models.add(
        "--max-calls",
        type=take.whole_number(0),
        metavar="N",
        help="cap on calls, with retries and those of earlier runs; 0 only harvests the ledger",
    )
    models.add(
        "--max-total-tokens",
        type=take.COUNT,
        metavar="N",
        help="cap on tokens of prompts and answers, with those of earlier runs",
    )
    models.add(
        "--ledger",
        metavar="FILE",
        help=f"where raw answers are kept (default OUT{LEDGER_SUFFIX}); FILE{SPENT_SUFFIX} counts "
        "what the calls cost",
    )
    models.add(
        "--dry-run",
        action="store_true",
        help="say what asking would take and show one prompt; ask nothing, which takes no key and "
        "no weights",
    )

    endpoint = Flags(sub, ENDPOINT)
    endpoint.add(
        "--base-url",
        metavar="URL",
        help="an OpenAI-compatible server (default: the providers of the Hugging Face Hub)",
    )
    endpoint.add("--provider", metavar="NAME", help="which of the providers (default auto)")
    endpoint.add(
        "--api-key-env",
        metavar="VARIABLE",
        help="environment variable that holds the key (default: the Hugging Face token, sent to "
        "Hugging Face alone)",
    )
    endpoint.add(
        "--structured",
        choices=("json_schema", "json_object"),
        help="hold the model to the form of an answer and to the tracks of its piece, where the "
        "server can: json_schema as OpenAI has it, json_object as llama-cpp-python has it",
    )
    endpoint.add(
        "--max-tokens-field",
        choices=("max_tokens", "max_completion_tokens"),
        help="how a request names the most tokens (default max_tokens; reasoning models of OpenAI "
        "want max_completion_tokens)",
    )
    endpoint.add(
        "--field",
        action="append",
        metavar="NAME=VALUE",
        help="a further field of the request, VALUE as JSON or a word, such as "
        "reasoning_effort=low; may be repeated",
    )
    endpoint.add("--timeout", type=float, metavar="SECONDS", help="most time for one answer")

    local = Flags(sub, LOCAL)
    local.add("--revision", metavar="NAME", help="branch, tag or commit of the model on the Hub")
    local.add("--gguf-file", metavar="NAME", help="a GGUF file of the model to take weights from")
    local.add("--device", help="where the model runs (default: a GPU, else the CPU)")
    return one, models, endpoint, local


def _value(args: argparse.Namespace, flag: str) -> Any:
    return getattr(args, flag.removeprefix("--").replace("-", "_"))


def given(args: argparse.Namespace, **flags: str) -> dict[str, Any]:
    """The flags that were given, by the names that the library has for them."""
    values = {name: _value(args, flag) for name, flag in flags.items()}
    return {name: value for name, value in values.items() if value is not None}


def model_options(args: argparse.Namespace) -> "EndpointOptions | LocalOptions":
    """The flags that say which language model is asked, and how."""
    flags = given(
        args,
        model="--model",
        max_tokens="--max-tokens",
        temperature="--temperature",
        top_p="--top-p",
        concurrency="--concurrency",
    )
    if args.writer == ENDPOINT:
        from talkplay_hf.conversations.llm.endpoint import EndpointOptions

        flags |= given(
            args,
            base_url="--base-url",
            provider="--provider",
            key_variable="--api-key-env",
            structured="--structured",
            max_tokens_field="--max-tokens-field",
            timeout="--timeout",
        )
        return EndpointOptions(**flags, extra=_fields(args.field))
    from talkplay_hf.conversations.llm.local_model import LocalOptions

    flags |= given(args, revision="--revision", gguf_file="--gguf-file", device="--device")
    return LocalOptions(**flags)


def _fields(texts: list[str] | None) -> dict[str, Any]:
    """The values of `--field`: JSON, or a word as it is."""
    found: dict[str, Any] = {}
    for name, text in pairs(texts, "--field", "NAME=VALUE").items():
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
