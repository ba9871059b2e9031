"""The page in pieces of HTML. Every text from outside goes through `text`; nothing here is a script
and nothing asks another server: buttons carry `data-act`, which `page.js` reads."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from talkplay_space.covers import cover

if TYPE_CHECKING:
    from talkplay_hf import Track
    from talkplay_space.conversation import Conversation, Turn

MAX_TAGS = 6
# what a terminal or a renderer could act on, and what would turn the text around it
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_ICONS = {
    "like": "M12 20.3 4.6 13a4.9 4.9 0 0 1 0-7 4.9 4.9 0 0 1 7 0l.4.5.4-.5a4.9 4.9 0 0 1 7 0 "
    "4.9 4.9 0 0 1 0 7z",
    "skip": "M5 5v14l10-7zM18 5v14",
    "why": "M9.2 9.2a2.9 2.9 0 1 1 4.2 2.7c-.9.5-1.4 1-1.4 2.1M12 17.4v.1M12 2.8a9.2 9.2 0 1 1 0 "
    "18.4 9.2 9.2 0 0 1 0-18.4z",
    "retry": "M4.5 12a7.5 7.5 0 1 0 2.3-5.4L4.5 8.8M4.5 4v4.8h4.8",
    "undo": "M8.5 5 4 9.5 8.5 14M4 9.5h10a5.5 5.5 0 0 1 0 11h-3",
    "edit": "m4 20 .9-4L16.3 4.6a2 2 0 0 1 2.8 0l.3.3a2 2 0 0 1 0 2.8L8 19.1z",
    "up": "m6 14.5 6-6 6 6",
    "down": "m6 9.5 6 6 6-6",
    "close": "m6.5 6.5 11 11M17.5 6.5l-11 11",
    "play": "M8 5.2v13.6L18.8 12z",
    "send": "M12 19.5V5M5.5 11.2 12 4.7l6.5 6.5",
    "share": "M12 14.5V4M8 7.6 12 3.6l4 4M5 12v7.5h14V12",
    "new": "M12 5v14M5 12h14",
    "theme": "M20 14.4A8.3 8.3 0 0 1 9.6 4a8.3 8.3 0 1 0 10.4 10.4z",
    "link": "M9.5 14.5 20 4M13 4h7v7M18 14v5.5H4.5V6H10",
    "list": "M4 6.5h11M4 12h11M4 17.5h7M19.5 17V8M19.5 8l-3 1.4",
}


def text(value: object) -> str:
    """A text from outside, made harmless for HTML: as content and as an attribute in quotes."""
    return escape(_CONTROLS.sub(" ", str(value)), quote=True)


def icon(name: str) -> str:
    """A line drawing of 24 x 24 in the colour of the text around it, hidden from screen readers."""
    return (
        f'<svg class="tp-icon tp-icon-{name}" viewBox="0 0 24 24" aria-hidden="true" '
        f'focusable="false"><path d="{_ICONS[name]}"/></svg>'
    )


def button(
    act: str, label: str, *, picture: str = "", title: str = "", kind: str = "", **data: object
) -> str:
    """A button that `page.js` listens to.

    Args:
        act (`str`): What it does, for `data-act`.
        label (`str`): What it says; where there is a `picture` and the kind is `"icon"`, what a
            screen reader says.
        picture (`str`): The name of an icon.
        title (`str`): A hint on hovering.
        kind (`str`): A class of the look, or several.
        data (`object`): Further `data-` attributes; `pressed` becomes `aria-pressed`.
    """
    pressed = data.pop("pressed", None)
    more = "".join(
        f' data-{name.replace("_", "-")}="{text(value)}"' for name, value in data.items()
    )
    if pressed is not None:
        more += f' aria-pressed="{"true" if pressed else "false"}"'
    if title or "icon" in kind.split():
        more += f' title="{text(title or label)}"'
    if "icon" in kind.split():
        more += f' aria-label="{text(label)}"'
        label = ""
    drawn = icon(picture) if picture else ""
    says = f"<span>{text(label)}</span>" if label else ""
    classes = " ".join(["tp-button", *kind.split()])
    return (
        f'<button type="button" class="{classes}" data-act="{text(act)}"{more}>'
        f"{drawn}{says}</button>"
    )


def track_card(
    track: "Track", codes: Sequence[int], *, clip: str | None = None, why: str = ""
) -> str:
    """A track with all that the catalogue knows of it.

    Args:
        track (`Track`): The track.
        codes (`Sequence[int]`): Its codes, for the cover.
        clip (`str`, *optional*): Address of its sound.
        why (`str`): The button that explains it, as HTML.
    """
    release = " · ".join(text(fact) for fact in (track.album, track.year) if fact)
    tempo = None if track.tempo is None else f"{track.tempo:.0f} BPM"
    sound = " · ".join(text(fact) for fact in (tempo, track.key) if fact)
    marks = "".join(f'<li dir="auto">{text(tag)}</li>' for tag in track.tags[:MAX_TAGS])
    if track.get("explicit") is True:
        marks = f'<li class="tp-explicit">explicit</li>{marks}'
    facts = "".join(
        f'<div class="tp-facts" dir="auto">{line}</div>' for line in (release, sound) if line
    )
    player = ""
    link = _web_address(track)
    if clip:
        player = (
            '<audio controls controlslist="nodownload noplaybackrate" preload="metadata" '
            f'data-track="{text(track.track_id)}" aria-label="Play {text(track.title)} by '
            f'{text(track.artist)}" src="{text(clip)}"></audio>'
        )
    elif link:
        player = (
            f'<a class="tp-link" href="{text(link)}" target="_blank" '
            f'rel="noopener noreferrer nofollow">{icon("link")}<span>Listen at '
            f"{text(urlsplit(link).hostname)}</span></a>"
        )
    return (
        f'<div class="tp-card" data-track="{text(track.track_id)}">'
        f'{cover(codes)}<div class="tp-about">'
        f'<div class="tp-title" dir="auto">{text(track.title)}</div>'
        f'<div class="tp-artist" dir="auto">{text(track.artist)}</div>{facts}</div>'
        + (f'<ul class="tp-tags" aria-label="Tags">{marks}</ul>' if marks else "")
        + (f'<div class="tp-sound">{player}{why}</div>' if player or why else "")
        + "</div>"
    )


def turn_block(
    turn: "Turn", n: int, cards: Sequence[str], *, led: str = "", last: bool = False
) -> str:
    """A finished turn: what was said, what was played, the reply, and what can be done with it.

    Args:
        turn (`Turn`): The turn.
        n (`int`): Its place, from 0.
        cards (`Sequence[str]`): The cards of its tracks.
        led (`str`): The reaction that led the message, for the chip above it.
        last (`bool`): Whether it is the last one.
    """
    acts = ""
    if turn.track_ids:
        liked, skipped = turn.reaction == "like", turn.reaction == "skip"
        acts += button(
            "react", "Like", picture="like", kind="soft", turn=n, reaction="like", pressed=liked
        )
        acts += button(
            "react", "Skip", picture="skip", kind="soft", turn=n, reaction="skip", pressed=skipped
        )
    if last:
        acts += '<span class="tp-gap"></span>'
        acts += button("retry", "Try again with another seed", picture="retry", kind="icon")
        acts += button("undo", "Undo this turn", picture="undo", kind="icon")
    said = button("edit", "Edit this message", picture="edit", kind="icon", turn=n) if last else ""
    kind = " tp-skipped" if turn.reaction == "skip" else ""
    return (
        f'<article class="tp-turn{kind}" aria-label="Turn {n + 1}">'
        f"{user_bubble(turn.text, led=led, more=said)}"
        f'<div class="tp-bot">{"".join(cards)}{reply_bubble(turn.reply)}'
        + (
            f'<div class="tp-acts" role="group" aria-label="About this answer">{acts}</div>'
            if acts
            else ""
        )
        + "</div></article>"
    )


def running_block(
    turn: "Turn", n: int, cards: Sequence[str], *, led: str = "", ahead: int = 0
) -> str:
    """A turn that is still being answered; its parts come in the order of `turn_block`, so that a
    player that has started goes on.

    Args:
        turn (`Turn`): The turn as far as it has come.
        n (`int`): Its place, from 0.
        cards (`Sequence[str]`): The cards of its tracks.
        led (`str`): The reaction that led the message.
        ahead (`int`): Turns of others that are answered first.
    """
    answer = reply_bubble(turn.reply, typing=True) if turn.reply or cards else ""
    if not answer:
        queue = f"<p>{ahead} before you in the queue</p>" if ahead else ""
        answer = f'<div class="tp-dots">{"<i></i>" * 3}{queue}</div>'
    return (
        f'<article class="tp-turn tp-running" aria-label="Turn {n + 1}" aria-busy="true">'
        f"{user_bubble(turn.text, led=led)}"
        f'<div class="tp-bot">{"".join(cards)}{answer}</div></article>'
    )


def user_bubble(said: str, *, led: str = "", more: str = "") -> str:
    """What the listener said, with the reaction that led it as a chip."""
    chip = f'<div class="tp-led">{text(led)}</div>' if led else ""
    return (
        f'<div class="tp-user">{chip}<div class="tp-said">{more}'
        f'<p dir="auto">{text(said)}</p></div></div>'
    )


def reply_bubble(reply: str, *, typing: bool = False) -> str:
    """The words of an answer, as plain text."""
    if not reply and not typing:
        return ""
    return f'<p class="tp-reply{" tp-typing" if typing else ""}" dir="auto">{text(reply)}</p>'


def quick_replies(replies: Sequence[str]) -> str:
    """Buttons that say the next message."""
    buttons = "".join(button("say", reply, kind="pill", text=reply) for reply in replies)
    return (
        f'<div class="tp-quick" role="group" aria-label="Quick replies">{buttons}</div>'
        if replies
        else ""
    )


def problem_block(problem: str) -> str:
    """One polite line where an answer should be."""
    return f'<div class="tp-problem" role="alert"><p dir="auto">{text(problem)}</p></div>'


def reaction_chips(conversation: "Conversation", titles: Mapping[str, str]) -> list[str]:
    """For each turn, and for the one to come, the reaction that leads its message, in few words."""
    words = {"like": "You liked", "skip": "You skipped"}
    chips = [""]
    for turn in conversation.turns:
        names = ", ".join(titles[name] for name in turn.track_ids)
        chips.append(f"{words[turn.reaction]} {names}" if turn.reaction and names else "")
    return chips


def _web_address(track: Any) -> str | None:
    """Where the track is on the web, with http(s): its page, the column `url` of the catalogue, or
    its sound."""
    for address in (track.get("url"), track.audio):
        try:
            parts = urlsplit(address.strip()) if isinstance(address, str) else None
        except ValueError:
            continue
        if parts and parts.scheme in ("http", "https") and parts.hostname:
            return str(address.strip())
    return None
