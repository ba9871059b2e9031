"""Why this track: what its tokens stand for, what else was considered, and what a swap changes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from talkplay_space.html import button, text
from talkplay_space.why_words import (
    found_words,
    gist,
    match_words,
    matches,
    menu_label,
    origin_words,
    shared_words,
    words_of,
)

if TYPE_CHECKING:
    from talkplay_hf import CodeMeaning, Explanation, FoundTrack, Recommender, ScoredTrack, Track

MOST_CODES = 60


@dataclass(frozen=True)
class Swap:
    """What the lookup finds after tokens of a block were swapped.

    Args:
        before (`tuple[int, ...]`): The codes of the block.
        after (`tuple[int, ...]`): The codes that were looked up instead.
        changes (`tuple[tuple[CodeMeaning, CodeMeaning], ...]`): What was swapped: from, to.
        found (`tuple[FoundTrack, ...]`): The tracks around the codes after the swap.
        total (`int`): The weight of an exact match.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    changes: tuple[tuple["CodeMeaning", "CodeMeaning"], ...]
    found: tuple["FoundTrack", ...]
    total: int


def swap_view(
    recommender: "Recommender", before: Sequence[int], after: Sequence[int], *, k: int = 10
) -> Swap:
    """What is around a block of codes after some of them were swapped.

    Args:
        recommender (`Recommender`): The catalogue.
        before (`Sequence[int]`): The codes of the block.
        after (`Sequence[int]`): The codes after all swaps.
        k (`int`): Tracks at most.

    Raises:
        TalkPlayError: If a code is out of range.
    """
    old, new = recommender.explain(before), recommender.explain(after)
    pairs = zip(old.meanings, new.meanings, strict=True)
    return Swap(
        before=old.codes,
        after=new.codes,
        changes=tuple((one, other) for one, other in pairs if one.code != other.code),
        found=tuple(recommender.look_up(new.codes, k)),
        total=old.total,
    )


def swap_menus(recommender: "Recommender") -> dict[str, list["CodeMeaning"]]:
    """The codes that a token can be swapped for, by modality: those of the most tracks.

    They are the same for every track of a catalogue, so they are made once.
    """
    menus = {}
    block = recommender.codes(recommender.track_ids[0])
    for modality in (one.modality for one in recommender.explain(block, k=0).meanings):
        codes = [one for one in recommender.codes_of(modality) if not one.is_missing]
        codes = sorted(codes, key=lambda one: (-one.tracks, one.code))[:MOST_CODES]
        menus[modality] = sorted(codes, key=lambda one: (menu_label(one).casefold(), one.code))
    return menus


def why_panel(
    explanation: "Explanation | None",
    alternatives: Sequence["ScoredTrack"] = (),
    *,
    menus: Mapping[str, Sequence["CodeMeaning"]] | None = None,
    swap: Swap | None = None,
    opened: str | None = None,
) -> str:
    """The panel that says why a track was played.

    Args:
        explanation (`Explanation`, *optional*): Of the track and the codes that led to it; without
            one the panel says how to get one.
        alternatives (`Sequence[ScoredTrack]`): The best tracks of the same ranking.
        menus (`Mapping[str, Sequence[CodeMeaning]]`, *optional*): See `swap_menus`; without them
            nothing can be swapped.
        swap (`Swap`, *optional*): A swap to show.
        opened (`str`, *optional*): The modality whose details are open.

    Returns:
        `str`: HTML; every text in it is escaped.
    """
    if explanation is None:
        body = '<p class="tp-empty">Ask for music first: what led to a track is told here.</p>'
        return _section(body)
    changed = {} if swap is None else {new.modality: new for _, new in swap.changes}
    names = [one.modality for one in explanation.meanings]
    if opened not in names:
        opened = None
    chips, details = [], []
    for number, meaning in enumerate(explanation.meanings):
        parts = (explanation, meaning, changed.get(meaning.modality), number)
        chips.append(_chip(*parts, is_open=meaning.modality == opened))
        menu = (menus or {}).get(meaning.modality, ())
        details.append(_details(*parts, menu, is_open=meaning.modality == opened))
    track = ""
    if explanation.track is not None:
        track = f'<p class="tp-why-track">{_song(explanation.track)}</p>'
    return _section(
        f'{track}<p class="tp-why-match">{match_words(explanation)}</p>'
        f'<ul class="tp-codes">{"".join(chips)}</ul>{"".join(details)}'
        f"{_swapped(swap)}{_others(explanation, alternatives)}"
    )


def _section(body: str) -> str:
    return (
        '<section class="tp-why" aria-labelledby="tp-why-title">'
        f'<h2 class="tp-why-title" id="tp-why-title">Why this track</h2>{body}</section>'
    )


def _chip(
    explanation: "Explanation",
    meaning: "CodeMeaning",
    swapped: "CodeMeaning | None",
    number: int,
    *,
    is_open: bool,
) -> str:
    shown = meaning if swapped is None else swapped
    states = [("is-open", "", is_open)]
    states += [("is-swapped", "swapped", swapped is not None)]
    states += [("is-missing", "no data", shown.is_missing)]
    states += [("is-guess", "a guess", shown.known is False and not shown.is_missing)]
    states += [
        ("is-unmatched", "not matched", swapped is None and not matches(explanation, meaning))
    ]
    classes = " ".join(["tp-code", *(name for name, _, holds in states if holds)])
    notes = ", ".join(note for _, note, holds in states if holds and note)
    note = f'<span class="tp-code-note">{notes}</span>' if notes else ""
    return (
        f'<li><button type="button" class="{classes}" data-act="code" '
        f'data-modality="{text(meaning.modality)}" data-code="{shown.code}" '
        f'aria-expanded="{str(is_open).lower()}" aria-controls="tp-why-{number}">'
        f'<span class="tp-code-name">{text(words_of(meaning.modality).lead)}</span>'
        f'<span class="tp-code-tags">{gist(shown)}</span>'
        f"{_token(shown)}{note}</button></li>"
    )


def _details(
    explanation: "Explanation",
    meaning: "CodeMeaning",
    swapped: "CodeMeaning | None",
    number: int,
    menu: Sequence["CodeMeaning"],
    *,
    is_open: bool,
) -> str:
    words = words_of(meaning.modality)
    shown = meaning if swapped is None else swapped
    notes = [origin_words(explanation, meaning), shared_words(meaning)]
    if swapped is not None:
        notes = [f"Put in the place of {_token(meaning)}.", shared_words(swapped)]
    tags = "".join(f'<li class="tp-tag"><bdi>{text(tag)}</bdi></li>' for tag in shown.tags)
    tags = f'<h4>Often tagged</h4><ul class="tp-tags">{tags}</ul>' if tags else ""
    near = "".join(f"<li>{_song(track)}</li>" for track in shown.neighbours)
    near = f'<h4>{text(words.near)}</h4><ul class="tp-neighbours">{near}</ul>' if near else ""
    said = "".join(f'<p class="tp-note">{note}</p>' for note in notes if note)
    return (
        f'<div class="tp-code-details" id="tp-why-{number}" role="group" '
        f'aria-label="{text(words.noun.capitalize())}"{"" if is_open else " hidden"}>'
        f"<h3>{text(words.noun.capitalize())} "
        f"{_token(shown)}</h3>{said}{tags}{near}{_menu(meaning, swapped, number, menu)}</div>"
    )


def _menu(
    meaning: "CodeMeaning",
    swapped: "CodeMeaning | None",
    number: int,
    menu: Sequence["CodeMeaning"],
) -> str:
    if not menu:
        return ""
    now = meaning if swapped is None else swapped
    shown = [*(one for one in (now, meaning) if one.code not in {m.code for m in menu}), *menu]
    options = "".join(
        f'<option value="{one.code}"{" selected" if one.code == now.code else ""}>'
        f"{text(menu_label(one))}</option>"
        for one in {one.code: one for one in shown}.values()
    )
    modality = text(meaning.modality)
    return (
        f'<div class="tp-swap"><label for="tp-swap-{number}">Swap this token for</label>'
        f'<select class="tp-swap-menu" id="tp-swap-{number}" '
        f'data-modality="{modality}">{options}</select>'
        f"{button('swap', 'Show what changes', kind='soft', modality=meaning.modality)}</div>"
    )


def _swapped(swap: Swap | None) -> str:
    if swap is None:
        return ""
    if not swap.changes:
        said = '<p class="tp-note">These are the tokens of the track again.</p>'
    else:
        said = "".join(
            f'<p class="tp-note">{text(words_of(old.modality).noun.capitalize())}: '
            f"{_token(old)} ({gist(old)}) was swapped "
            f"for {_token(new)} ({gist(new)}).</p>"
            for old, new in swap.changes
        )
    rows = "".join(
        f"<li>{_song(one.track)}"
        f"{_weight_bar(one, swap.total)}"
        f'<span class="tp-note">{found_words(one, len(swap.after))}</span></li>'
        for one in swap.found
    )
    rows = (
        f'<ol class="tp-found">{rows}</ol>'
        if rows
        else '<p class="tp-empty">No track of the catalogue has any of these tokens.</p>'
    )
    return (
        '<div class="tp-swapped" role="region" aria-labelledby="tp-swapped-title" '
        f'aria-live="polite"><h3 id="tp-swapped-title">After the swap</h3>{said}{rows}'
        f"{button('swap-back', 'Back to the tokens of the track', kind='soft')}</div>"
    )


def _others(explanation: "Explanation", alternatives: Sequence["ScoredTrack"]) -> str:
    if not alternatives:
        return ""
    # a log-probability is never above 0: a track that the message names is put before all others
    best: dict[bool, float] = {}
    for one in alternatives:
        named = one.score > 0
        best[named] = max(best.get(named, -math.inf), one.score)
    played = None if explanation.track is None else explanation.track.track_id
    rows = []
    for one in alternatives:
        named, current = one.score > 0, one.track.track_id == played
        share = math.exp(one.score - best[named]) if math.isfinite(one.score) else 0.0
        number = "named in the message" if named else f"log-probability {one.score:.2f}"
        notes = ", ".join(["this track"] * current + ["named in your message"] * named)
        note = f'<span class="tp-note">{notes}</span>' if notes else ""
        marked = ' aria-current="true"' if current else ""
        rows.append(f"<li{marked}>{_song(one.track)}{_share_bar(share, number)}{note}</li>")
    return (
        '<div class="tp-others"><h3>What else it considered</h3>'
        '<p class="tp-note">How likely each was, as a share of the likeliest here.</p>'
        f'<ol class="tp-found">{"".join(rows)}</ol></div>'
    )


def _weight_bar(one: "FoundTrack", total: int) -> str:
    share = one.weight / total
    return _bar(share, f"matches {share:.0%} of the weight", f"{one.weight} of {total}")


def _share_bar(share: float, number: str) -> str:
    return _bar(share, number, f"{share:.0%}" if share >= 0.01 else "under 1%")


def _bar(share: float, number: str, words: str) -> str:
    return (
        f'<span class="tp-bar" title="{text(number)}" aria-hidden="true"><span '
        f'class="tp-bar-fill" style="width:{max(1, round(100 * share))}%"></span></span>'
        f'<span class="tp-bar-share" title="{text(number)}">{words}</span>'
    )


def _token(meaning: "CodeMeaning") -> str:
    return f'<code class="tp-code-token">{text(meaning.token)}</code>'


def _song(track: "Track") -> str:
    return (
        f'<span class="tp-song-title"><bdi>{text(track.title)}</bdi></span> '
        f'<span class="tp-song-artist"><bdi>{text(track.artist)}</bdi></span>'
    )
