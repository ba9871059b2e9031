"""What a page is made of, before it is Markdown or HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from talkplay_hf.evaluation.page.svg import Chart


@dataclass(frozen=True)
class Cell:
    """One field of a table.

    Args:
        text (`str`): What it says.
        below (`str`): Smaller lines below it.
        best (`bool`): Whether it is the best of its column.
        tone (`str`): `"win"`, `"tie"`, `"loss"`, `"ours"` for the model's name, or nothing.
    """

    text: str
    below: str = ""
    best: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column names its rows.

    Args:
        head (`Sequence[str]`): Names of the columns.
        rows (`Sequence[Sequence[Cell]]`): The rows.
        title (`str`): A heading.
        note (`str`): A line under it.
        words (`bool`): Whether the cells hold sentences rather than figures.
        folded (`bool`): Whether a page shows it only when asked; it needs a title then.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    words: bool = False
    folded: bool = False


Marked = Sequence[tuple[str, bool]]


@dataclass(frozen=True)
class Shown:
    """A track; of each piece of text, whether it is linked to the request.

    Args:
        title (`Sequence[tuple[str, bool]]`): Its title.
        artist (`Sequence[tuple[str, bool]]`): Its artist.
        tags (`Sequence[Sequence[tuple[str, bool]]]`): Its tags.
    """

    title: Marked
    artist: Marked
    tags: Sequence[Marked] = ()


@dataclass(frozen=True)
class Said:
    """A message of a chat: words or a track.

    Args:
        role (`str`): `"user"`, `"assistant"` or `"music"`.
        words (`Sequence[tuple[str, bool]]`): What was said.
        track (`Shown`, *optional*): What was played.
    """

    role: str
    words: Marked = ()
    track: Shown | None = None


@dataclass(frozen=True)
class Example:
    """One turn in full.

    Args:
        name (`str`): Where it is from.
        history (`Sequence[Said]`): The chat before it.
        truth (`Sequence[Said]`): What came in the conversation.
        answer (`Sequence[Said]`): What the model answered.
        meets (`bool`, *optional*): Whether the model's track meets the request.
        right (`bool`): Whether it is the track of the conversation.
        others (`Sequence[tuple[str, Shown]]`): What the other systems would play.
    """

    name: str
    history: Sequence[Said]
    truth: Sequence[Said]
    answer: Sequence[Said]
    meets: bool | None
    right: bool
    others: Sequence[tuple[str, Shown]]


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it.

    Args:
        name (`str`): Its anchor.
        title (`str`): Its heading.
        intro (`str`): A sentence or two for a newcomer.
        charts (`Sequence[Chart]`): Plots.
        tables (`Sequence[Table]`): Tables.
        examples (`Sequence[Example]`): Turns in full.
        points (`Sequence[str]`): Sentences, one a bullet.
    """

    name: str
    title: str
    intro: str = ""
    charts: Sequence[Chart] = field(default=())
    tables: Sequence[Table] = field(default=())
    examples: Sequence[Example] = field(default=())
    points: Sequence[str] = field(default=())
