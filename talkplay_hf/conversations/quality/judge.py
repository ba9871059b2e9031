"""A language model as the judge of conversations, by dimensions that others published.

Relevance of the item, consistency of the dialogue and naturalness are what people rated for
LP-MusicDialog (Doh et al., 2024, arXiv:2411.07439). Relevance of each recommendation, naturalness
and consistency of both sides, helpfulness of the listener's requests and accuracy of what the
replies say are what a language model rated for TalkPlayData 2 (Choi et al., 2025, arXiv:2509.09685,
on a scale of 1 to 4). The five names are theirs; the wording and the scale of 1 to 5 are ours, so
figures cannot be set beside theirs.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation, Track
from talkplay_hf.conversations.llm.faults import PromptFailedError
from talkplay_hf.conversations.llm.language_model import Chat, LanguageModel
from talkplay_hf.conversations.quality.sampling import sample_conversations, tracks_of
from talkplay_hf.errors import InputError, LanguageModelError, PromptRefusedError
from talkplay_hf.hub import files

DIMENSIONS = ("relevance", "consistency", "naturalness", "helpfulness", "accuracy")
SCALE = (1, 5)
SAMPLE = 100
REPEATED = 0.2
MESSAGES, CHARACTERS, EXCERPT = 60, 800, 160
BOOTSTRAP = 2_000
LOWEST = 5

CAVEATS = (
    "A language model's ratings are no human ones; compare datasets only under one judge and one "
    "prompt.",
    "Judges lean towards what stands first and towards long texts: the order of the dimensions is "
    "drawn anew for each judgement, and length_correlation says how far ratings follow length.",
    "Failed judgements are left out of the means and counted; if hard conversations fail more "
    "often, the means are too high.",
    "A judge of the family that wrote the conversations may favour them.",
)

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_TEMPLATE = Path(__file__).with_name("judge_prompt.jinja")


@cache
def prompt_sha256() -> str:
    """The identity of the judge's prompt: SHA-256 of all that shapes it but the conversation."""
    shape = [list(DIMENSIONS), list(SCALE), MESSAGES, CHARACTERS, EXCERPT]
    return files.sha256_json([_TEMPLATE.read_text(encoding="utf-8"), *shape])


def judge_chat(
    conversation: Conversation, tracks: Mapping[str, Track], order: Sequence[str] = DIMENSIONS
) -> list[dict[str, str]]:
    """The chat that asks for the ratings of a conversation.

    Args:
        conversation (`Conversation`): The conversation; at most its first 60 messages are shown.
        tracks (`Mapping[str, Track]`): The tracks that it plays, as far as they are known.
        order (`Sequence[str]`): The dimensions, in the order in which they are asked for.
    """
    shown = conversation.messages[:MESSAGES]
    numbers: dict[str, int] = {}
    lines = []
    for message in shown:
        if message.role == "music":
            track_id = message.track_id or ""
            known = track_id in tracks
            number = numbers.setdefault(track_id, len(numbers) + 1) if known else None
            lines.append("(plays " + (f"track [{number}])" if known else "a track)"))
        elif message.role in ("user", "assistant"):
            who = "Listener" if message.role == "user" else "Assistant"
            lines.append(f"{who}: {_cut(message.content, CHARACTERS)}")
    text = _template().render(
        tracks=[tracks[track_id] for track_id in numbers],
        lines=lines,
        left_out=len(conversation.messages) - len(shown),
        order=list(order),
        low=SCALE[0],
        high=SCALE[1],
    )
    return [{"role": "user", "content": text}]


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=False, undefined=StrictUndefined)
    environment.filters["cut"] = lambda text: _cut(text, EXCERPT)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _cut(text: str, size: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1]}…"


def parse_ratings(text: str) -> dict[str, int] | str:
    """Read the ratings out of an answer, or say why there are none. Never raises.

    Nothing is guessed: the answer has to be one JSON object, bare or in one code fence, with a
    whole number of the scale for each dimension and nothing else.

    Args:
        text (`str`): The answer.

    Returns:
        `dict[str, int]`: The ratings; or `str`: `"not_json"`, `"wrong_keys"` or `"off_scale"`.
    """
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced.group(1) if fenced else text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(found, dict) or set(found) != set(DIMENSIONS):
        return "wrong_keys"
    for value in found.values():
        if not isinstance(value, int) or isinstance(value, bool):
            return "off_scale"
        if not SCALE[0] <= value <= SCALE[1]:
            return "off_scale"
    return {name: found[name] for name in DIMENSIONS}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def judge_conversations(
    conversations: Iterable[Conversation],
    catalog: Catalog | None,
    model: LanguageModel,
    *,
    sample: int = SAMPLE,
    repeated: float = REPEATED,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Have a language model rate a random sample of conversations.

    A part of the sample is judged twice, to see how far the judge agrees with itself; the second
    time the dimensions stand in the reverse order. A failed judgement is counted by its reason and
    never filled in. The interval of a mean is a percentile bootstrap of 95 % that draws whole
    conversations, each with all of its judgements.

    Args:
        conversations (`Iterable[Conversation]`): The conversations; they are read once.
        catalog (`Catalog`, *optional*): Their catalog. Without it, the judge is told nothing about
            the tracks, so that its ratings of relevance and accuracy mean little.
        model (`LanguageModel`): The judge.
        sample (`int`): How many conversations to judge.
        repeated (`float`): Share of them to judge twice, from 0 to 1.
        seed (`int`): Draws the sample, the orders and the bootstrap.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: JSON values: `scores` by dimension (`mean`, `low`, `high`, `histogram`),
        `failed` by reason, `agreement`, `length_correlation`, `lowest`, what was asked of whom, and
        `caveats`. Where the judge cannot be asked any longer, `stopped` says why, and the scores
        are of what was judged by then.

    Raises:
        InputError: If `sample` or `repeated` is out of range.
        LanguageModelError: If the judge cannot be asked at all.
    """
    if not 0 <= repeated <= 1:
        raise InputError(f"repeated {repeated}: must be from 0 to 1")
    chosen = sample_conversations(conversations, sample, seed)
    tracks = tracks_of(chosen, catalog)
    rng = np.random.default_rng(seed)
    twice = int(np.ceil(repeated * len(chosen)))
    tasks = [*range(len(chosen)), *range(twice)]
    orders = [[DIMENSIONS[at] for at in rng.permutation(len(DIMENSIONS))] for _ in chosen]
    orders += [order[::-1] for order in orders[:twice]]
    round_ = _Round(model, len(tasks), progress)
    chats = [judge_chat(chosen[at], tracks, order) for at, order in zip(tasks, orders, strict=True)]
    asyncio.run(round_.ask(chats))
    if round_.stopped is not None and not round_.answers:
        raise round_.stopped
    ratings: dict[int, list[dict[str, int]]] = {}
    failed: Counter[str] = Counter()
    for number, at in enumerate(tasks):
        answer = round_.answers.get(number, "not_asked")
        if isinstance(answer, str):
            failed[answer] += 1
        else:
            ratings.setdefault(at, []).append(answer)
    return {
        "model": model.name,
        "parameters": dict(model.parameters),
        "prompt_sha256": prompt_sha256(),
        "dimensions": list(DIMENSIONS),
        "scale": list(SCALE),
        "sampled": len(chosen),
        "judged": len(ratings),
        "judgements": sum(map(len, ratings.values())),
        "failed": dict(sorted(failed.items())),
        "stopped": None if round_.stopped is None else str(round_.stopped),
        "scores": _scores(ratings, rng),
        "agreement": _agreement(ratings),
        "length_correlation": _length_correlation(ratings, chosen),
        "lowest": _lowest(ratings, chosen),
        "prompt_tokens": round_.prompt_tokens,
        "completion_tokens": round_.completion_tokens,
        "caveats": list(CAVEATS),
    }


class _Round:
    """Asks the judge, several chats at a time, and keeps what it said."""

    def __init__(
        self,
        model: LanguageModel,
        total: int,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self._model, self._total, self._progress = model, total, progress
        self.answers: dict[int, dict[str, int] | str] = {}
        self.stopped: LanguageModelError | None = None
        self.prompt_tokens = self.completion_tokens = 0

    async def ask(self, chats: Sequence[Chat]) -> None:
        waiting = iter(enumerate(chats))

        async def work() -> None:
            for number, chat in waiting:
                if self.stopped is not None:
                    return
                try:
                    self.answers[number] = await self._ratings(chat)
                except LanguageModelError as error:
                    self.stopped = self.stopped or error
                    return
                if self._progress is not None:
                    self._progress("judging", len(self.answers), self._total)

        await asyncio.gather(*(work() for _ in range(self._model.concurrency)))

    async def _ratings(self, chat: Chat) -> dict[str, int] | str:
        try:
            answer = await self._model.complete(chat)
        except PromptFailedError:
            return "no_answer"
        except PromptRefusedError:
            return "refused"
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        return parse_ratings(answer.text)


def _scores(
    ratings: Mapping[int, Sequence[Mapping[str, int]]], rng: np.random.Generator
) -> dict[str, Any]:
    """Mean, interval and histogram of each dimension, and of all of them together."""
    clusters = [ratings[at] for at in sorted(ratings)]
    if not clusters:
        return {}
    draws = rng.integers(len(clusters), size=(BOOTSTRAP, len(clusters)))
    sizes = np.array([len(cluster) for cluster in clusters])
    scores: dict[str, Any] = {}
    for name in (*DIMENSIONS, "overall"):
        names = DIMENSIONS if name == "overall" else (name,)
        sums = np.array([
            sum(one[part] for one in cluster for part in names) / len(names) for cluster in clusters
        ])  # fmt: skip
        means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        scores[name] = {
            "mean": float(sums.sum() / sizes.sum()),
            "low": float(low),
            "high": float(high),
        }
        if name != "overall":
            counts = Counter(one[name] for cluster in clusters for one in cluster)
            grades = range(SCALE[0], SCALE[1] + 1)
            scores[name]["histogram"] = {str(grade): counts[grade] for grade in grades}
    return scores


def _agreement(ratings: Mapping[int, Sequence[Mapping[str, int]]]) -> dict[str, Any]:
    """How far the judge agrees with itself where it judged twice."""
    pairs = [both for both in ratings.values() if len(both) == 2]
    if not pairs:
        return {"pairs": 0, "by_dimension": {}}
    rows = {}
    for name in DIMENSIONS:
        gaps = np.array([abs(one[name] - other[name]) for one, other in pairs])
        rows[name] = {
            "same": float((gaps == 0).mean()),
            "within_one": float((gaps <= 1).mean()),
            "mean_difference": float(gaps.mean()),
        }
    return {"pairs": len(pairs), "by_dimension": rows}


def _mean(both: Sequence[Mapping[str, int]]) -> float:
    return sum(sum(one.values()) for one in both) / (len(both) * len(DIMENSIONS))


def _length_correlation(
    ratings: Mapping[int, Sequence[Mapping[str, int]]], chosen: Sequence[Conversation]
) -> float | None:
    """Spearman's correlation of the mean rating of a conversation with its length in words."""
    from scipy.stats import rankdata

    means = [_mean(ratings[at]) for at in sorted(ratings)]
    lengths = [sum(len(m.content.split()) for m in chosen[at].messages) for at in sorted(ratings)]
    if len(set(means)) < 2 or len(set(lengths)) < 2:
        return None
    return float(np.corrcoef(rankdata(means), rankdata(lengths))[0, 1])


def _lowest(
    ratings: Mapping[int, Sequence[Mapping[str, int]]], chosen: Sequence[Conversation]
) -> list[dict[str, Any]]:
    """The conversations with the lowest mean rating, to look at."""
    ordered = sorted((_mean(both), chosen[at].conversation_id) for at, both in ratings.items())
    return [{"conversation_id": name, "mean": mean} for mean, name in ordered[:LOWEST]]
