"""Settings files that transformers 4.56 and 4.57 read as they are meant.

Version 5 writes settings under names that version 4 does not know. For the special tokens of the
base its tokenizers fail to load; the positions of the model are lost without a word, so that it
computes something else. Version 4 also makes plain tokenizers give `token_type_ids`, which causal
language models refuse, unless the settings say otherwise. Version 5 reads all of this as well.
"""

from pathlib import Path
from typing import Any

from talkplay_hf.hub import files

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
INPUTS = ["input_ids", "attention_mask"]


def write_for_older(folder: str | Path) -> set[str]:
    """Give the settings of a model or tokenizer folder the names that transformers 4 reads.

    Call it after `save_pretrained` of a model or tokenizer and before the manifest is written.
    Settings that have these names already, and files that are absent, are left alone.

    Args:
        folder (`str` or `Path`): The folder.

    Returns:
        `set[str]`: The names of the files that were changed.
    """
    written = set()
    for name, change in ((CONFIG, _with_rope), (TOKENIZER_CONFIG, _with_tokens)):
        path = Path(folder) / name
        if path.is_file():
            values = files.read_json(path)
            changed = change(values)
            if changed != values:
                files.write_json(path, changed)
                written.add(name)
    return written


def _with_rope(values: dict[str, Any]) -> dict[str, Any]:
    rope = values.get("rope_parameters")
    # models with several kinds of layers have one set of parameters for each, which is newer
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return values
    scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
    older: dict[str, Any] = {"rope_theta": rope["rope_theta"]}
    if scaling.get("rope_type", "default") != "default":
        older["rope_scaling"] = scaling
    return values | older


def _with_tokens(values: dict[str, Any]) -> dict[str, Any]:
    older: dict[str, Any] = {"model_input_names": INPUTS} | values
    if isinstance(older.get("extra_special_tokens"), list):
        # version 4 takes the newer name for something else, so it cannot stand beside the older one
        older["additional_special_tokens"] = older.pop("extra_special_tokens")
    return older
