"""The encoders of the modalities: one small protocol, each encoder chosen by name in a config.

An encoder is a frozen dataclass whose fields are its options. What it needs of the run (device,
seed, resumable batches, what was fitted before) it asks of the `Run` that is handed to it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from importlib import import_module
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

import numpy as np

from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.errors import ConfigError
from talkplay_hf.features.store import ModalityVectors


class Run(Protocol):
    """What an encoder may ask of the embedding run.

    Attributes:
        device (`str`): Where a model should run: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.
        seed (`int`): Seed of everything that draws.
        fit_on (`np.ndarray` of shape `[n]`, bool): Tracks that a trained part may see (no cold
            ones).
    """

    seed: int
    fit_on: np.ndarray

    @property
    def device(self) -> str:
        """See above."""
        ...

    def map_tracks(
        self,
        inputs: Sequence[Any],
        encode: Callable[[list[Any]], np.ndarray],
        *,
        load: Callable[[Any], Any] | None = None,
        batch_size: int = 32,
    ) -> ModalityVectors:
        """Encode the inputs of all tracks in fixed batches, resumable shard by shard.

        Args:
            inputs (`Sequence`): Strings, paths or tuples of them, one a track, in catalog order;
                `None` where the modality is missing. Files are taken to stay the same while a
                run is unfinished.
            encode (`Callable`): From the loaded inputs of a batch to `[b, d]` float32.
            load (`Callable`, *optional*): From one input to what `encode` takes. What it raises
                (`InputError`, `OSError`) is counted against that track, or stops the run, by
                option of the run.
            batch_size (`int`): Tracks a batch.
        """
        ...

    def reject(self, row: int, reason: str) -> None:
        """Count a track whose input cannot be used, or stop the run, by option of the run.

        Raises:
            InputError: If the run stops at the first such track.
        """
        ...

    def fitted(self) -> dict[str, np.ndarray] | None:
        """What an earlier run kept, where this run applies it to other tracks; else `None`."""
        ...

    def keep(self, arrays: Mapping[str, np.ndarray], *, seen: np.ndarray | None = None) -> None:
        """Keep what was fitted beside the vectors, as `<modality>.encoder.safetensors`.

        Args:
            arrays (`Mapping[str, np.ndarray]`): What was fitted; may be empty.
            seen (`np.ndarray` of shape `[n]`, bool, *optional*): The tracks that the fit saw;
                `fit_on` when left out. Its hash goes into the manifest.

        Raises:
            LeakageError: If the fit saw a track outside `fit_on`.
        """
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell how far the work is."""
        ...


class Encoder(Protocol):
    """Makes the vectors of one modality (paper 4.1, Item Embeddings)."""

    modalities: ClassVar[tuple[str, ...]]

    def encode(self, catalog: Catalog, modality: str, run: Run) -> ModalityVectors:
        """The vectors of one modality for every track of a catalog, in catalog order."""
        ...


TEXT = ("semantic", "metadata", "lyrics")
# Name -> where the class is; imported when it is used.
ENCODERS = {
    "ppmi-svd": "talkplay_hf.features.cooccurrence:PpmiSvd",
    "item2vec": "talkplay_hf.features.item2vec:Item2Vec",
    "tfidf-svd": "talkplay_hf.features.text:TfidfSvd",
    "sentence-transformers": "talkplay_hf.features.sentences:SentenceEncoder",
    "descriptors": "talkplay_hf.features.audio:Descriptors",
    "librosa": "talkplay_hf.features.librosa_audio:LibrosaDescriptors",
    "clap": "talkplay_hf.features.clap:Clap",
}
# Fitted on the whole catalogue by one process; they have no part that others could share.
WHOLE = frozenset({"ppmi-svd", "item2vec", "tfidf-svd"})
# They place only the tracks that they were trained on.
TRANSDUCTIVE = frozenset({"ppmi-svd", "item2vec"})
DEFAULTS = dict.fromkeys(TEXT, "tfidf-svd") | {"playlist": "ppmi-svd", "audio": "descriptors"}


def make_encoder(
    modality: str, config: Mapping[str, Any] | str | None = None, *, dim: int | None = None
) -> tuple[Encoder, dict[str, Any]]:
    """Make the encoder of a modality from its part of a config.

    Args:
        modality (`str`): The modality.
        config (`Mapping` or `str`, *optional*): `{"encoder": name, option: value, ...}`, or the
            name alone; the embedded default when left out.
        dim (`int`, *optional*): The option `dim` of encoders that have one and whose config does
            not set it.

    Returns:
        `tuple[Encoder, dict[str, Any]]`: The encoder, and its complete config.

    Raises:
        ConfigError: If the modality, the encoder or an option is unknown, an option has a value
            of another type or below 1 where it counts something, a required one is left out, or
            the encoder cannot serve the modality.
    """
    if modality not in MODALITIES:
        raise ConfigError(f"{modality!r} is no modality; they are {', '.join(MODALITIES)}")
    if not isinstance(config, str | Mapping | None):
        raise ConfigError(f"{modality}: an encoder is a name or a mapping, not {config!r}")
    options: dict[str, Any] = {"encoder": config} if isinstance(config, str) else dict(config or {})
    name = options.pop("encoder", DEFAULTS[modality])
    if not isinstance(name, str) or name not in ENCODERS:
        raise ConfigError(f"{modality}: unknown encoder {name!r}; there are {', '.join(ENCODERS)}")
    module, _, noun = ENCODERS[name].partition(":")
    encoder = getattr(import_module(module), noun)
    if modality not in encoder.modalities:
        raise ConfigError(
            f"{modality}: the encoder {name!r} is for {', '.join(encoder.modalities)}"
        )
    known = [field.name for field in fields(encoder)]
    types = get_type_hints(encoder)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(
                f"{modality}: {name} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
        wrong = _problem(value, get_args(types[option]) or (types[option],))
        if wrong:
            raise ConfigError(f"{modality}: {name}: {option} is {value!r}; it must be {wrong}")
    if dim is not None and "dim" in known:
        options.setdefault("dim", dim)
    required = [field.name for field in fields(encoder) if field.default is MISSING]
    if not options.keys() >= set(required):
        raise ConfigError(f"{modality}: {name} needs the options {', '.join(required)}")
    made = encoder(**options)
    return made, {"encoder": name} | asdict(made)


def _problem(value: Any, types: tuple[type, ...]) -> str:
    """What an option must be that it is not; empty where it fits."""
    if type(value) not in types and not (type(value) is int and float in types):
        names = ("null" if kind is type(None) else kind.__name__ for kind in types)
        return " or ".join(names)
    if type(value) is float and not math.isfinite(value):
        return "finite"
    # whole numbers count something: dimensions, passes, tracks a batch
    return "at least 1" if type(value) is int and float not in types and value < 1 else ""
