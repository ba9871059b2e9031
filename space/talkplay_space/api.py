"""The endpoint for programs: `gradio_client`, plain HTTP, and MCP."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import gradio as gr

from talkplay_space.answering import Conductor
from talkplay_space.conversation import (
    MAX_CHARACTERS,
    MAX_TURNS,
    Conversation,
    RefusedError,
    Turn,
    is_unicode,
)
from talkplay_space.offers import Offers
from talkplay_space.settings import MAX_TRACKS, Settings

if TYPE_CHECKING:
    from talkplay_hf import Track

_KEYS = frozenset({"role", "content", "track_id"})
_CONTROL = "holds a control token, which only the model may write"
# what a client is told of a track
_COLUMNS = ("track_id", "title", "artist", "album", "year", "tempo", "key")


def endpoint(offers: Offers) -> Callable[..., dict[str, Any]]:
    """The function to give to `gr.api`, typed and documented as clients see it.

    Args:
        offers (`Offers`): What answers.
    """

    # gradio shows one line an argument, to clients and as the schema of the MCP tool
    def recommend(
        message: str,
        history: list[dict[str, Any]] = [],  # noqa: B006
        settings: dict[str, Any] | None = None,
        model: str | None = None,
        catalog: str | None = None,
    ) -> dict[str, Any]:
        """Recommend music for a message, as the next turn of a conversation.

        Args:
            message: What the listener says now, at most 2,000 characters.
            history: Earlier turns, each {"role": "user", "content": text}, then {"role": "music", "track_id": id} for each track, then {"role": "assistant", "content": text}; pass on the history of the answer before.
            settings: Any of tracks (1 to 5), strategy ("rank" or "sample"), temperature, top_p, year_from, year_to, tags (list), explicit, no_repeats, one_per_artist, names, seed.
            model: The name of the model that answers: MODELS.
            catalog: The name of the catalogue that the tracks come from: CATALOGS.

        Returns:
            An object with tracks (list of objects with track_id, title, artist, album, year, tempo, key, tags, codes, score, matched), reply (text), seed (integer) and history (list, to pass on with the next message).
        """  # noqa: E501
        try:
            conductor = offers.find(model, catalog).conductor
            chosen = Settings.from_dict({} if settings is None else settings)
            before = read_history(history, conductor)
            if isinstance(message, str) and _controls(message, conductor):
                raise RefusedError(f"The message {_CONTROL}.")
            *_, last = conductor.stream(before, message, chosen)
        except RefusedError as error:
            raise gr.Error(str(error), print_exception=False) from None
        if last.problem is not None:
            raise gr.Error(last.problem, print_exception=False)
        turn = last.conversation.turns[-1]
        return {
            "tracks": [
                {
                    **_told(conductor.recommender.track(track_id)),
                    "codes": list(turn.codes[place]),
                    "score": turn.scores[place],
                    "matched": list(turn.matched[place]),
                }
                for place, track_id in enumerate(turn.track_ids)
            ],
            "reply": turn.reply,
            "seed": turn.seed,
            "history": _history(last.conversation, conductor),
        }

    models = offers.models
    catalogs = [f"with {one} {_choice(offers.catalogs(one))}" for one in models]
    told = {"MODELS": _choice(models), "CATALOGS": "; ".join(catalogs)}
    for word, names in told.items():
        recommend.__doc__ = (recommend.__doc__ or "").replace(word, names)
    return recommend


def _choice(names: Sequence[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"{quoted} (the first when left out)" if len(names) > 1 else f"{quoted} or left out"


def answer_in_json(app: gr.Blocks) -> None:
    """Let the tool for MCP clients answer in JSON, once the page is launched; gradio answers with
    what Python prints."""
    server = app.mcp_server_obj
    if server is None:
        return

    def content(data: Any, root_url: str) -> list[Any]:
        texts = [json.dumps(value, ensure_ascii=False) for value in data]
        return [server.types.TextContent(type="text", text=text) for text in texts]

    server.postprocess_output_data = content  # type: ignore[method-assign]


def read_history(history: Any, conductor: Conductor) -> Conversation:
    """Check what a client says was said, and make a conversation of it.

    Args:
        history (`list[dict]`): Messages in whole turns of user, music (none to five), assistant.
        conductor (`Conductor`): Whose catalogue has the tracks.

    Raises:
        RefusedError: If it is not such a list, or names a track that the catalogue does not have.
    """
    entries = [] if history is None else history
    # a turn has seven messages at most, so that nobody sends a long list for nothing
    if not isinstance(entries, list) or len(entries) > MAX_TURNS * (MAX_TRACKS + 2):
        _refuse(f"it must be a list of at most {MAX_TURNS} turns")
    turns: list[Turn] = []
    text: str | None = None
    tracks: list[str] = []
    for place, entry in enumerate(entries):
        value = _value(place, entry, conductor)
        expected = "user" if text is None else "music or assistant"
        role = entry["role"]
        if role not in expected.split(" or "):
            _refuse(f"entry {place} must have the role {expected}")
        if role == "user":
            text = value
        elif role == "music":
            tracks.append(value)
        else:
            turns.append(Turn(text or "", tuple(tracks), reply=value))
            text, tracks = None, []
        if len(tracks) > MAX_TRACKS or len(set(tracks)) < len(tracks):
            _refuse(f"entry {place}: a turn plays at most {MAX_TRACKS} tracks, each once")
    if text is not None:
        _refuse("it must hold whole turns of user, music, assistant")
    if len(turns) > MAX_TURNS:
        _refuse(f"it must be a list of at most {MAX_TURNS} turns")
    return Conversation(tuple(turns))


def _value(place: int, entry: Any, conductor: Conductor) -> str:
    """The text of an entry, or the track id of a music one."""
    if not isinstance(entry, dict) or not entry.keys() <= _KEYS:
        _refuse(f"entry {place} must hold role and content, or role and track_id")
    role = entry.get("role")
    if not isinstance(role, str) or role not in ("user", "music", "assistant"):
        _refuse(f"entry {place} must have the role user, music or assistant")
    value = entry.get("track_id" if role == "music" else "content")
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or not is_unicode(value):
        _refuse(f"entry {place} needs a text of at most {MAX_CHARACTERS:,} characters")
    if role == "music":
        if value not in conductor.recommender.catalog:
            _refuse(f"entry {place} names a track that the catalogue does not have")
    elif role == "user" and not value.strip():
        _refuse(f"entry {place} is empty")
    elif _controls(value, conductor):
        _refuse(f"entry {place} {_CONTROL}")
    return value


def _controls(text: str, conductor: Conductor) -> bool:
    return bool(conductor.recommender.tokenizer.has_control_tokens(text))


def _told(track: "Track") -> dict[str, Any]:
    return {name: getattr(track, name) for name in _COLUMNS} | {"tags": list(track.tags)}


def _history(conversation: Conversation, conductor: Conductor) -> list[dict[str, Any]]:
    # a title can spell a control token, and so the reply that names it
    defuse = conductor.recommender.tokenizer.defuse
    entries: list[dict[str, Any]] = []
    for turn in conversation.turns:
        entries.append({"role": "user", "content": turn.text})
        entries += [{"role": "music", "track_id": track_id} for track_id in turn.track_ids]
        entries.append({"role": "assistant", "content": defuse(turn.reply)[:MAX_CHARACTERS]})
    return entries


def _refuse(reason: str) -> NoReturn:
    raise RefusedError(f"The history is refused: {reason}.")
