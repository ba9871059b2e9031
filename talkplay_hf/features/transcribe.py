"""Lyrics from sound by Whisper (paper 3.1: WHISPER-LARGE-V3)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from talkplay_hf.errors import ConfigError, first_line
from talkplay_hf.features.sound import windows

CHUNK_SECONDS = 30  # what Whisper hears at once
NO_SPEECH = 0.6
FEWEST_WORDS = 5
LONGEST_LOOP = 10
LOOP_SHARE = 0.9
LOOP_TURNS = 4
SIGN_OFF_WORDS = 20
SIGN_OFFS = re.compile(r"thanks? (you )?for (watching|listening)|amara\.org|subscribe|subtitles by")
NOTES = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|[♪♫🎵🎶]")
# one word, or two signs of a script that has no spaces between words
WORD = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{1,2}|[^\W_\u0e00-\u0eff\u3040-\u9fff]+"
)


@dataclass(frozen=True)
class Lyrics:
    """What was heard in a track.

    Args:
        text (`str`, *optional*): The lyrics; `None` for an instrumental.
        language (`str`, *optional*): Language code such as `"en"`; `None` for an instrumental.
        instrumental (`bool`): Whether nobody sings, by the rule of `Transcriber`.
    """

    text: str | None
    language: str | None
    instrumental: bool


@dataclass(frozen=True)
class Transcriber:
    """Lyrics by a Whisper model of transformers, timestamps off, greedy.

    The whole track is heard in chunks of 30 seconds that overlap by 5 seconds on each side and are
    joined where their words agree. The language is the one with the largest summed log probability
    over windows of 30 seconds in which somebody may sing, and all chunks are decoded in it.

    A track is an instrumental when

    - every window has a no-speech probability of at least 0.6 (it is not decoded then), or
    - the text has fewer than 5 words, after notes such as `[Music]` and `♪` are taken out (two
      signs of a script without spaces are a word), or
    - the text is a loop: a phrase of at most 10 words that comes at least 4 times, and at least
      90 % of the words equal the word one phrase before, or
    - the text has at most 20 words and a sign-off of video subtitles in it ("thanks for
      watching").

    The last two are what Whisper writes where there is no voice. A song that is sung on one short
    phrase alone counts as a loop too.

    Args:
        model (`str`): Hub id or folder of a Whisper model.
        revision (`str`, *optional*): Branch, tag or commit of the Hub repository.
        batch_size (`int`): Chunks that are decoded at once.
        dtype (`str`): Precision of the weights: `"auto"` (as stored), `"float32"`, `"float16"`, ...
    """

    model: str = "openai/whisper-large-v3"
    revision: str | None = None
    batch_size: int = 16
    dtype: str = "auto"

    def load(self, device: str = "cpu") -> tuple[int, Callable[[np.ndarray], Lyrics]]:
        """Load the model.

        Args:
            device (`str`): Where it should run.

        Returns:
            `tuple[int, Callable]`: The sample rate that it wants in Hz, and a function from a mono
            sound `[samples]` float32 of that rate to its `Lyrics`.

        Raises:
            ConfigError: If the model cannot be loaded or is no Whisper model.
        """
        from transformers import pipeline

        try:
            whisper = pipeline(
                "automatic-speech-recognition",
                model=self.model,
                revision=self.revision,
                device=device,
                dtype=self.dtype,
            )
        except (OSError, ValueError) as error:
            why = first_line(error)
            raise ConfigError(f"the model {self.model!r} cannot be loaded: {why}") from None
        kind = whisper.model.config.model_type
        if kind != "whisper":
            raise ConfigError(f"{self.model!r} is a {kind} model; lyrics need a Whisper model")
        return whisper.feature_extractor.sampling_rate, lambda sound: self._hear(whisper, sound)

    def _hear(self, whisper: Any, sound: np.ndarray) -> Lyrics:
        language = _language(whisper, sound, self.batch_size)
        if language is None:
            return Lyrics(None, None, True)
        spoken = {"language": language} if whisper.model.generation_config.is_multilingual else {}
        found = whisper(
            sound.copy(),
            chunk_length_s=CHUNK_SECONDS,
            ignore_warning=True,
            batch_size=self.batch_size,
            return_timestamps=False,
            generate_kwargs={**spoken, "do_sample": False, "num_beams": 1},
        )
        text = " ".join(found["text"].split())
        if is_instrumental(text):
            return Lyrics(None, None, True)
        return Lyrics(text, language, False)


def _language(whisper: Any, sound: np.ndarray, batch_size: int) -> str | None:
    """The language of a track, or `None` where no window has speech in it."""
    import torch

    model, extractor = whisper.model, whisper.feature_extractor
    config = model.generation_config
    parts = windows(sound, extractor.n_samples)
    scores = []
    for at in range(0, len(parts), batch_size):
        features = extractor(
            parts[at : at + batch_size],
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
        )["input_features"].to(model.device, model.dtype)
        begin = torch.full((len(features), 1), config.decoder_start_token_id, device=model.device)
        with torch.inference_mode():
            logits = model(input_features=features, decoder_input_ids=begin, use_cache=False).logits
        scores.append(logits[:, -1].float().log_softmax(dim=-1).cpu().numpy())
    found = np.concatenate(scores)
    # Whisper's vocabulary has the no-speech token before the no-timestamps token
    voiced = found[found[:, config.no_timestamps_token_id - 1] < np.log(NO_SPEECH)]
    if not len(voiced):
        return None
    if not config.is_multilingual:
        return "en"
    names = list(config.lang_to_id)
    best = voiced[:, [config.lang_to_id[name] for name in names]].sum(axis=0).argmax()
    return str(names[int(best)]).strip("<|>")


def is_instrumental(text: str) -> bool:
    """Whether a transcript is what Whisper writes where nobody sings; see `Transcriber`."""
    plain = NOTES.sub(" ", text.casefold())
    words = WORD.findall(plain)
    if len(words) < FEWEST_WORDS:
        return True
    if len(words) <= SIGN_OFF_WORDS and SIGN_OFFS.search(plain):
        return True
    return any(_is_loop(words, length) for length in range(1, LONGEST_LOOP + 1))


def _is_loop(words: list[str], length: int) -> bool:
    if len(words) < LOOP_TURNS * length:
        return False
    same = sum(a == b for a, b in zip(words, words[length:], strict=False))
    return same >= LOOP_SHARE * (len(words) - length)
