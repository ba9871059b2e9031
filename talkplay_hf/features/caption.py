"""Captions of sound by any audio-captioning model that transformers loads (paper 3.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from talkplay_hf.errors import ConfigError, first_line

PROMPT = (
    "Describe this piece of music in one or two sentences: its genre, mood, instruments and vocals."
)


@dataclass(frozen=True)
class Captioner:
    """A sentence about how a clip sounds.

    Two kinds of model are known: those that chat about sound (Qwen2-Audio, Music Flamingo,
    Voxtral, ...), which are asked `prompt`, and sequence-to-sequence speech models that were
    trained to write captions (Whisper and others), which have no prompt. The paper's
    LP-MusicCaps does not load on today's transformers: `recipes/encoders/lp_music_caps.py` runs
    it on its own.

    Args:
        model (`str`): Hub id or folder of the model.
        revision (`str`, *optional*): Branch, tag or commit of the Hub repository.
        prompt (`str`): What a chat model is asked.
        max_new_tokens (`int`): Longest caption in tokens.
        dtype (`str`): Precision of the weights: `"auto"` (as stored), `"float32"`, `"float16"`, ...
        clip_start (`str` or `float`): See `Clip`.
        clip_seconds (`float`): See `Clip`. Most models hear 30 seconds at most.
    """

    model: str = "Qwen/Qwen2-Audio-7B-Instruct"
    revision: str | None = None
    prompt: str = PROMPT
    max_new_tokens: int = 128
    dtype: str = "auto"
    clip_start: str | float = "middle"
    clip_seconds: float = 30.0

    def load(self, device: str = "cpu") -> tuple[int, Callable[[np.ndarray], str | None]]:
        """Load the model.

        Args:
            device (`str`): Where it should run.

        Returns:
            `tuple[int, Callable]`: The sample rate that it wants in Hz, and a function from a mono
            sound `[samples]` float32 of that rate to its caption, or `None` for an empty one.

        Raises:
            ConfigError: If the model cannot be loaded or is of neither kind.
        """
        from transformers import AutoConfig, AutoProcessor
        from transformers.models.auto import modeling_auto as auto

        kinds = {
            auto.AutoModelForMultimodalLM: auto.MODEL_FOR_MULTIMODAL_LM_MAPPING,
            auto.AutoModelForSeq2SeqLM: auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
            auto.AutoModelForSpeechSeq2Seq: auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
        }
        try:
            config = AutoConfig.from_pretrained(self.model, revision=self.revision)
            kind = next((kind for kind, known in kinds.items() if type(config) in known), None)
            if kind is not None:
                model = kind.from_pretrained(self.model, revision=self.revision, dtype=self.dtype)
                processor = AutoProcessor.from_pretrained(self.model, revision=self.revision)
        except (OSError, ValueError) as error:
            why = first_line(error)
            raise ConfigError(f"the model {self.model!r} cannot be loaded: {why}") from None
        if kind is None or not hasattr(processor, "feature_extractor"):
            raise ConfigError(
                f"{self.model!r} is a {config.model_type} model, which cannot write about sound"
            )
        model = model.to(device).eval()
        chats = kind is not auto.AutoModelForSpeechSeq2Seq
        prompt = self._question(processor) if chats else None
        rate = int(processor.feature_extractor.sampling_rate)
        return rate, lambda sound: self._caption(model, processor, prompt, sound)

    def _question(self, processor: Any) -> str:
        content = [{"type": "audio", "audio": ""}, {"type": "text", "text": self.prompt}]
        message = {"role": "user", "content": content}
        return str(
            processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        )

    def _caption(
        self, model: Any, processor: Any, prompt: str | None, sound: np.ndarray
    ) -> str | None:
        import torch

        rate = processor.feature_extractor.sampling_rate
        asked = {"text": [prompt], "audio": [sound]} if prompt else {"audio": sound}
        inputs = processor(**asked, sampling_rate=rate, return_tensors="pt")
        inputs = inputs.to(model.device, dtype=model.dtype)
        with torch.inference_mode():
            ids = model.generate(
                **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
            )
        if prompt:
            ids = ids[:, inputs["input_ids"].shape[1] :]
        caption = processor.batch_decode(ids, skip_special_tokens=True)[0]
        return " ".join(caption.split()) or None
