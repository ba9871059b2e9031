"""What stands around the conversation: the bar at the top, the welcome, the box to type in, the
playlist, the choice of a model, the dialog that shares. As HTML, see `html`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from talkplay_space.covers import cover
from talkplay_space.html import button, text

if TYPE_CHECKING:
    from talkplay_hf import Track


def header(title: str) -> str:
    """The bar at the top of the page."""
    mark = cover((3, 5, 4, 0, 7), size=36)
    return (
        f'<div class="tp-head"><div class="tp-brand">{mark}<h1>{text(title)}</h1></div>'
        '<nav class="tp-tools" aria-label="Page">'
        + button("jump", "Playlist", picture="list", kind="plain phone", target="tp-playlist")
        + button("jump", "Why this track", picture="why", kind="plain phone", target="tp-why")
        + button("share", "Share", picture="share", kind="plain", title="Share this conversation")
        + button("new", "New", picture="new", kind="plain", title="Start a new conversation")
        + button("theme", "Switch between light and dark", picture="theme", kind="icon plain")
        + '</nav></div><div id="tp-status" class="tp-sr" role="status"></div>'
    )


def welcome(examples: Sequence[str], tracks: int) -> str:
    """What a first visit shows."""
    asks = "".join(button("say", ask, kind="pill", text=ask) for ask in examples)
    tries = f'<div class="tp-quick" role="group" aria-label="Examples">{asks}</div>' if asks else ""
    heads = "".join(
        cover(codes, size=64) for codes in ((3, 7, 2, 5, 7), (8, 5, 4, 0, 2), (1, 8, 9, 3, 5))
    )
    return (
        f'<div class="tp-welcome"><div class="tp-fan" aria-hidden="true">{heads}</div>'
        "<h2>What would you like to hear?</h2>"
        "<p>Say a genre, a feeling, a decade, an artist. Then steer: slower, something older, "
        f"more like this. You are choosing from {tracks:,} tracks.</p>{tries}</div>"
    )


def composer(most: int) -> str:
    """The box for the next message; `page.js` lets it grow and sends it, and says
    above it what became of the conversation.

    Args:
        most (`int`): Characters that a message may have.
    """
    return (
        '<p class="tp-told" id="tp-told" hidden></p>'
        '<div class="tp-editing" hidden><span>Editing your last message</span>'
        f"{button('cancel-edit', 'Cancel', kind='plain small')}</div>"
        '<div class="tp-compose"><textarea id="tp-input" rows="1" dir="auto" '
        f'maxlength="{most}" placeholder="Ask for music …" aria-label="Your message" '
        'enterkeyhint="send" autocomplete="off"></textarea>'
        f"{button('send', 'Send', picture='send', kind='icon primary')}</div>"
    )


def playlist_panel(
    tracks: Sequence["Track"], covers: Sequence[Sequence[int]], *, clips: Sequence[bool] = ()
) -> str:
    """The playlist that grows with the conversation.

    Args:
        tracks (`Sequence[Track]`): The tracks, in the listener's order.
        covers (`Sequence[Sequence[int]]`): The codes of each.
        clips (`Sequence[bool]`): Whether each can be played here.
    """
    if not tracks:
        return (
            '<div class="tp-panel-head"><h2>Playlist</h2></div>'
            '<p class="tp-empty">Every track you get is collected here, apart from those you skip. '
            "Put them in order, then take the list with you.</p>"
        )
    rows = ""
    for place, (track, codes) in enumerate(zip(tracks, covers, strict=True)):
        name = f"{track.title} by {track.artist}"
        moves = button(
            "move",
            f"Move {name} up",
            picture="up",
            kind="icon small",
            track=track.track_id,
            by=-1,
            title="Move up",
        )
        moves += button(
            "move",
            f"Move {name} down",
            picture="down",
            kind="icon small",
            track=track.track_id,
            by=1,
            title="Move down",
        )
        moves += button(
            "remove",
            f"Remove {name}",
            picture="close",
            kind="icon small",
            track=track.track_id,
            title="Remove",
        )
        art = cover(codes, size=40)
        if place < len(clips) and clips[place]:
            art += button(
                "play",
                f"Play {name}",
                picture="play",
                kind="icon over",
                track=track.track_id,
                title="Play",
            )
        rows += (
            f'<li class="tp-row" draggable="true" data-track="{text(track.track_id)}">'
            f'<div class="tp-art">{art}</div><div class="tp-name">'
            f'<div dir="auto">{text(track.title)}</div>'
            f'<small dir="auto">{text(track.artist)}</small></div>'
            f'<div class="tp-moves">{moves}</div></li>'
        )
    count = "1 track" if len(tracks) == 1 else f"{len(tracks):,} tracks"
    exports = "".join(
        button(
            "export", label, kind="pill small", format=name, title=f"Save the playlist as {label}"
        )
        for name, label in (("m3u", "M3U"), ("csv", "CSV"), ("jspf", "JSPF"))
    )
    return (
        f'<div class="tp-panel-head"><h2>Playlist</h2><span class="tp-count">{count}</span></div>'
        f'<ol class="tp-rows" aria-label="Playlist">{rows}</ol>'
        '<div class="tp-exports" role="group" aria-label="Save the playlist">'
        f"<span>Save as</span>{exports}</div>"
    )


def why_empty() -> str:
    """What the panel "why this track" shows before there is a track."""
    return (
        '<div class="tp-panel-head"><h2>Why this track</h2></div>'
        '<p class="tp-empty">With the first answer you see here what the model meant: five tokens, '
        "what each stands for, and what else it thought of. Swap one and watch the list change.</p>"
    )


def share_dialog() -> str:
    """The dialog that gives and takes conversations."""
    return (
        '<dialog id="tp-share" class="tp-dialog" aria-labelledby="tp-share-title">'
        '<div class="tp-panel-head"><h2 id="tp-share-title">Share this conversation</h2>'
        f"{button('close', 'Close', picture='close', kind='icon')}</div>"
        "<p>The link holds the whole conversation and your settings. Nothing is kept on the server."
        '</p><div class="tp-copy"><input id="tp-link" readonly '
        'aria-label="Link to this conversation">'
        f"{button('copy', 'Copy link', kind='primary')}</div>"
        '<p class="tp-note" id="tp-share-note" role="status"></p>'
        '<h3>As a file</h3><div class="tp-exports">'
        f"{button('export', 'Save as JSON', kind='pill', format='json')}"
        '<label class="tp-button pill tp-file"><span>Load JSON</span>'
        '<input type="file" id="tp-file" accept=".json,application/json"></label></div></dialog>'
    )


def chooser(models: Sequence[str], model: str, catalogs: Sequence[str], catalog: str) -> str:
    """The choice of a model and of one of its catalogues, each where there is a choice.

    Args:
        models (`Sequence[str]`): The names of the models.
        model (`str`): The one that answers.
        catalogs (`Sequence[str]`): The names of its catalogues.
        catalog (`str`): The one that it chooses from.
    """
    menus = ""
    for name, label, names, chosen in (
        ("model", "Model", models, model),
        ("catalog", "Catalogue", catalogs, catalog),
    ):
        options = "".join(
            f'<option value="{text(one)}"{" selected" if one == chosen else ""}>'
            f"{text(one)}</option>"
            for one in names
        )
        hidden = "" if len(names) > 1 else " hidden"
        menus += (
            f'<div class="tp-choice"{hidden}><label for="tp-{name}">{label}</label>'
            f'<select class="tp-menu" id="tp-{name}" data-name="{name}">{options}</select></div>'
        )
    return f'<div class="tp-choices">{menus}</div>'
