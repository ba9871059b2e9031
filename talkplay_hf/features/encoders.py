"""The encoders of the modalities: one small protocol, each encoder chosen by name in a config.

An encoder is a frozen dataclass whose fields are its options. What it needs of the run (device,
seed, resumable batches, what was fitted before) it asks of the `ShardedRun` that is handed to it.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from importlib import import_module
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.errors import ConfigError
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors


class Encoder(Protocol):
    """Makes the vectors of one modality (paper 4.1, Item Embeddings)."""

    modalities: ClassVar[tuple[str, ...]]

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
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
        raise ConfigError(f"{modality!r:.200} is no modality; they are {', '.join(MODALITIES)}")
    if not isinstance(config, str | Mapping | None):
        raise ConfigError(f"{modality}: an encoder is a name or a mapping, not {config!r:.200}")
    options: dict[str, Any] = {"encoder": config} if isinstance(config, str) else dict(config or {})
    name = options.pop("encoder", DEFAULTS[modality])
    if not isinstance(name, str) or name not in ENCODERS:
        raise ConfigError(
            f"{modality}: unknown encoder {name!r:.200}; there are {', '.join(ENCODERS)}"
        )
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
                f"{modality}: {name} has no option {option!r:.200}; "
                f"it has {', '.join(known) or 'none'}"
            )
        wrong = _problem(value, get_args(types[option]) or (types[option],))
        if wrong:
            raise ConfigError(f"{modality}: {name}: {option} is {value!r:.200}; it must be {wrong}")
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
