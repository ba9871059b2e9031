"""The controls: gradio's own widgets, as far as the catalogue gives them something to do."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from talkplay_space.settings import MAX_TAGS, MAX_TEMPERATURE, MAX_TRACKS, Choices, Settings

DEFAULT = Settings()
WHOLE = ("tracks", "year_from", "year_to", "seed")
NAMES = (
    *("tracks", "strategy", "temperature", "top_p", "year_from", "year_to", "tags"),
    *("explicit", "no_repeats", "one_per_artist", "names", "seed"),
)
# what depends on the catalogue
RULES = ("year_from", "year_to", "tags", "explicit", "one_per_artist")
CHECKS = (
    ("explicit", "Explicit tracks too"),
    ("no_repeats", "No repeats"),
    ("one_per_artist", "Each artist once"),
    ("names", "Names I say come first"),
)


class Controls:
    """The widgets of the settings.

    Args:
        choices (`Sequence[Choices]`): What the catalogues offer, the default first. A widget is
            drawn where one of them has a use for it, and shown while that is chosen.
    """

    def __init__(self, choices: Sequence[Choices]) -> None:
        self.choices = choices
        used = {name for one in choices for name in _used(one)}
        self.names = [name for name in NAMES if name in used or name not in RULES]

    def draw(self) -> list[Any]:
        """Draw the widgets where gradio draws now; gives them in the order of `names`."""
        made: dict[str, Any] = {}
        shown = {name: self._shown(name, self.choices[0]) for name in RULES}
        sampled = DEFAULT.strategy == "sample"
        with gr.Row():
            made["tracks"] = gr.Slider(
                1, MAX_TRACKS, DEFAULT.tracks, step=1, label="Tracks per answer", min_width=200
            )
            made["strategy"] = gr.Radio(
                [("Most probable", "rank"), ("Sampled", "sample")],
                value=DEFAULT.strategy,
                label="How tracks are chosen",
                min_width=200,
            )
        with gr.Row(visible=sampled) as sampling:
            made["temperature"] = gr.Slider(
                0.1,
                MAX_TEMPERATURE,
                DEFAULT.temperature,
                step=0.05,
                label="Temperature",
                info="Higher is more daring.",
                min_width=200,
            )
            made["top_p"] = gr.Slider(
                0.05,
                1.0,
                DEFAULT.top_p,
                step=0.05,
                label="Top-p",
                info="Lower leaves out the unlikely.",
                min_width=200,
            )
        with gr.Row():
            for name, label in (("year_from", "From year"), ("year_to", "To year")):
                if name in self.names:
                    made[name] = self._number(label, **shown[name])
            made["seed"] = self._number("Seed", placeholder="random")
        if "tags" in self.names:
            made["tags"] = gr.Dropdown(
                value=[],
                multiselect=True,
                max_choices=MAX_TAGS,
                # the list holds the most frequent ones, and those of another catalogue after a
                # change; gradio itself would refuse the rest without a word
                allow_custom_value=True,
                label="Only tracks with all of these tags",
                **shown["tags"],
            )
        with gr.Row():
            for name, label in CHECKS:
                if name in self.names:
                    made[name] = self._check(label, getattr(DEFAULT, name), **shown.get(name, {}))
        made["strategy"].change(
            lambda strategy: gr.Row(visible=strategy == "sample"),
            made["strategy"],
            sampling,
            show_progress="hidden",
            api_visibility="private",
        )
        return [made[name] for name in self.names]

    def settings(self, values: Sequence[Any]) -> Settings:
        """What the widgets say.

        Raises:
            RefusedError: If a value is impossible.
        """
        given = dict(zip(self.names, values, strict=True))
        for name in WHOLE:
            value = given.get(name)
            if isinstance(value, float) and value.is_integer():
                given[name] = int(value)
        given["tags"] = list(given.get("tags") or ())
        return Settings.from_dict(given)

    def values(self, settings: Settings, choices: Choices) -> list[Any]:
        """What the widgets are to say, and to offer where there are several catalogues.

        Args:
            settings (`Settings`): How the listener wants to be answered.
            choices (`Choices`): What the catalogue offers.
        """
        told = []
        for name in self.names:
            value = getattr(settings, name)
            value = list(value) if isinstance(value, tuple) else value
            changes = self._shown(name, choices) if name in RULES else {}
            told.append(gr.update(value=value, **changes) if len(self.choices) > 1 else value)
        return told

    def unchanged(self) -> list[Any]:
        """For each widget, that it stays as it is."""
        return [gr.skip() for _ in self.names]

    def _shown(self, name: str, choices: Choices) -> dict[str, Any]:
        """How the widget of a rule looks with a catalogue."""
        looks: dict[str, Any] = {"visible": name in _used(choices)}
        if name in ("year_from", "year_to"):
            years = choices.years or ("", "")
            looks["placeholder"] = str(years[name == "year_to"])
        elif name == "tags":
            looks["choices"] = list(choices.tags)
        return looks

    @staticmethod
    def _number(label: str, **looks: Any) -> gr.Number:
        return gr.Number(None, label=label, precision=0, min_width=110, **looks)

    @staticmethod
    def _check(label: str, value: bool, **looks: Any) -> gr.Checkbox:
        return gr.Checkbox(value, label=label, min_width=150, **looks)


def _used(choices: Choices) -> list[str]:
    """The widgets of rules that a catalogue has a use for."""
    used = ["year_from", "year_to"] if choices.years else []
    used += ["tags"] if choices.tags else []
    used += ["explicit"] if choices.explicit else []
    return used + (["one_per_artist"] if choices.artists > 1 else [])
