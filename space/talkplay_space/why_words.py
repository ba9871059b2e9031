"""The words that say why a track was played; every text from outside is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from talkplay_space.html import text

if TYPE_CHECKING:
    from talkplay_hf import CodeMeaning, Explanation, FoundTrack

TAGS_ON_A_CHIP = 3
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True)
class Words:
    """How the page speaks of a modality: the head of its chip, what it is, whose data it is, and
    the head of the tracks that share a token of it."""

    lead: str
    noun: str
    data: str
    near: str


WORDS = {
    "playlist": Words(
        "Found in playlists with",
        "playlists",
        "playlists with this track",
        "Found in playlists like it",
    ),
    "semantic": Words("Tagged", "tags", "tags of this track", "Tagged like it"),
    "metadata": Words(
        "Named like", "names", "title, artist and album of this track", "Named like it"
    ),
    "lyrics": Words("Sings about", "lyrics", "lyrics of this track", "Sing about the same"),
    "audio": Words("Sounds like", "sound", "sound of this track", "Sound like it"),
}


def match_words(explanation: "Explanation") -> str:
    """How the lookup led from the codes to the track, in words (escaped)."""
    count = len(explanation.codes)
    if explanation.exact:
        words = f"Exact match of all {_number(count)} tokens."
        if explanation.equals > 1:
            words += f" {explanation.equals:,} tracks have exactly these tokens."
    elif explanation.matched:
        words = (
            f"Matched on {_listed(explanation.matched)}: weight {explanation.weight} of "
            f"{explanation.total}."
        )
        if explanation.equals > 1:
            words += f" {explanation.equals:,} tracks match as well as that."
    elif explanation.track is None:
        words = "No track of the catalogue has any of these tokens."
    else:
        words = "It has none of these tokens."
    return words


def origin_words(explanation: "Explanation", meaning: "CodeMeaning") -> str:
    """Where the track has the token from; nothing is claimed that is not recorded."""
    data = text(words_of(meaning.modality).data)
    if meaning.is_missing and meaning.known is False:
        return f"The catalogue does not know the {data}; this token says just that."
    if meaning.is_missing:
        noun = text(words_of(meaning.modality).noun)
        return f"This token stands for tracks of which the catalogue knows no {noun}."
    if explanation.track is None:
        return ""
    if meaning.known is False:
        return (
            f"The catalogue does not know the {data}. This token is a guess: the likeliest one "
            "among tracks that are alike in other ways."
        )
    if not matches(explanation, meaning):
        return "The model asked for this token; the track that was found has another one."
    if meaning.known is None:
        return f"Whether the catalogue knows the {data} is not recorded."
    return f"Taken from the {data}."


def shared_words(meaning: "CodeMeaning") -> str:
    """How many tracks have a code."""
    tracks = _tracks(meaning.tracks)
    if meaning.is_missing:
        return f"So it is for {tracks} of the catalogue."
    if not meaning.tracks:
        return "No track of the catalogue has this token."
    guessed = f"; for {meaning.guessed:,} of them it is a guess" if meaning.guessed else ""
    return f"Shared by {tracks}{guessed}."


def matches(explanation: "Explanation", meaning: "CodeMeaning") -> bool:
    """Whether the track matches the block in the modality of a code."""
    return meaning.modality in explanation.matched


def found_words(one: "FoundTrack", count: int) -> str:
    """In what a track matches a block of so many codes (escaped)."""
    if len(one.matched) == count:
        return f"all {_number(count)} tokens"
    return f"same {_listed(one.matched)}"


def gist(meaning: "CodeMeaning") -> str:
    """What a code stands for, in a few words (escaped)."""
    if meaning.is_missing:
        return "nothing known"
    near = meaning.neighbours[:1]
    if meaning.modality == "metadata" and near:
        return f"<bdi>{text(near[0].title)}</bdi> by <bdi>{text(near[0].artist)}</bdi>"
    if meaning.modality == "lyrics" and near:
        return f"the same as <bdi>{text(near[0].title)}</bdi>"
    tags = ", ".join(f"<bdi>{text(tag)}</bdi>" for tag in meaning.tags[:TAGS_ON_A_CHIP])
    return tags or "no tags"


def menu_label(meaning: "CodeMeaning") -> str:
    """A line of a menu (not escaped)."""
    what = ", ".join(meaning.tags[:TAGS_ON_A_CHIP]) or f"token {meaning.code}"
    return f"{what} ({_tracks(meaning.tracks)})"


def _listed(modalities: Sequence[str]) -> str:
    nouns = [text(words_of(name).noun) for name in modalities]
    return " and ".join(([", ".join(nouns[:-1])] if len(nouns) > 1 else []) + nouns[-1:])


def words_of(modality: str) -> Words:
    """The words for a modality, its own name where it is an uncommon one (not escaped)."""
    return WORDS.get(modality) or Words(
        modality.capitalize(), modality, f"{modality} of this track", f"Same {modality}"
    )


def _tracks(count: int) -> str:
    return f"{count:,} track{'' if count == 1 else 's'}"


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)
