"""What a training recipe may say: our own keys beside TRL's, and how a recipe is read."""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import yaml
from trl import ModelConfig, SFTConfig, TrlParser

from talkplay_hf.errors import ConfigError
from talkplay_hf.training.model.vocabulary import INITS
from talkplay_hf.training.runs.tracking import default_reporter

# TRL's parser knows these; nothing here acts on them
UNSUPPORTED = {
    "load_in_4bit": "the embedding rows are trained, which 4-bit weights do not allow",
    "load_in_8bit": "the embedding rows are trained, which 8-bit weights do not allow",
    "assistant_only_loss": "rows carry their labels already",
    "completion_only_loss": "rows carry their labels already",
    "padding_free": "use packing: true",
    "push_to_hub": "push the finished model folder",
    "chat_template_path": "the chat template is that of the tokenizer folder",
    "eos_token": "the end of turn is that of the tokenizer folder",
    "pad_token": "the padding is that of the tokenizer folder",
    "use_liger_kernel": "its loss takes the place of ours; see label_positions_only",
}
COUNTS = (
    *("early_stopping_patience", "threads"),
    *("scratch_hidden_size", "scratch_layers", "scratch_heads"),
)


@dataclass
class TalkPlayArguments:
    """What a TalkPlay recipe says beyond TRL's own arguments."""

    tokenizer: str = field(metadata={"help": "Tokenizer folder (talkplay tokenize)."})
    conversations: str = field(metadata={"help": "Conversations folder (talkplay synthesize)."})
    catalog: str = field(metadata={"help": "Catalog folder; its playlists are continued."})
    self_similarity_weight: float = field(
        default=0.1, metadata={"help": "Weight of the self-similarity loss (paper: 0.1)."}
    )
    playlist_share: float = field(
        default=0.5,
        metadata={"help": "Share of the label tokens from playlist continuation (paper: half)."},
    )
    train_on_negatives: bool = field(
        default=False, metadata={"help": "Whether rejected music counts for the loss (paper: yes)."}
    )
    paper_loss: bool = field(
        default=False,
        metadata={
            "help": "The paper's sum of two mean losses: equal label-token shares of both parts, "
            "and half of self_similarity_weight, since a batch averages where Eq. 1 adds."
        },
    )
    init: str = field(
        default="mean_covariance",
        metadata={"help": f"How new embedding rows start: {', '.join(INITS)}."},
    )
    cov_scale: float = field(
        default=1.0,
        metadata={"help": "Factor on the covariance that new rows are drawn from."},
    )
    label_positions_only: bool = field(
        default=True,
        metadata={"help": "Compute the cross-entropy where there are labels only; same loss."},
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Evaluations without a better validation loss before training stops."},
    )
    scratch_hidden_size: int = field(
        default=128, metadata={"help": "Width, with model_name_or_path: scratch."}
    )
    scratch_layers: int = field(
        default=4, metadata={"help": "Layers, with model_name_or_path: scratch."}
    )
    scratch_heads: int = field(
        default=4, metadata={"help": "Attention heads, with model_name_or_path: scratch."}
    )
    threads: int | None = field(
        default=None, metadata={"help": "CPU threads of torch; its own choice when left out."}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.playlist_share < 1:
            raise ConfigError(f"playlist_share {self.playlist_share}: must be in [0, 1)")
        for name in ("self_similarity_weight", "cov_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} {getattr(self, name)}: must be a number of at least 0")
        if self.init not in INITS:
            raise ConfigError(f"init {self.init!r}: must be one of {', '.join(INITS)}")
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value}: must be at least 1")
        if self.scratch_hidden_size % (2 * self.scratch_heads):
            raise ConfigError(
                f"scratch_hidden_size {self.scratch_hidden_size}: must be a multiple of twice "
                f"scratch_heads ({self.scratch_heads})"
            )
        if self.paper_loss and not (self.playlist_share == 0.5 and self.train_on_negatives):
            raise ConfigError(
                "paper_loss: needs playlist_share: 0.5 and train_on_negatives: true, as in the "
                "paper"
            )

    @property
    def effective_weight(self) -> float:
        """The weight of the self-similarity loss against the mean cross-entropy of a batch."""
        return self.self_similarity_weight / (2 if self.paper_loss else 1)


def parse_recipe(
    arguments: Sequence[str],
) -> tuple[TalkPlayArguments, SFTConfig, ModelConfig]:
    """Read `--config recipe.yaml` and overrides on the command line.

    Raises:
        ConfigError: If the file is missing or a key is unknown, impossible or not supported.
    """
    parser = TrlParser((TalkPlayArguments, SFTConfig, ModelConfig))
    # argparse would print every option of TRL and exit
    parser.error = _refuse
    parser.set_defaults(report_to=default_reporter())
    try:
        parsed = parser.parse_args_and_config(list(arguments), fail_with_unknown_args=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: no such recipe") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"recipe: is not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"recipe: {_plainly(str(error), parser)}") from None
    for config in parsed[1:]:
        for name, why in UNSUPPORTED.items():
            if getattr(config, name, False):
                raise ConfigError(f"{name}: is not supported: {why}")
    _check_machine(parsed[1])
    return parsed[0], parsed[1], parsed[2]


def _check_machine(config: SFTConfig) -> None:
    """Refuse what the trainer would not do here, or do in another way than asked."""
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"seed {config.seed}: must be in [0, 2**32)")
    if config.fp16 and config.device.type == "cpu":
        raise ConfigError("fp16: needs a GPU; on a CPU leave it out, or set bf16: true")
    if config.n_gpu > 1:
        raise ConfigError(
            f"{config.n_gpu} GPUs and one process: start one process a GPU with `accelerate launch "
            "-m talkplay_hf.training`, or show one GPU with CUDA_VISIBLE_DEVICES=0"
        )


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)


def _plainly(message: str, parser: TrlParser) -> str:
    """What is wrong with a recipe, in one line; of unknown keys their names and the likely ones."""
    if "support bf16/gpu" in message:
        return (
            "bf16: this machine has no GPU that computes in it; set bf16: false, or use_cpu: true "
            "to compute in it on the CPU"
        )
    if "fail_with_unknown_args" not in message and "HfArgumentParser" not in message:
        return " ".join(message.split())
    known = [action.dest for action in parser._actions]
    found = []
    for key in re.findall(r"'--([\w-]+)", message):
        like = difflib.get_close_matches(key, known, n=1)
        found.append(f"unknown key {key}" + (f" (did you mean {like[0]}?)" if like else ""))
    return ", ".join(found) or " ".join(message.split())
