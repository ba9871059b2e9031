"""The charts of a report: lines with bands, intervals beside each other, and stacked bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from talkplay_hf.evaluation.page import svg
from talkplay_hf.evaluation.page.svg import WIDTH, Chart, Scale, Style

PLOT_HEIGHT = 190


@dataclass(frozen=True)
class Point:
    """A figure in a chart.

    Args:
        x (`float`): Where it stands.
        value (`float`): The figure.
        low (`float`, *optional*): The lower end of its interval.
        high (`float`, *optional*): The upper end.
        style (`Style`, *optional*): How it looks in a dot chart, if not as its series.
    """

    x: float
    value: float
    low: float | None = None
    high: float | None = None
    style: Style | None = None

    @property
    def top(self) -> float:
        """The highest value that belongs to it."""
        return self.value if self.high is None else self.high

    @property
    def bottom(self) -> float:
        """The lowest value that belongs to it."""
        return self.value if self.low is None else self.low


@dataclass(frozen=True)
class Series:
    """A named row of figures.

    Args:
        name (`str`): What it is.
        style (`Style`): How it looks.
        points (`Sequence[Point]`): The figures, in order.
        band (`bool`): Whether the intervals are drawn in a line chart.
        marks (`bool`): Whether each point has a mark in a line chart.
    """

    name: str
    style: Style
    points: Sequence[Point]
    band: bool = True
    marks: bool = True


@dataclass(frozen=True)
class _Area:
    """A part of a chart with its axes."""

    left: float
    top: float
    right: float
    bottom: float


def line_chart(
    name: str,
    title: str,
    alt: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    note: str = "",
) -> Chart:
    """Lines over a shared axis, with a legend below.

    Args:
        name (`str`): The stem of its file.
        title (`str`): A heading.
        alt (`str`): What it shows, in words.
        series (`Sequence[Series]`): The lines; the first one is drawn last, over the others.
        x_label (`str`): What the horizontal axis is.
        y_label (`str`): What the vertical axis is.
        x_ticks (`Sequence[float]`, *optional*): Where the horizontal axis is marked.
        log_x (`bool`): Whether the horizontal axis is logarithmic.
        log_y (`bool`): Whether the vertical axis is logarithmic.
        note (`str`): A line under it.
    """
    area = _Area(42, 22, WIDTH - 8, 22 + PLOT_HEIGHT)
    body = svg.text(0, 10, y_label)
    body += _lines(area, series, x_ticks, log_x=log_x, log_y=log_y)
    body += svg.text((area.left + area.right) / 2, area.bottom + 31, x_label, anchor="middle")
    below = area.bottom + 40
    body += svg.legend([(one.name, one.style) for one in series], below)
    return Chart(name, title, alt, body, below + svg.legend_height(len(series)), note)


def pair_panels(
    name: str,
    title: str,
    alt: str,
    first: Series,
    others: Sequence[Series],
    *,
    x_label: str,
    note: str = "",
) -> Chart:
    """One series beside each of the others, a small panel each, all on the same axes.

    Args:
        name (`str`): The stem of its file.
        title (`str`): A heading.
        alt (`str`): What it shows, in words.
        first (`Series`): The one that is in every panel.
        others (`Sequence[Series]`): One a panel.
        x_label (`str`): What the horizontal axis is.
        note (`str`): A line under it.
    """
    wide, high = (WIDTH - 34) / 2, 112
    every = [point for one in (first, *others) for point in one.points]
    top = max(point.top for point in every) or 1.0
    body = ""
    for at, other in enumerate(others):
        left, y = 30 + (at % 2) * (wide + 4), (at // 2) * high
        area = _Area(left + 4, y + 18, left + wide - 6, y + high - 22)
        body += svg.mark(left + 9, y + 8, other.style)
        body += svg.text(left + 18, y + 11.5, svg.fit(other.name, 26), ink="ink")
        body += _lines(area, [first, other], None, top=top, y_names=at % 2 == 0, few=True)
    rows = (len(others) + 1) // 2
    body += svg.text(30 + wide, rows * high + 6, x_label, anchor="middle")
    return Chart(name, title, alt, body, rows * high + 12, note)


def _lines(
    area: _Area,
    series: Sequence[Series],
    x_ticks: Sequence[float] | None,
    *,
    log_x: bool = False,
    log_y: bool = False,
    top: float | None = None,
    y_names: bool = True,
    few: bool = False,
) -> str:
    points = [point for one in series for point in one.points]
    xs = sorted({point.x for point in points})
    shown = [p.top if one.band else p.value for one in series for p in one.points]
    high = top or max(shown) or 1.0
    low = 0.0
    if log_y:
        low, high = 0.95 * min(point.value for point in points), 1.05 * high
    else:
        low = min(0.0, min(point.value for point in points))
    end = xs[-1] if xs[-1] > xs[0] else xs[0] + 1
    across = Scale(xs[0], end, area.left + 4, area.right - 4, log_x)
    upward = Scale(low, high, area.bottom, area.top, log_y)
    body = ""
    marks = svg.log_ticks(low, high) if log_y else svg.ticks(low, high, 3 if few else 5)
    for tick in marks:
        y = upward(tick)
        body += svg.line(area.left, y, area.right, y)
        if y_names:
            body += svg.text(area.left - 5, y + 3.5, svg.short(tick), anchor="end")
    if x_ticks is None:
        x_ticks = _whole_ticks(xs[0], xs[-1], 4 if few else 11)
    for tick in x_ticks:
        x = across(tick)
        body += svg.line(x, area.bottom, x, area.bottom + 3, "c-axis")
        name = svg.short(tick)
        x = min(x, WIDTH - 3.2 * len(name))
        body += svg.text(x, area.bottom + 14, name, anchor="middle")
    body += svg.line(area.left, area.bottom, area.right, area.bottom, "c-axis")
    for one in reversed(series):
        held = [p for p in one.points if p.low is not None]
        if one.band and len(held) > 1:
            upper = [(across(p.x), upward(p.top)) for p in held]
            lower = [(across(p.x), upward(p.bottom)) for p in held]
            body += svg.band(upper, lower, one.style.colour)
    for one in reversed(series):
        places = [(across(p.x), upward(p.value)) for p in one.points]
        if len(places) > 1:
            body += svg.path(places, one.style)
        if one.marks or len(places) == 1:
            for point, (x, y) in zip(one.points, places, strict=True):
                tip = f"{one.name}, {svg.short(point.x)}: {_told(point)}"
                body += svg.mark(x, y, one.style, tip, 1.8 if few else 2.4)
    return body


def _whole_ticks(low: float, high: float, most: int) -> list[float]:
    """Whole numbers between two, about so many at most."""
    for step in (1, 2, 3):
        if (high - low) / step <= most:
            return [float(x) for x in range(int(low), int(high) + 1, step)]
    found = [x for x in svg.ticks(low, high, most // 2) if x == int(x)]
    # turn 1 is marked, too
    return [1.0, *found] if low == 1 else found


def dot_chart(
    name: str,
    title: str,
    alt: str,
    rows: Mapping[str, Sequence[Series]],
    *,
    panels: Sequence[str] = ("",),
    zero: bool = False,
    key: Sequence[tuple[str, Style]] = (),
    note: str = "",
) -> Chart:
    """Figures with their intervals, one row below the other.

    Args:
        name (`str`): The stem of its file.
        title (`str`): A heading.
        alt (`str`): What it shows, in words.
        rows (`Mapping[str, Sequence[Series]]`): By row: what it holds; each series has one point a
            panel, `x` being the number of the panel from 0. Several in one row stand below each
            other.
        panels (`Sequence[str]`): Headings of the panels, which have axes of their own.
        zero (`bool`): Whether the line at zero is drawn and always in view.
        key (`Sequence[tuple[str, Style]]`): The legend, if there is one.
        note (`str`): A line under it.
    """
    names = max(map(len, rows))
    left = min(150.0, 12 + 5.7 * names)
    wide = (WIDTH - left) / len(panels)
    step = 9.0
    heights = [max(17.0, step * len(held) + 9) for held in rows.values()]
    start = 18.0 if any(panels) else 4.0
    bottom = start + sum(heights)
    body = ""
    scales = []
    for number, panel in enumerate(panels):
        x0, x1 = left + wide * number + 9, left + wide * (number + 1) - 9
        points = [p for held in rows.values() for one in held for p in one.points if p.x == number]
        low, high = min(p.bottom for p in points), max(p.top for p in points)
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            high = low + 1
        scale = Scale(low, high, x0, x1)
        scales.append(scale)
        body += svg.text((x0 + x1) / 2, 10, panel, anchor="middle", ink="ink")
        for tick in svg.ticks(low, high, 2 if len(panels) > 1 else 5):
            body += svg.line(scale(tick), start, scale(tick), bottom)
            body += svg.text(scale(tick), bottom + 12, svg.short(tick), anchor="middle")
        if zero:
            body += svg.line(scale(0), start, scale(0), bottom, "c-axis")
    y = start
    for (row, held), height in zip(rows.items(), heights, strict=True):
        middle = y + height / 2
        if len(held) > 1 and y > start:
            body += svg.line(0, y, WIDTH, y)
        body += svg.text(0, middle + 3.5, svg.fit(row, 25), ink="ink")
        for at, one in enumerate(held):
            level = middle + step * (at - (len(held) - 1) / 2)
            for point in one.points:
                scale, style = scales[int(point.x)], point.style or one.style
                if point.low is not None and point.high is not None:
                    body += svg.line(
                        scale(point.low), level, scale(point.high), level,
                        f"c-l{style.colour}", ' stroke-width="1.8" stroke-opacity=".55"',
                    )  # fmt: skip
                tip = f"{row}, {one.name}: {_told(point)}"
                body += svg.mark(scale(point.value), level, style, tip)
        y += height
    below = bottom + 22
    body += svg.legend(list(key), below, lines=False)
    tall = below + (svg.legend_height(len(key)) if key else -4)
    return Chart(name, title, alt, body, tall, note)


def stacked_bars(
    name: str,
    title: str,
    alt: str,
    rows: Mapping[str, Sequence[float]],
    parts: Sequence[tuple[str, str]],
    *,
    note: str = "",
) -> Chart:
    """Bars of which each is cut into shares that sum to one.

    Args:
        name (`str`): The stem of its file.
        title (`str`): A heading.
        alt (`str`): What it shows, in words.
        rows (`Mapping[str, Sequence[float]]`): By row: the share of each part.
        parts (`Sequence[tuple[str, str]]`): Name and attributes of each part's rectangles.
        note (`str`): A line under it.
    """
    left = min(150.0, 12 + 5.7 * max(map(len, rows)))
    scale = Scale(0, 1, left, WIDTH - 14)
    body = ""
    y = 2.0
    for row, shares in rows.items():
        body += svg.text(0, y + 16, svg.fit(row, 25), ink="ink")
        at = 0.0
        for (part, look), share in zip(parts, shares, strict=True):
            if share > 0:
                x, wide = scale(at), scale(at + share) - scale(at)
                body += (
                    f'<rect x="{svg.num(x)}" y="{svg.num(y)}" width="{svg.num(wide)}" height="24" '
                    f"{look}><title>{escape(f'{row}, {part}: {share:.1%}')}</title></rect>"
                )
            at += share
        y += 32
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        body += svg.text(scale(tick), y + 8, f"{tick:.0%}", anchor="middle")
    y += 20
    used = [at for at in range(len(parts)) if any(shares[at] > 0 for shares in rows.values())]
    for place, at in enumerate(used):
        part, look = parts[at]
        x, line = (place % 2) * WIDTH / 2 + 6, y + svg.LEGEND_ROW * (place // 2)
        body += f'<rect x="{svg.num(x)}" y="{svg.num(line)}" width="11" height="9" {look}/>'
        body += svg.text(x + 18, line + 9, part, ink="ink")
    return Chart(name, title, alt, body, y + svg.legend_height(len(used)), note)


def figures_series(
    name: str, style: Style, figures: Mapping[float, Mapping[str, float | None]], *, band: bool
) -> Series:
    """A series of a report's figures, by where they stand."""
    points = [
        Point(x, float(one["value"] or 0.0), one.get("low"), one.get("high"))
        for x, one in sorted(figures.items())
    ]
    return Series(name, style, points, band=band)


def _told(point: Point) -> str:
    told = f"{point.value:.3f}"
    return told if point.low is None else f"{told} ({point.bottom:.3f} to {point.top:.3f})"
