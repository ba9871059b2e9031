"""What a tokenizer folder says about itself: `talkplay_config.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.catalog.schema import MODALITIES
from talkplay_hf.errors import ArtifactError, ConfigError, InputError
from talkplay_hf.hub import files

SCRATCH = "scratch"
# sampling, paper 4.4
TEMPERATURE, TOP_P = 1.0, 0.9
LOOKUP_WEIGHTS = (25, 16, 9, 4, 1)
START_OF_MUSIC, END_OF_MUSIC = "<start_of_music>", "<end_of_music>"
MISSING_POLICIES = ("reserve", "impute")
DEFAULT_MISSING = "impute"


def music_token(modality: str, code: int) -> str:
    """The token of a code, such as `<|audio-29|>` (paper 4.1, Token Mapping)."""
    return f"<|{modality}-{code}|>"


def check_codes(codes: int) -> None:
    """Check an upper bound of the codebook size.

    Raises:
        InputError: If it is not a power of two of at least 2.
    """
    if codes < 2 or codes & (codes - 1):
        raise InputError(f"codes {codes}: must be a power of two, at least 2")


@dataclass(frozen=True)
class TalkPlayConfig:
    """The identity of a music tokenizer.

    Args:
        codes (`tuple[int, ...]`): Codebook size K of each modality, in the order of `modalities`.
        base (`str`): The model id or folder name whose tokenizer was grown.
        base_vocab_size (`int`): Its number of tokens before growth.
        codebook_hash (`str`): SHA-256 of `codebooks.safetensors`; what a model is tied to.
        catalog_hash (`str`): SHA-256 of `catalog.parquet`; informational, catalogues can be
            swapped.
        modalities (`tuple[str, ...]`): Token order inside a block (paper 4.1).
        lookup_weights (`tuple[int, ...]`): Weights of the partial match (paper 4.4).
        missing (`str`): What a track without a modality gets: `"reserve"` keeps code K-1 for it,
            `"impute"` takes the code that the tracks most similar in the other modalities vote
            for. The paper does not say.
        made_from (`Mapping[str, str]`): SHA-256 of the inputs, by name.
        format_version (`int`): Version of this format.
        talkplay_hf (`str`): Version of the package that wrote it.

    Raises:
        ConfigError: If lengths do not fit or a value is impossible.
    """

    codes: tuple[int, ...]
    base: str
    base_vocab_size: int
    codebook_hash: str
    catalog_hash: str
    modalities: tuple[str, ...] = MODALITIES
    lookup_weights: tuple[int, ...] = LOOKUP_WEIGHTS
    missing: str = DEFAULT_MISSING
    made_from: Mapping[str, str] = field(default_factory=dict)
    format_version: int = files.FORMAT_VERSION
    talkplay_hf: str = __version__

    def __post_init__(self) -> None:
        lengths = {len(self.codes), len(self.modalities), len(self.lookup_weights)}
        if len(lengths) != 1 or not self.codes:
            raise ConfigError("codes, modalities and lookup_weights must have the same length")
        if any(type(n) is not int or n < 1 for n in (*self.codes, *self.lookup_weights)):
            raise ConfigError("codes and lookup_weights must be positive whole numbers")
        if len(set(self.modalities)) != len(self.modalities):
            raise ConfigError(f"modalities {self.modalities}: each may stand once")
        if self.missing not in MISSING_POLICIES:
            raise ConfigError(f"missing {self.missing!r}: must be one of {MISSING_POLICIES}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TalkPlayConfig":
        """Build from JSON values.

        Raises:
            ConfigError: If a key is unknown or missing.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown key {', '.join(unknown)}")
        tuples = {"codes", "modalities", "lookup_weights"}
        try:
            fitted: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in values.items()}
            return cls(**fitted)
        except TypeError as error:
            raise ConfigError(str(error)) from None

    @classmethod
    def load(cls, path: str | Path) -> "TalkPlayConfig":
        """Read `talkplay_config.json`.

        Raises:
            ArtifactError: If the file is missing, damaged or of another format version, a key is
                unknown or missing, or a value impossible.
        """
        values = files.read_json(path)
        if not isinstance(values, dict):
            raise ArtifactError(f"{path}: is not a JSON object")
        files.check_format_version(Path(path), values)
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ArtifactError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The JSON values."""
        return asdict(self)

    @property
    def music_tokens(self) -> list[str]:
        """All new tokens in id order: the two wrappers, then the codes modality by modality."""
        tokens = [START_OF_MUSIC, END_OF_MUSIC]
        for modality, size in zip(self.modalities, self.codes, strict=True):
            tokens += [music_token(modality, code) for code in range(size)]
        return tokens

    def missing_code(self, modality: int) -> int | None:
        """The code that stands for "missing" in a modality, or `None` where none is reserved."""
        return self.codes[modality] - 1 if self.missing == "reserve" else None
