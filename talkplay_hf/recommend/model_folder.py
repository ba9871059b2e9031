"""The folder that a recommender is read from: where it is, and whether its files are sound."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ArtifactError, HubError, TalkPlayError, first_line
from talkplay_hf.hub import files, needed, verify
from talkplay_hf.hub.pull import fetch
from talkplay_hf.hub.verify import TensorForm
from talkplay_hf.hub.weights import WEIGHTS, weight_forms
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.swap import read_config
from talkplay_hf.tokens.tokenizer import OF_A_CATALOG, SIDE_FILES, TalkPlayTokenizer, template_rows

# what is fetched: of a model with another catalogue, and of that catalogue
CATALOG_FILES = (files.TOKEN_CATALOG, *(SIDE_FILES[key] for key in OF_A_CATALOG))
MODEL_ALONE = tuple(name for name in needed.MODEL if name not in CATALOG_FILES)
# what a model is kept with, and is not needed to run it
PAPERS = (*needed.PAPERS, files.TRAINING_REPORT, files.PICTURES)
CATALOG = (*CATALOG_FILES, files.TALKPLAY_CONFIG, files.MANIFEST)
CONFIG, ADAPTERS = "config.json", "adapter_config.json"
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
# what else transformers reads where it is there
OPTIONAL_OBJECTS = (GENERATION, "special_tokens_map.json", "added_tokens.json")
# a model may describe so many times the numbers of its weight files, which can pack eight in one
MOST_PER_NUMBER = 16
COUNTS = re.compile(r"(num|n)_.*(layers?|blocks?|experts?)$")
MOST_PARTS = 4096
HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
WAY_OUT = (
    ". Where it was changed on purpose: verify=False reads it as it is, and "
    "`Recommender(model, tokenizer).save_pretrained(out)` writes a new folder"
)


@dataclass(frozen=True)
class HubOptions:
    """How to get at a repository, see `Recommender.from_pretrained`."""

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


@dataclass(frozen=True)
class Source:
    """Where a model was read from.

    Args:
        folder (`Path`): The folder; of a repository, the one in the cache.
        repo_id (`str`, *optional*): The Hub id, if it came from there.
        hub (`HubOptions`): How to get at it.
    """

    folder: Path
    repo_id: str | None = None
    hub: HubOptions = HubOptions()

    def fetch_papers(self) -> None:
        """Bring card, training report and pictures of a repository to where the model is, if they
        can be had."""
        if self.repo_id is None:
            return
        # the folder in the cache has the name of the commit
        hub = replace(self.hub, revision=self.folder.name)
        with contextlib.suppress(HubError):
            fetch(self.repo_id, repo_type="model", allow=PAPERS, **asdict(hub))


def model_folder(
    model: str | Path, hub: HubOptions, *, verify: bool = True, own_catalog: bool = True
) -> Source:
    """Where a model is, its files checked; what is on the Hub is fetched first.

    Args:
        model (`str` or `Path`): A folder, or a Hub id.
        hub (`HubOptions`): How to get at the Hub.
        verify (`bool`): Compare a folder with its manifest.
        own_catalog (`bool`): Whether its own catalogue will be used.

    Raises:
        ArtifactError: If there is no such folder, or a file is missing or damaged.
        HubError: If the Hub does not give it.
    """
    patterns = needed.MODEL if own_catalog else MODEL_ALONE
    source = _source(model, patterns, hub, verify)
    kind = files.folder_kind(source.folder)
    if kind not in ("model", None):
        way = "; train one with it, or give it as catalog= of one" if kind == "tokenizer" else ""
        raise ArtifactError(f"{model}: is a {kind}, not a model: it has no {CONFIG}{way}")
    check_files(source.folder, own_catalog=own_catalog)
    return source


def catalog_folder(catalog: str | Path, hub: HubOptions, *, verify: bool = True) -> Path:
    """The tokenizer or model folder of a catalogue; what is on the Hub is fetched first.

    Takes and raises what `model_folder` does. The revision is the model's, so it does not count.
    """
    folder = _source(catalog, CATALOG, replace(hub, revision=None), verify).folder
    _check_side_files(folder)
    read_config(folder)
    return folder


def _source(name: str | Path, patterns: Sequence[str], hub: HubOptions, verified: bool) -> Source:
    folder = Path(name)
    if folder.is_dir():
        if verified:
            try:
                verify.verify_folder(folder)
            except ArtifactError as error:
                raise ArtifactError(f"{error}{WAY_OUT}") from None
        return Source(folder)
    if isinstance(name, Path) or folder.is_absolute() or not HUB_ID.fullmatch(name):
        raise ArtifactError(f"{name}: no such folder")
    folder = fetch(name, repo_type="model", allow=patterns, verify=verified, **asdict(hub))
    return Source(folder, name, hub)


def check_files(folder: Path, *, own_catalog: bool = True) -> None:
    """Check the form of the files of a model folder, before any library reads them.

    Args:
        folder (`Path`): The folder.
        own_catalog (`bool`): Whether its own catalogue will be used.

    Raises:
        ArtifactError: If one is missing or damaged, names files elsewhere, or asks for adapters.
    """
    for name in verify.REQUIRED["model"]:
        if (own_catalog or name != files.TOKEN_CATALOG) and not (folder / name).is_file():
            raise ArtifactError(f"{folder}: has no {name}")
    if (folder / ADAPTERS).exists():
        raise ArtifactError(
            f"{folder / ADAPTERS}: adapters are not read; merge them into the weights, and save "
            "the model again"
        )
    verify.read_object(folder / CONFIG)
    for name in OPTIONAL_OBJECTS:
        if (folder / name).exists():
            verify.read_object(folder / name)
    elsewhere = verify.read_object(folder / "tokenizer_config.json").keys() & (
        TalkPlayTokenizer.vocab_files_names.keys()
    )
    if elsewhere:
        raise ArtifactError(
            f"{folder / 'tokenizer_config.json'}: names a file of its own ({min(elsewhere)}); only "
            "the files of the folder are read"
        )
    for name in ("tokenizer.json", TEMPLATE):
        if (folder / name).exists():
            verify.check_text(folder / name)
    if own_catalog:
        _check_side_files(folder)
    path = folder / files.TALKPLAY_CONFIG
    verify.read_object(path)
    TalkPlayConfig.load(path)


def _check_side_files(folder: Path) -> None:
    path = folder / files.EXAMPLES
    if path.exists():
        examples = verify.read_small_json(path)
        if not isinstance(examples, list) or not all(isinstance(one, str) for one in examples):
            raise ArtifactError(f"{path}: is not a list of texts")
    if (folder / files.CODEBOOK_HEALTH).exists():
        verify.read_object(folder / files.CODEBOOK_HEALTH)
    if (folder / files.CODEBOOK_LABELS).exists():
        verify.parquet_columns(folder / files.CODEBOOK_LABELS)


def read_tokenizer(folder: Path) -> TalkPlayTokenizer:
    """Load the tokenizer of a folder, and check that vocabulary, config and template agree.

    Raises:
        ArtifactError: If not, or if it cannot be loaded.
    """
    with reading(folder / "tokenizer.json"):
        tokenizer: TalkPlayTokenizer = TalkPlayTokenizer.from_pretrained(folder, verify=False)
    path = folder / files.TALKPLAY_CONFIG
    config = tokenizer.config
    for name in ("eos_token", "pad_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise ArtifactError(f"{folder / 'tokenizer_config.json'}: names no {name}")
    # before a list of all music tokens is made
    if sum(config.codes) + 2 > len(tokenizer):
        raise ArtifactError(
            f"{path}: has {sum(config.codes):,} codes, and the vocabulary in "
            f"{folder / 'tokenizer.json'} {len(tokenizer):,} tokens: they do not belong together"
        )
    try:
        tokenizer.code_offsets  # noqa: B018
    except ArtifactError as error:
        raise ArtifactError(f"{folder / 'tokenizer.json'}: {error}") from None
    _check_template(folder, tokenizer)
    return tokenizer


def _check_template(folder: Path, tokenizer: TalkPlayTokenizer) -> None:
    """Write a small chat with the template and look for what must be in it."""
    path = folder / TEMPLATE
    where = path if path.exists() else folder / "tokenizer_config.json"
    codes = [size - 1 for size in tokenizer.config.codes]
    said = [Message("user", "question"), Message("music"), Message("assistant", "reply")]
    with reading(where, "the chat template"):
        text = tokenizer.apply_chat_template(template_rows(said, [codes]), tokenize=False)
        asked = tokenizer.apply_chat_template(
            template_rows(said[:1], []), tokenize=False, add_generation_prompt=True
        )
        blocks = tokenizer.parse_blocks(tokenizer(text, add_special_tokens=False).input_ids)
    parts = [text.find(part) for part in ("question", tokenizer.config.music_tokens[0], "reply")]
    if blocks != [tuple(codes)] or -1 in parts or parts != sorted(parts) or "question" not in asked:
        raise ArtifactError(f"{where}: the chat template does not write music tokens and replies")


def check_config(folder: Path, tokenizer: TalkPlayTokenizer) -> None:
    """Check that `config.json` can be of the weights, before there is room made for them.

    Raises:
        ArtifactError: If it cannot be loaded, or describes a far larger model than the weights
            are of, one with weights of other shapes, or one of fewer tokens than the tokenizer
            has.
    """
    path = folder / CONFIG
    forms = weight_forms(folder)
    for name, value in _numbers(verify.read_object(path)):
        if COUNTS.match(name) and value > max(MOST_PARTS, len(forms)):
            raise ArtifactError(f"{path}: {name} is {value:,}, more than the weights are for")
    with reading(path):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            described = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    wanted = sum(weight.numel() for weight in described.parameters())
    held = sum(math.prod(form.shape) for form in forms.values())
    if wanted > MOST_PER_NUMBER * held:
        raise ArtifactError(
            f"{path}: describes a model of {wanted:,} numbers, the weights are {held:,}: they do "
            "not belong together"
        )
    rows = getattr(config.get_text_config(), "vocab_size", 0)
    if rows < len(tokenizer):
        raise ArtifactError(
            f"{path}: the model has {rows} tokens, the tokenizer {len(tokenizer)} "
            "(tokenizer.json, tokenizer_config.json): they do not belong together"
        )
    if getattr(config, "quantization_config", None) is None:
        _check_forms(folder, described, forms)


def _check_forms(folder: Path, described: PreTrainedModel, forms: Mapping[str, TensorForm]) -> None:
    for name, weight in described.named_parameters():
        form = forms.get(name)
        if form is not None and (form.shape != tuple(weight.shape) or not form.floating):
            raise ArtifactError(
                f"{folder / WEIGHTS}: {name} is {form.dtype} {list(form.shape)}, {CONFIG} is of a "
                f"model where it has {list(weight.shape)}: they do not belong together"
            )


def _numbers(values: Any) -> Iterator[tuple[str, int]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            if isinstance(value, int):
                yield str(name), value
            yield from _numbers(value)


@contextlib.contextmanager
def reading(path: Path, what: str = "") -> Iterator[None]:
    """Turn whatever a library raises on a file that it cannot use into one error that names it."""
    try:
        yield
    except (TalkPlayError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of any kind: the tokenizers library raises plain ones
        shown = f"{what} cannot be used" if what else "cannot be loaded"
        raise ArtifactError(f"{path}: {shown} ({first_line(error)})") from None
