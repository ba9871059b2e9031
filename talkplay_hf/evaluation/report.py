"""What an evaluation found: every figure, as JSON values and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.evaluation.metrics.intervals import Figure

FORMAT_VERSION = 1
MODEL = "talkplay"
CHAT = "talkplay-chat"
CHANCE = "chance"
LABEL = "label"
# what the text shows of a table; the JSON has all of it
_SHOWN = ("mrr", "hit@1", "hit@10", "hit@100")

Table = dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Difference(Figure):
    """A mean difference between two systems on the same turns.

    Args:
        p (`float`): How likely one as large would be if the systems were the same, two-sided.
    """

    p: float


@dataclass(frozen=True)
class EvaluationReport:
    """Every figure of an evaluation, with the conditions that it holds under.

    Args:
        conversations (`int`): How many conversations have a turn that counts.
        turns (`int`): How many turns count.
        candidates (`int`): How many tracks the catalog has.
        k (`int`): The depth at which every ranking is cut.
        ranking_options (`dict[str, Any]`): How the model ranks, see `RankingOptions`; empty
            without a model.
        seed (`int`): The seed of all that systems draw.
        bootstrap_seed (`int`): The seed of intervals and tests.
        resamples (`int`): How many bootstrap resamples the intervals are made from.
        exclude_played (`bool`): Whether tracks already played were taken out of the candidates.
        skipped (`dict[str, int]`): How many turns were left out, by reason.
        hashes (`dict[str, str | None]`): SHA-256 of `"model"` (`None` where it is not a folder or
            repository), `"catalog"` and `"conversations"`.
        ranking (`dict[str, dict[str, Figure]]`): By system, then metric.
        ranking_with_negatives (`dict[str, dict[str, Figure]]`): The same over all turns, those of
            the negative set among them; empty unless asked for.
        differences (`dict[str, dict[str, Difference]]`): Model minus baseline on the same turns: by
            baseline, then metric, `"fit"` being the request fit over all requests.
        fit (`dict[str, dict[str, Figure]]`): The share of requests whose every constraint the
            first track meets: by system, then `"all"`, `"macro"` (the mean over the kinds of
            `MACRO_KINDS`, or over all where none of these occurs), and each kind. Further systems
            are `"talkplay-chat"` (a sampled answer, as given), `"chance"` (any candidate) and
            `"label"` (the track of the conversation). Empty where no message carries constraints.
        mrr_by_turn (`dict[str, dict[int, Figure]]`): By system, then turn number (figure 3).
        hit_curve (`dict[str, dict[int, Figure]]`): By system, then K: the chance of a right track
            among the first K.
        slices (`dict[str, dict[str, dict[str, Figure]]]`): By kind of turn, then system, then
            metric.
        lists (`dict[str, dict[str, float]]`): By system, what its lists look like as a whole.
        replies (`dict[str, dict[str, Any]]`): Figures of the model's replies and of those of the
            conversations (`"label"`); empty unless asked for.
        examples (`list[dict[str, Any]]`): A few turns with what each system answers.
        catalog_kind (`str`): `"catalog"`, or `"demo world"` where it is fictional.
        matching (`dict[str, Any]`, *optional*): What a `MatchingReport` says.
        training (`dict[str, Any]`, *optional*): The training report of the model.
        codebooks (`dict[str, Any]`, *optional*): The codebook health of the model.
    """

    conversations: int
    turns: int
    candidates: int
    k: int
    ranking_options: dict[str, Any]
    seed: int
    bootstrap_seed: int
    resamples: int
    exclude_played: bool
    skipped: dict[str, int]
    hashes: dict[str, str | None]
    ranking: Table
    ranking_with_negatives: Table
    differences: dict[str, dict[str, Difference]]
    fit: Table
    mrr_by_turn: dict[str, dict[int, Figure]]
    hit_curve: dict[str, dict[int, Figure]]
    slices: dict[str, Table]
    lists: dict[str, dict[str, float]]
    replies: dict[str, dict[str, Any]]
    examples: list[dict[str, Any]] = field(repr=False)
    catalog_kind: str = "catalog"
    matching: dict[str, Any] | None = None
    training: dict[str, Any] | None = field(default=None, repr=False)
    codebooks: dict[str, Any] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; every figure is `{value, low, high, n}`, some with `p`."""
        report = {"format_version": FORMAT_VERSION, "talkplay_hf": __version__, **asdict(self)}
        for name in ("mrr_by_turn", "hit_curve"):
            report[name] = {
                system: {str(number): figure for number, figure in figures.items()}
                for system, figures in report[name].items()
            }
        for name in ("matching", "training", "codebooks"):
            if report[name] is None:
                del report[name]
        return report

    def summary(self) -> str:
        """The key figures as aligned text tables."""
        shown = [name for name in _SHOWN if any(name in row for row in self.ranking.values())]
        kinds = {kind for figures in self.fit.values() for kind in figures} - {"all", "macro"}
        slices = {
            system: {name: table[system]["mrr"] for name, table in self.slices.items()}
            for system in self.ranking
        }
        hits = {s: {f"hit@{level}": f for level, f in c.items()} for s, c in self.hit_curve.items()}
        turns = {
            s: {f"turn {number}": f for number, f in by_turn.items() if number <= 10}
            for s, by_turn in self.mrr_by_turn.items()
        }
        sections = [
            self._conditions(),
            _intervals("ranking", self.ranking, shown),
            _intervals("ranking, negative turns included", self.ranking_with_negatives, shown),
            _intervals(f"{MODEL} minus", self.differences, [*shown, "fit"]),
            _intervals("request fit of the first track", self.fit, ["all", "macro"]),
            _values("request fit by kind", self.fit, sorted(kinds)),
            _values("MRR by turn", turns),
            _values("MRR by kind of turn", slices),
            _values("hit curve", hits),
            _values("the lists", self.lists),
            _values("replies", self.replies),
        ]
        return "\n\n".join(section for section in sections if section) + "\n"

    def _conditions(self) -> str:
        played = " less those played before in the dialogue" if self.exclude_played else ""
        skipped = Counter({name.replace("_", " "): n for name, n in self.skipped.items() if n})
        left_out = ", ".join(f"{n:,} {name}" for name, n in skipped.items()) or "none"
        if self.ranking_with_negatives:
            left_out += " (negative ones have a table of their own)"
        lines = [
            f"{self.turns:,} turns of {self.conversations:,} conversations; seed {self.seed}",
            f"candidates: the {self.candidates:,} tracks of the catalog{played}",
            f"ranks beyond {self.k} count as not found; ties count at their expected value",
            f"{MODEL} ranks {_how(self.ranking_options)}" if self.ranking_options else "",
            f"turns left out: {left_out}",
            f"in brackets: 95 % intervals, {self.resamples:,} resamples of conversations; * marks "
            "p < 0.05",
        ]
        return "\n".join(line for line in lines if line)


def _how(options: Mapping[str, Any]) -> str:
    """How the model ranks, in words."""
    sampled = f"at temperature {options['temperature']:g}, top-p {options['top_p']:g}"
    constraint = {
        "catalog": "within the catalog",
        "grammar": "among all well-formed blocks, looked up",
        "none": "without constraint, looked up",
    }[options["constraint"]]
    how = {
        "beam": f"by beam search of width {options['beam_width']:,} {constraint}",
        "exact": "exactly: every track by the probability of its five tokens",
        "sampling": f"{options['draws']:,} blocks sampled {sampled} {constraint}",
        "expansion": f"what matches one block sampled {sampled} {constraint}",
    }[options["strategy"]]
    return f"{how}; tracks that the request names come first" if options["names"] else how


def _intervals(
    title: str, table: Mapping[str, Mapping[str, Figure]], columns: Sequence[str]
) -> str:
    """A table as text, each figure with its interval."""
    return _render(title, table, [c for c in columns if any(c in row for row in table.values())])


def _values(
    title: str, table: Mapping[str, Mapping[str, Any]], columns: Sequence[str] | None = None
) -> str:
    """A table as text, without intervals."""
    if columns is None:
        columns = list(dict.fromkeys(name for row in table.values() for name in row))
    bare = {
        system: {name: getattr(cell, "value", cell) for name, cell in row.items()}
        for system, row in table.items()
    }
    return _render(title, bare, columns)


def _render(title: str, table: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table as text: systems down, figures across."""
    if not table or not columns:
        return ""
    rows = [[title, *columns]]
    rows += [[system, *(_text(row.get(name)) for name in columns)] for system, row in table.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _text(cell: Any) -> str:
    if not isinstance(cell, Figure):
        return "-" if cell is None else f"{cell:.3f}" if abs(cell) < 10 else f"{cell:,.0f}"
    star = ("*" if cell.p < 0.05 else " ") if isinstance(cell, Difference) else ""
    if cell.low is None or cell.high is None:
        return f"{cell.value:.3f} [-, -]{star}"
    return f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]{star}"
