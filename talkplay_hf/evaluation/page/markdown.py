"""The page as Markdown."""

from collections.abc import Sequence

from talkplay_hf.evaluation.page.blocks import Cell, Example, Marked, Said, Section, Shown, Table
from talkplay_hf.evaluation.page.text import markdown

_TONES = ("win", "tie", "loss")


def render_markdown(
    title: str, subtitle: str, headline: str, points: Sequence[str], sections: Sequence[Section]
) -> str:
    """The page as Markdown that names its plots by their files.

    Args:
        title (`str`): Its heading.
        subtitle (`str`): On what the figures are.
        headline (`str`): The result in one sentence.
        points (`Sequence[str]`): The result in a few more.
        sections (`Sequence[Section]`): The rest.
    """
    parts = [f"# {markdown(title)}", f"{markdown(subtitle)}.", f"**{markdown(headline)}**"]
    parts.append("\n".join(f"- {markdown(point)}" for point in points))
    for section in sections:
        parts.append(f"## {markdown(section.title)}")
        parts.append(markdown(section.intro))
        for chart in section.charts:
            parts.append(f"![{markdown(chart.alt)}]({chart.name}.svg)")
            parts.append(markdown(chart.note))
        for table in section.tables:
            parts += _table(table)
        parts += [part for example in section.examples for part in _example(example)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> list[str]:
    align = "---" if table.words else "---:"
    lines = [
        "| " + " | ".join(map(markdown, table.head)) + " |",
        "| --- |" + f" {align} |" * (len(table.head) - 1),
    ]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    title = f"### {markdown(table.title)}" if table.title else ""
    return [title, "\n".join(lines), markdown(table.note)]


def _cell(cell: Cell) -> str:
    text = markdown(cell.text)
    if cell.best or cell.tone == "ours":
        text = f"**{text}**"
    if cell.below:
        text += f" ({markdown(cell.below.replace(chr(10), ', '))})"
    return text + (f", {cell.tone}" if cell.tone in _TONES else "")


def _example(example: Example) -> list[str]:
    meets = {True: ", meets the request", False: ", does not meet the request", None: ""}
    answer = "Model" + (", the same track" if example.right else "") + meets[example.meets]
    parts = [f"### {markdown(example.name)}", _chat(example.history)]
    parts += [f"**Conversation:** {_chat(example.truth, ' ')}"]
    if example.answer:
        parts += [f"**{answer}:** {_chat(example.answer, ' ')}"]
    parts += ["\n".join(f"- {markdown(name)}: {_track(track)}" for name, track in example.others)]
    return parts


def _chat(said: Sequence[Said], between: str = "") -> str:
    if between:
        return between.join(_message(one) for one in said) or "nothing"
    return "\n>\n".join(f"> {one.role}: {_message(one)}" for one in said)


def _message(one: Said) -> str:
    return _track(one.track) if one.track else _marked(one.words)


def _track(track: Shown) -> str:
    text = f"♪ {_marked(track.title)}"
    if track.artist:
        text += f" by {_marked(track.artist)}"
    if track.tags:
        text += f" ({', '.join(map(_marked, track.tags))})"
    return text


def _marked(pieces: Marked) -> str:
    parts = []
    for text, marked in pieces:
        # spaces at the ends of a piece stay: they part it from its neighbours
        inner = markdown(text)
        before = " " * (text[:1] == " " and bool(inner))
        after = " " * (text[-1:] == " ")
        parts.append(f"**{inner}**" if marked else f"{before}{inner}{after}")
    return "".join(parts)
