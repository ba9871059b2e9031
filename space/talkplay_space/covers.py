"""Covers: a picture of a track, drawn from its codes."""

import math
from collections.abc import Sequence

GOLDEN = (math.sqrt(5) - 1) / 2


def cover(codes: Sequence[int], *, size: int = 96) -> str:
    """A picture of a track, drawn from its codes alone.

    Each code decides one thing: the second (what it sounds like in words) the main colour, the
    first (which playlists) the second colour, the third (whose it is) the kind of pattern, the
    fourth (its words) how the pattern is turned, the fifth (its sound) the bars at the foot. Tracks
    that share codes share these.

    Args:
        codes (`Sequence[int]`): The five codes; fewer are filled up with 0.
        size (`int`): Its width and height in pixels.
    """
    playlist, semantic, metadata, lyrics, audio = (*map(int, codes), 0, 0, 0, 0, 0)[:5]
    hue = round(360 * _spread(semantic))
    other = round(hue + 40 + 100 * _spread(playlist)) % 360
    turn = round(360 * _spread(lyrics))
    shapes = _PATTERNS[metadata % len(_PATTERNS)](_spread(metadata // len(_PATTERNS)))
    heights = [8 + 20 * _spread(audio * 7 + bar * (1 + audio % 5)) for bar in range(9)]
    bars = "".join(
        f'<rect x="{9 + 9.4 * bar:.1f}" y="{92 - height:.1f}" width="4.6" height="{height:.1f}" '
        'rx="2.3"/>'
        for bar, height in enumerate(heights)
    )
    return (
        f'<svg class="tp-cover" viewBox="0 0 100 100" width="{size}" height="{size}" '
        f'aria-hidden="true" focusable="false" style="background:linear-gradient(140deg,'
        f'hsl({hue} 62% 52%),hsl({other} 58% 30%))">'
        f'<g transform="rotate({turn} 50 50)" fill="none" stroke="hsl({other} 90% 82%)" '
        f'stroke-width="3" stroke-linecap="round" opacity=".62">{shapes}</g>'
        f'<g fill="#fff" opacity=".92">{bars}</g></svg>'
    )


def _spread(number: int) -> float:
    """A number in [0, 1); neighbouring integers come out far apart."""
    return (number + 1) * GOLDEN % 1


def _rings(more: float) -> str:
    return "".join(
        f'<circle cx="{42 + 16 * more:.1f}" cy="40" r="{radius}"/>' for radius in (10, 20, 30, 42)
    )


def _stripes(more: float) -> str:
    gap = 9 + 6 * more
    return "".join(f'<path d="M-30 {-10 + gap * line:.1f}H130"/>' for line in range(14))


def _waves(more: float) -> str:
    high = 8 + 10 * more
    return "".join(
        f'<path d="M-30 {y}q15 {-high:.1f} 30 0t30 0 30 0 30 0 30 0"/>' for y in range(6, 100, 16)
    )


def _dots(more: float) -> str:
    radius = 1.6 + 2 * more
    return "".join(
        f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="#fff"/>'
        for x in range(8, 100, 21)
        for y in range(8, 100, 21)
    )


def _rays(more: float) -> str:
    count = 9 + round(8 * more)
    ends = [
        (math.cos(math.tau * ray / count), math.sin(math.tau * ray / count)) for ray in range(count)
    ]
    return "".join(
        f'<path d="M{50 + 14 * x:.1f} {50 + 14 * y:.1f}L{50 + 62 * x:.1f} {50 + 62 * y:.1f}"/>'
        for x, y in ends
    )


def _peaks(more: float) -> str:
    high = 22 + 14 * more
    line = f"22 {-high:.1f} 22 {high:.1f} " * 3
    return "".join(f'<path d="M-12 {y}l{line}"/>' for y in range(24, 110, 18))


def _arcs(more: float) -> str:
    return "".join(
        f'<path d="M{50 - radius} {72 + 10 * more:.1f}a{radius} {radius} 0 0 1 {2 * radius} 0"/>'
        for radius in range(10, 60, 11)
    )


_PATTERNS = (_rings, _stripes, _waves, _dots, _rays, _peaks, _arcs)
