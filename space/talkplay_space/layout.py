"""The layout of the page in gradio Blocks, and what a press sets off."""

import os
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by gradio when it is imported

import gradio as gr
from starlette.middleware import Middleware

from talkplay_space import frame
from talkplay_space.api import endpoint
from talkplay_space.clips import clip_route
from talkplay_space.conversation import MAX_CHARACTERS
from talkplay_space.first_paint import FirstPaint
from talkplay_space.offers import Offers
from talkplay_space.page import Page, Visit

HERE = Path(__file__).parent
# turns that wait for the model, each in a thread of its own, and quick acts beside them
TURNS_AT_ONCE, ACTS_AT_ONCE = 30, 8


def build_page(offers: Offers, *, title: str = "TalkPlay") -> gr.Blocks:
    """Build the page; start it with `.launch(**launch_options(offers, title=title))`.

    Args:
        offers (`Offers`): What is served.
        title (`str`): The heading of the page.

    Returns:
        `gr.Blocks`: The page, with one API endpoint `/recommend`.
    """
    page = Page(offers)
    with gr.Blocks(title=title, analytics_enabled=False) as app:
        visit = gr.State(Visit())
        _panel(frame.header(title) + frame.share_dialog(), "tp-header")
        with gr.Row(elem_id="tp-body"):
            with gr.Column(elem_id="tp-left"):
                feed = gr.HTML(
                    [offers[0].view.welcome()],
                    html_template='${(value || []).join("")}',
                    js_on_load=None,
                    apply_default_css=False,
                    elem_id="tp-feed",
                    elem_classes="tp-html",
                )
                _panel(frame.composer(MAX_CHARACTERS), "tp-composer")
                with gr.Accordion("Settings", open=False, elem_id="tp-settings"):
                    many = len(offers) > 1
                    choice = _panel(page.chooser(offers[0]), "tp-choice", visible=many)
                    controls = page.controls.draw()
            with gr.Column(elem_id="tp-right"):
                playlist = _panel(frame.playlist_panel([], []), "tp-playlist", "tp-panel")
                why = _panel(frame.why_empty(), "tp-why", "tp-panel")
        bridge = gr.HTML(
            {},
            html_template="",
            js_on_load=(HERE / "page.js").read_text(encoding="utf-8"),
            elem_id="tp-bridge",
        )
        outputs = [feed, playlist, why, bridge, visit]
        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            # the bridge sends one at a time; "once" would drop what follows at once
            "trigger_mode": "multiple",
        }
        inputs = [visit, *controls]
        bridge.turn(page.turn, inputs, outputs, concurrency_limit=TURNS_AT_ONCE, **quiet)
        bridge.act(page.act, inputs, outputs, concurrency_limit=ACTS_AT_ONCE, **quiet)
        opened = [*outputs, choice, *controls]
        bridge.open(page.open, inputs, opened, concurrency_limit=ACTS_AT_ONCE, **quiet)
        gr.api(endpoint(offers), api_name="recommend", concurrency_limit=TURNS_AT_ONCE)
    app.queue(max_size=256)
    return app


def _panel(value: str, elem_id: str, *classes: str, visible: bool = True) -> gr.HTML:
    return gr.HTML(
        value,
        visible=visible,
        js_on_load=None,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes=["tp-html", *classes],
    )


def launch_options(offers: Offers, *, title: str = "TalkPlay") -> dict[str, Any]:
    """The arguments of `gr.Blocks.launch` that belong to the page: its look and its audio clips.

    Args:
        offers (`Offers`): What is served.
        title (`str`): The heading of the page.
    """
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return {
        "theme": gr.themes.Soft(
            primary_hue=gr.themes.colors.violet,
            neutral_hue="slate",
            font=fonts,
            font_mono=["monospace"],
        ),
        # as `css` gradio would rewrite the selectors, and break those with a comma in brackets
        "head": f"<style>{(HERE / 'style.css').read_text(encoding='utf-8')}</style>",
        "app_kwargs": {
            "routes": [clip_route(offers)],
            "middleware": [Middleware(FirstPaint, title=title)],
        },
        "footer_links": ["api"],
        "max_file_size": 1,  # nothing is ever uploaded
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "share": False,
        "quiet": True,
    }
