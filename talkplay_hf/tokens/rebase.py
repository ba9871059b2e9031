"""The same music tokens on the tokenizer of another base model."""

import shutil
from dataclasses import replace
from pathlib import Path

from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.tokens.build import load_base_tokenizer
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.folder import read_tokens
from talkplay_hf.tokens.tokenizer import SIDE_FILES, TalkPlayTokenizer


def rebase_tokenizer(folder: str | Path, base: str, out: str | Path) -> TalkPlayConfig:
    """Put the codebooks and the catalogue of a tokenizer on another base model's tokenizer.

    For those who bring a language model of their own. Every track keeps its codes; the ids of the
    music tokens follow the vocabulary of the new base. The model has to be trained with them.

    Args:
        folder (`str` or `Path`): A tokenizer folder, or a model folder, whose weights are left out.
        base (`str`): The new base model, as a Hub id or folder.
        out (`str` or `Path`): The tokenizer folder to make; may be the same folder.

    Returns:
        `TalkPlayConfig`: What the new folder says of itself: `base` and `base_vocab_size` are new.

    Raises:
        ArtifactError: If the folder is damaged, or the base cannot be loaded.
        ConfigError: If the base has the music tokens already, or none of the supported headers.
    """
    held = read_tokens(folder)
    files.check_target(out, "tokenizer")
    plain = load_base_tokenizer(base)
    config = replace(held.config, base=base, base_vocab_size=len(plain))
    tokenizer = TalkPlayTokenizer.grow(plain, config.music_tokens)
    with files.staged_folder(out, "tokenizer") as aside:
        for name in SIDE_FILES.values():
            if (held.folder / name).exists():
                shutil.copyfile(held.folder / name, aside / name)
        files.write_json(aside / files.TALKPLAY_CONFIG, config.to_dict())
        tokenizer.attach(aside)
        tokenizer.save_pretrained(aside)
        write_card(aside, title=Path(out).name)
        files.refresh_manifest(aside)
    return config
