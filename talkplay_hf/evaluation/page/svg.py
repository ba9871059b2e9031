"""Pieces that charts are drawn from, as SVG text: axes, marks, legends and their colours.

Colours stand in classes, so that one style sheet turns every chart from light to dark, inside the
page and as a file of its own. A system keeps its colour, dash and mark in every chart of a report.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from talkplay_hf.evaluation.page.text import clean

WIDTH = 440
LEGEND_ROW = 15
# The first is the model's; each is legible on its own ground.
LIGHT = (
    "#3346d3", "#c2571a", "#1b8258", "#a3318f", "#7d6200",
    "#0b78a3", "#b3372f", "#6b6b70", "#7a4fb5", "#4d7a1f",
)  # fmt: skip
DARK = (
    "#93a1ff", "#f79a5b", "#4fc79a", "#e389d3", "#d6b945",
    "#5cc3ee", "#ff8d83", "#a9a9b3", "#bf9bf2", "#a3d267",
)  # fmt: skip
DASHES = ("", "6 3", "2 2.5")


def style_sheet() -> str:
    """The rules of all charts, for light and for dark."""

    def rules(colours: Sequence[str], ink: str, soft: str, line: str, card: str) -> str:
        text = f".c-ink{{fill:{ink}}}.c-soft{{fill:{soft}}}.c-card{{fill:{card}}}"
        text += f".c-grid{{stroke:{line}}}.c-axis{{stroke:{soft}}}.c-rest{{fill:{line}}}"
        for i, colour in enumerate(colours):
            text += f".c-l{i}{{stroke:{colour}}}.c-f{i}{{fill:{colour}}}"
        return text

    light = rules(LIGHT, "#1d1c1a", "#6d6963", "#e3e0da", "#ffffff")
    dark = rules(DARK, "#ececee", "#9c9ca6", "#35353c", "#1d1d21")
    base = (
        '.chart text{font:10.5px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}'
        ".chart .c-line{fill:none;stroke-linejoin:round;stroke-linecap:round}"
        ".chart .c-band{stroke:none;fill-opacity:.15}"
    )
    return f"{base}{light}@media (prefers-color-scheme:dark){{{dark}}}"


@dataclass(frozen=True)
class Style:
    """How a series looks.

    Args:
        colour (`int`): Its place in the palette.
        dash (`str`): The dash pattern of its line.
        mark (`int`): Its mark: 0 a disc, 1 a square, 2 a diamond, 3 a triangle.
        width (`float`): The width of its line.
    """

    colour: int
    dash: str = ""
    mark: int = 0
    width: float = 1.5


def style_of(place: int) -> Style:
    """The style of the system at a place, 0 being the model."""
    if place == 0:
        return Style(0, width=2.6)
    other = place - 1
    colour = 1 + other % (len(LIGHT) - 1)
    return Style(colour, DASHES[other % 3], (1 + other) % 4)


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Args:
        name (`str`): The stem of its file.
        title (`str`): A heading.
        alt (`str`): What it shows, for who cannot see it.
        body (`str`): SVG elements.
        height (`float`): In units of which the width is `WIDTH`.
        note (`str`): A line under it.
    """

    name: str
    title: str
    alt: str
    body: str
    height: float
    note: str = ""

    def inline(self) -> str:
        """The chart as an element of a page that has the `style_sheet`."""
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {num(self.height)}" role="img" '
            f'aria-label="{escape(self.alt)}">{self.body}</svg>'
        )

    def file(self) -> str:
        """The chart as a file of its own."""
        height = num(self.height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" '
            f'viewBox="-8 -8 {WIDTH + 16} {num(self.height + 16)}" width="{1.5 * WIDTH:.0f}" '
            f'role="img" aria-label="{escape(self.alt)}"><style>{style_sheet()}</style>'
            f'<rect class="c-card" x="-8" y="-8" width="{WIDTH + 16}" height="{height}"/>'
            f'<rect class="c-card" x="-8" y="0" width="{WIDTH + 16}" '
            f'height="{num(self.height + 8)}"/>{self.body}</svg>\n'
        )


@dataclass(frozen=True)
class Scale:
    """Maps values to places on an axis.

    Args:
        low (`float`): The value at `start`.
        high (`float`): The value at `end`.
        start (`float`): A place.
        end (`float`): A place.
        log (`bool`): Whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; values beyond the axis stay at its end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between two, about so many."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 ... between two values above zero, and more where these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        found = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(found) > 3:
            break
    return found


def num(value: float) -> str:
    """A coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def short(value: float) -> str:
    """A tick as text."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")


def text(x: float, y: float, words: str, *, anchor: str = "start", ink: str = "soft") -> str:
    """Words; `ink` is the class of their colour."""
    return (
        f'<text x="{num(x)}" y="{num(y)}" class="c-{ink}" text-anchor="{anchor}">'
        f"{escape(clean(words))}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "c-grid", more: str = "") -> str:
    """A straight line."""
    return (
        f'<line x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}" class="{kind}"{more}/>'
    )


def path(points: Sequence[tuple[float, float]], style: Style) -> str:
    """A line through points."""
    steps = "L".join(f"{num(x)} {num(y)}" for x, y in points)
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return (
        f'<path class="c-line c-l{style.colour}" stroke-width="{style.width}"{dash} d="M{steps}"/>'
    )


def band(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], c: int) -> str:
    """The area between two lines."""
    steps = "L".join(f"{num(x)} {num(y)}" for x, y in [*upper, *reversed(lower)])
    return f'<path class="c-band c-f{c}" d="M{steps}Z"/>'


def mark(x: float, y: float, style: Style, title: str = "", size: float = 2.6) -> str:
    """A mark at a point; the title shows when a pointer rests on it."""
    tip = f"<title>{escape(clean(title))}</title>" if title else ""
    if style.mark == 0:
        size *= 1.1
        return (
            f'<circle class="c-f{style.colour}" cx="{num(x)}" cy="{num(y)}" '
            f'r="{num(size)}">{tip}</circle>'
        )
    corners = {
        1: ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        2: ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
        3: ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)),
    }[style.mark]
    steps = "L".join(f"{num(x + size * dx)} {num(y + size * dy)}" for dx, dy in corners)
    return f'<path class="c-f{style.colour}" d="M{steps}Z">{tip}</path>'


def legend(entries: Sequence[tuple[str, Style]], top: float, *, lines: bool = True) -> str:
    """Names and how they look, in two columns."""
    parts = []
    for at, (name, style) in enumerate(entries):
        x, y = (at % 2) * WIDTH / 2 + 6, top + LEGEND_ROW * (at // 2) + 9
        if lines:
            parts.append(path([(x, y - 3.5), (x + 22, y - 3.5)], style))
        parts.append(mark(x + 11, y - 3.5, style))
        parts.append(text(x + 29, y, fit(name, 30), ink="ink"))
    return "".join(parts)


def legend_height(count: int) -> float:
    """How much a legend of so many entries takes."""
    return LEGEND_ROW * math.ceil(count / 2) + 4


def fit(name: str, longest: int) -> str:
    """A name cut to a length."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
