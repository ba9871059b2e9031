"""The chat page: ask for music in words, get a track with its player and a reply.

Runs as `talkplay serve MODEL`, or as a Hugging Face Space (`python app.py` with the model in a
folder `model` beside this file, or named by the environment variable `TALKPLAY_MODEL`).
"""

import logging
import mimetypes
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by gradio when it is imported

import gradio as gr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from talkplay_hf import Message, TalkPlayError

if TYPE_CHECKING:
    from talkplay_hf import Recommendation, Recommender, Track

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 2_000
MAX_TURNS = 50
MAX_EXAMPLES = 4
APOLOGY = "Sorry, something went wrong while I was looking for music. Please try again."
TOO_LONG = f"That message is too long: please keep it under {MAX_CHARACTERS:,} characters."
TOO_MANY = f"This conversation has reached {MAX_TURNS} turns. Please start a new one."
PLACEHOLDER = (
    "## Ask for music\n\nSay what you are in the mood for: a genre, a feeling, a tempo, an artist."
    "\nThen steer: *slower*, *something older*, *more like this*."
)
CSS = """
.gradio-container { --tp-quiet: #5b6678; }
.dark .gradio-container, .gradio-container.dark { --tp-quiet: #a3afc0; }
main.contain { width: 100%; max-width: 1140px; margin: 0 auto; }
.tp-html .html-container { padding: 0; }
#tp-chat { border: 1px solid var(--border-color-primary); border-radius: 14px; }
#tp-chat .placeholder { flex: none; height: auto; margin: 0; text-align: center; padding: 0 20px; }
#tp-chat .placeholder-content { justify-content: center; gap: 18px; }
#tp-chat .examples { display: flex; flex-wrap: wrap; justify-content: center; gap: 8px;
  padding: 0 16px; max-width: 640px; width: auto; margin: 0 auto !important; }
#tp-chat .example { width: auto; min-height: 0; padding: 8px 15px; border-radius: 999px;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);
  cursor: pointer; transition: border-color .15s; }
#tp-chat .example:hover, #tp-chat .example:focus-visible { border-color: var(--color-accent); }
#tp-chat .example-content, #tp-chat .example-text-content { padding: 0; margin: 0; }
#tp-chat .bot.message { background: none; border: 0; box-shadow: none; padding: 0; }
#tp-chat .bot-row .flex-wrap { max-width: 100%; }
#tp-chat .bot.message > .message + .message { margin-top: 10px; }
#tp-chat .message-content .md { white-space: pre-wrap; overflow-wrap: anywhere; }
#tp-box textarea::placeholder { color: var(--tp-quiet); }
#tp-box { border: 1px solid var(--border-color-primary); border-radius: 10px; }
footer .divider { display: none; }
.tp-head h1 { font-size: 1.6rem; font-weight: 700; margin: 0; letter-spacing: -0.01em; }
.tp-head p { color: var(--tp-quiet); margin: 2px 0 0; }
.tp-card { display: grid; grid-template-columns: 72px minmax(0, 1fr); gap: 10px 14px;
  width: min(440px, 100%); padding: 12px; border: 1px solid var(--border-color-primary);
  border-radius: 14px; background: var(--background-fill-primary); overflow-wrap: anywhere; }
.tp-cover { width: 72px; height: 72px; border-radius: 10px; display: grid; place-items: center;
  color: #fff; font-size: 30px; background: linear-gradient(135deg,
  hsl(var(--hue) 60% 46%), hsl(calc(var(--hue) + 50) 65% 34%)); }
.tp-title { font-weight: 650; font-size: 1.06rem; line-height: 1.3; color: var(--body-text-color); }
.tp-artist { color: var(--body-text-color); line-height: 1.4; }
.tp-facts { color: var(--tp-quiet); font-size: .86rem; line-height: 1.45; }
.tp-wide { grid-column: 1 / -1; }
.tp-tags { display: flex; flex-wrap: wrap; gap: 5px; }
.tp-tag { font-size: .78rem; line-height: 1.3; padding: 2px 9px; border-radius: 999px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  color: var(--body-text-color); }
.tp-card audio { width: 100%; height: 40px; color-scheme: light; }
.dark .tp-card audio { color-scheme: dark; }
.tp-list h2 { font-size: 1.02rem; font-weight: 650; margin: 0 0 8px; }
.tp-list { padding: 14px 16px; border: 1px solid var(--border-color-primary); border-radius: 14px;
  background: var(--block-background-fill); overflow-wrap: anywhere; }
.tp-list ol { list-style: none; margin: 0; padding: 0; max-height: 52vh; overflow-y: auto; }
.tp-list li { display: grid; grid-template-columns: 1.6em minmax(0, 1fr); gap: 6px;
  padding: 7px 0; border-top: 1px solid var(--border-color-primary); line-height: 1.35; }
.tp-list li > span { color: var(--tp-quiet); }
.tp-list small, .tp-empty { color: var(--tp-quiet); font-size: .88rem; }
"""


@dataclass(frozen=True)
class Turn:
    """One finished turn, as kept on the server."""

    text: str
    track_id: str | None
    reply: str

    def messages(self) -> list[Message]:
        """The turn as the model reads it: user, music, assistant."""
        music = [] if self.track_id is None else [Message("music", track_id=self.track_id)]
        return [Message("user", self.text), *music, Message("assistant", self.reply)]


def clip_path(track: "Track", audio_root: Path | None) -> Path | None:
    """The track's sound file, or `None` unless it is an audio file inside `audio_root`."""
    if audio_root is None or not track.audio:
        return None
    try:
        root = audio_root.resolve()
        path = (root / track.audio).resolve()
        inside = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError):
        return None
    is_audio = (mimetypes.guess_type(path.name)[0] or "").startswith("audio/")
    return path if inside and is_audio else None


def track_card(track: "Track", audio_root: Path | None = None) -> str:
    """The HTML of a track, every text in it escaped."""
    tempo = None if track.tempo is None else f"{track.tempo:.0f} BPM"
    release = " · ".join(escape(str(fact)) for fact in (track.album, track.year) if fact)
    sound = " · ".join(escape(fact) for fact in (tempo, track.key) if fact)
    facts = "".join(f'<div class="tp-facts">{line}</div>' for line in (release, sound) if line)
    tags = "".join(f'<span class="tp-tag">{escape(tag)}</span>' for tag in track.tags[:8])
    tags = f'<div class="tp-tags tp-wide">{tags}</div>' if tags else ""
    player = ""
    if clip_path(track, audio_root):
        source = f"clips/{quote(track.track_id, safe='')}"
        player = (
            '<audio class="tp-wide" controls controlslist="nodownload noplaybackrate" '
            f'preload="metadata" aria-label="Play {escape(track.title)}" src="{source}"></audio>'
        )
    hue = zlib.crc32(track.artist.encode()) % 360
    return (
        f'<div class="tp-card"><div class="tp-cover" style="--hue:{hue}" aria-hidden="true">♪</div>'
        f'<div><div class="tp-title">{escape(track.title)}</div>'
        f'<div class="tp-artist">{escape(track.artist)}</div>{facts}</div>{tags}{player}</div>'
    )


def playlist_panel(tracks: Sequence["Track"]) -> str:
    """The HTML of the tracks played so far, every text in it escaped."""
    rows = "".join(
        f"<li><span>{place}</span><div>{escape(track.title)}<br>"
        f"<small>{escape(track.artist)}</small></div></li>"
        for place, track in enumerate(tracks, start=1)
    )
    body = f"<ol>{rows}</ol>" if rows else '<p class="tp-empty">Tracks you hear appear here.</p>'
    return f'<div class="tp-list"><h2>Playlist so far</h2>{body}</div>'


class ChatPage:
    """What the page does: answer a turn, show the conversation, serve the API.

    Args:
        recommender (`Recommender`): The model with its catalogue.
        audio_root (`Path`, *optional*): The folder that the tracks' audio paths start from.
    """

    def __init__(self, recommender: "Recommender", audio_root: Path | None = None) -> None:
        self.recommender = recommender
        self.audio_root = audio_root
        self._lock = threading.Lock()

    def respond(self, text: str, turns: list[Turn]) -> Iterator[tuple[Any, ...]]:
        """Answer a turn; yields new values for chat, playlist, text box and turns."""
        text = (text or "").strip()
        if not text:
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        problem = self._problem(text, len(turns))
        if problem is None:
            yield self._chat(turns, text, "Listening …"), gr.skip(), "", gr.skip()
            try:
                result = self._ask([m for turn in turns for m in turn.messages()], text)
                track_id = result.tracks[0].track_id if result.tracks else None
                turns = [*turns, Turn(text, track_id, result.reply)]
                yield self._chat(turns), self._playlist(turns), "", turns
                return
            except TalkPlayError as error:
                problem = f"Sorry, I cannot answer that: {error}"
            except Exception:
                logger.exception("a chat turn failed")
                problem = APOLOGY
        shown = text if len(text) <= MAX_CHARACTERS else f"{text[:200]} …"
        yield self._chat(turns, shown, problem), gr.skip(), text, gr.skip()

    def clear(self) -> tuple[Any, ...]:
        """A new conversation: empty chat, playlist, text box and turns."""
        return [], playlist_panel([]), "", []

    def recommend(self, message: str, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Recommend one track for a message that follows a history of whole turns.

        Args:
            message (`str`): What the listener says now.
            history (`list[dict]`): Earlier messages in the order user, music, assistant; each
                has `role`, and `content` (user, assistant) or `track_id` (music).

        Returns:
            `dict`: `track` (an object, or null), `reply` (text), `codes` (lists of five integers).
        """
        turns = self._read_history(history)
        message = message.strip() if isinstance(message, str) else ""
        problem = self._problem(message, len(turns)) if message else "The message is empty."
        if problem:
            raise gr.Error(problem, print_exception=False)
        try:
            result = self._ask([m for turn in turns for m in turn.messages()], message)
        except TalkPlayError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:
            logger.exception("an API call failed")
            raise gr.Error(APOLOGY, print_exception=False) from None
        track = None
        if result.tracks:
            names = ("track_id", "title", "artist", "album", "year", "tempo", "key")
            track = {name: getattr(result.tracks[0], name) for name in names}
            track["tags"] = list(result.tracks[0].tags)
        codes = [[int(code) for code in block] for block in result.codes]
        return {"track": track, "reply": result.reply, "codes": codes}

    def clip(self, request: Request) -> FileResponse:
        """Send the sound of a track of the catalogue, and nothing else."""
        try:
            track = self.recommender.track(request.path_params["track_id"])
        except TalkPlayError:
            raise HTTPException(404) from None
        path = clip_path(track, self.audio_root)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path)

    def _ask(self, history: list[Message], text: str) -> "Recommendation":
        with self._lock:
            # the most probable track fits a request more often than a sampled one
            return self.recommender.chat([*history, Message("user", text)], strategy="rank")

    def _problem(self, text: str, turns: int) -> str | None:
        if len(text) > MAX_CHARACTERS:
            return TOO_LONG
        return TOO_MANY if turns >= MAX_TURNS else None

    def _chat(self, turns: list[Turn], text: str = "", notice: str = "") -> list[dict[str, Any]]:
        # `render_markdown=False` still renders HTML: every text is escaped here.
        shown: list[dict[str, Any]] = []
        for turn in turns:
            shown.append({"role": "user", "content": escape(turn.text)})
            if turn.track_id is not None:
                card = track_card(self.recommender.track(turn.track_id), self.audio_root)
                shown.append({"role": "assistant", "content": gr.HTML(card, js_on_load=None)})
            shown.append({"role": "assistant", "content": escape(turn.reply)})
        if text:
            shown.append({"role": "user", "content": escape(text)})
            shown.append({"role": "assistant", "content": escape(notice)})
        return shown

    def _playlist(self, turns: list[Turn]) -> str:
        played = [turn.track_id for turn in turns if turn.track_id is not None]
        return playlist_panel([self.recommender.track(track_id) for track_id in played])

    def _read_history(self, history: Any) -> list[Turn]:
        """Check what an API client sends and rebuild the turns from it."""
        entries = list(history or []) if isinstance(history, list | None) else [history]
        if len(entries) % 3:
            _refuse("it must hold whole turns of user, music, assistant")
        if len(entries) > 3 * MAX_TURNS:
            _refuse(f"it may hold at most {MAX_TURNS} turns")
        for place, entry in enumerate(entries):
            role = ("user", "music", "assistant")[place % 3]
            if not isinstance(entry, dict) or entry.get("role") != role:
                _refuse(f"entry {place} must have the role {role!r}")
            value = entry.get("track_id" if role == "music" else "content")
            if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
                _refuse(f"entry {place} needs a text of at most {MAX_CHARACTERS:,} characters")
            if role == "music":
                try:
                    self.recommender.track(value)
                except TalkPlayError:
                    _refuse(f"entry {place} names a track that the catalogue does not have")
        return [
            Turn(user["content"], music["track_id"], assistant["content"])
            for user, music, assistant in zip(*[iter(entries)] * 3, strict=True)
        ]


def _refuse(reason: str) -> None:
    raise gr.Error(f"The history is refused: {reason}.", print_exception=False)


def build_app(
    recommender: "Recommender", *, audio_root: Path | None = None, title: str = "TalkPlay"
) -> gr.Blocks:
    """Build the page; start it with `.launch(**launch_options(recommender, audio_root))`.

    Args:
        recommender (`Recommender`): The model with its catalogue.
        audio_root (`Path`, *optional*): The folder that the tracks' audio paths start from.
        title (`str`): The heading of the page.

    Returns:
        `gr.Blocks`: The page, with one API endpoint `/recommend`.
    """
    page = ChatPage(recommender, audio_root)
    examples = [{"text": text} for text in recommender.examples[:MAX_EXAMPLES]]
    with gr.Blocks(title=title, analytics_enabled=False) as app:
        gr.HTML(
            f'<div class="tp-head"><h1>{escape(title)}</h1>'
            "<p>A conversation that plays music from this catalogue.</p></div>",
            elem_classes="tp-html",
        )
        turns = gr.State([])
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                # Replies come from a model: as plain text they can hold neither links nor images.
                chat = gr.Chatbot(
                    elem_id="tp-chat",
                    show_label=False,
                    height="calc(100vh - 230px)",
                    min_height=380,
                    buttons=[],
                    render_markdown=False,
                    sanitize_html=True,
                    allow_tags=False,
                    allow_file_downloads=False,
                    feedback_options=None,
                    placeholder=PLACEHOLDER,
                    examples=examples or None,
                )
                with gr.Row(equal_height=True):
                    box = gr.Textbox(
                        elem_id="tp-box",
                        show_label=False,
                        label="Your message",
                        placeholder="Ask for music …",
                        container=False,
                        scale=6,
                        min_width=180,
                        autofocus=True,
                    )
                    send = gr.Button("Send", variant="primary", scale=1, min_width=84)
            with gr.Column(scale=1, min_width=260):
                playlist = gr.HTML(playlist_panel([]), elem_classes="tp-html")
                new = gr.Button("New conversation")

        outputs = [chat, playlist, box, turns]
        event: dict[str, Any] = {"concurrency_id": "model", "show_progress": "hidden"}
        gr.on(
            [box.submit, send.click],
            page.respond,
            [box, turns],
            outputs,
            api_visibility="private",
            **event,
        )

        def choose(turns: list[Turn], chosen: gr.SelectData) -> Iterator[tuple[Any, ...]]:
            yield from page.respond(str(chosen.value["text"]), turns)

        chat.example_select(choose, turns, outputs, api_visibility="private", **event)
        gr.on(
            [new.click, chat.clear],
            page.clear,
            None,
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
        gr.api(page.recommend, api_name="recommend", concurrency_id="model")
    app.queue(default_concurrency_limit=1, max_size=64)
    return app


def launch_options(recommender: "Recommender", audio_root: Path | None = None) -> dict[str, Any]:
    """The arguments of `gr.Blocks.launch` that belong to the page: its look and its audio clips.

    Clips are served by track id, so no folder is opened to the client (`allowed_paths` stays
    empty) and no path leaves the server.
    """
    hue = gr.themes.colors.violet
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    clips = Route("/clips/{track_id:path}", ChatPage(recommender, audio_root).clip)
    return {
        "theme": gr.themes.Soft(
            primary_hue=hue, neutral_hue="slate", font=fonts, font_mono=["monospace"]
        ),
        "css": CSS,
        "app_kwargs": {"routes": [clips]},
        "footer_links": ["api"],
        "max_file_size": 1,  # nothing is ever uploaded
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "share": False,
        "quiet": True,
    }


def launch(
    model: str,
    *,
    catalog: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = False,
) -> None:
    """Load a model, print the page's address and serve until interrupted.

    Args:
        model (`str`): Folder or Hub repository of the model.
        catalog (`str`, *optional*): Catalog folder that holds the audio; else the model's folder.
        host (`str`): Address to listen on.
        port (`int`): Port to listen on.
        open_browser (`bool`): Open the page in a browser.

    Raises:
        TalkPlayError: If the model cannot be loaded, the catalog folder is missing or the port is
            taken.
    """
    from talkplay_hf import Recommender

    if catalog is not None and not Path(catalog).is_dir():
        raise TalkPlayError(f"{catalog}: there is no such catalog folder")
    try:
        recommender = Recommender.from_pretrained(model)
    except TalkPlayError:
        raise
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TalkPlayError(f"cannot load the model {model!r}: {reason}") from error
    folder = Path(catalog or model)
    audio_root = folder if folder.is_dir() else None
    app = build_app(recommender, audio_root=audio_root)
    try:
        app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            **launch_options(recommender, audio_root),
        )
    except OSError as error:
        raise TalkPlayError(
            f"cannot listen on {host}:{port}: the port is taken or may not be used; "
            "choose another one with --port"
        ) from error
    print(f"TalkPlay is ready: http://{host}:{port}", flush=True)
    app.block_thread()


if __name__ == "__main__":
    launch(
        os.environ.get("TALKPLAY_MODEL", str(Path(__file__).parent / "model")),
        host="0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1",
    )
