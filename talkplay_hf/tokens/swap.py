"""Another catalogue under the same model: its tracks have codes of the same codebooks."""

from dataclasses import replace
from pathlib import Path

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import read_fitting_catalog
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import OF_A_CATALOG, SIDE_FILES, TalkPlayTokenizer

GIVE_CODES = (
    "give them codes of the model's codebooks with `talkplay tokenize NEW_CATALOG NEW_FEATURES "
    "OUT --codebooks MODEL`, and take OUT"
)


def swap_catalog(tokenizer: TalkPlayTokenizer, folder: str | Path) -> None:
    """Give a tokenizer the tracks of another folder with the same codebooks, in place.

    Vocabulary, codebooks and lookup weights stay the tokenizer's own. The catalogue, its index, the
    labels of the codes, the codebook health and the examples become the folder's; what it does not
    have, the tokenizer has no longer. `tokenizer.config` then names the new catalogue. Nothing is
    changed where the folder is refused. A `Recommender` reads its catalogue once, so swap before it
    is made.

    Args:
        tokenizer (`TalkPlayTokenizer`): The tokenizer to change.
        folder (`str` or `Path`): A tokenizer or model folder.

    Raises:
        ArtifactError: If the folder is damaged, or its tracks have codes of other codebooks.
    """
    folder, ours = Path(folder), tokenizer.config
    theirs = read_config(folder)
    _check_same_codebooks(tokenizer, folder, theirs)
    read_fitting_catalog(folder / files.TOKEN_CATALOG, theirs.codes)
    for key in ("token_catalog_file", *OF_A_CATALOG):
        path = folder / SIDE_FILES[key]
        if path.is_file():
            tokenizer.init_kwargs[key] = str(path)
        else:
            tokenizer.init_kwargs.pop(key, None)
    tokenizer.config = replace(ours, catalog_hash=theirs.catalog_hash, made_from=theirs.made_from)


def read_config(folder: Path) -> TalkPlayConfig:
    """What a folder says of the codes that its tracks have.

    Raises:
        ArtifactError: If it is not a tokenizer or model folder, or damaged.
    """
    path = folder / files.TALKPLAY_CONFIG
    if not path.is_file():
        kind = files.folder_kind(folder) if folder.is_dir() else None
        what = f"is a {kind} folder" if kind else f"has no {files.TALKPLAY_CONFIG}"
        raise ArtifactError(
            f"{folder}: {what}, not a tokenizer or model folder, so its tracks have no codes; "
            f"{GIVE_CODES}"
        )
    return TalkPlayConfig.load(path)


def _check_same_codebooks(
    tokenizer: TalkPlayTokenizer, folder: Path, theirs: TalkPlayConfig
) -> None:
    """Refuse a folder whose codes mean something else than those of the tokenizer."""
    ours = tokenizer.config
    home = tokenizer.side_file("talkplay_config_file").parent
    # one hash is of the vectors alone: the same ones may be read in another way
    read_by = ("modalities", "codes", "missing")
    others = [name for name in read_by if getattr(theirs, name) != getattr(ours, name)]
    what = ""
    if theirs.codebook_hash != ours.codebook_hash:
        what = (
            f"{folder} has the codebooks {theirs.codebook_hash[:12]}…, {home} has "
            f"{ours.codebook_hash[:12]}…"
        )
    elif others:
        left, right = getattr(theirs, others[0]), getattr(ours, others[0])
        what = f"{others[0]} is {left} in {folder}, {right} in {home}"
    if what:
        raise ArtifactError(
            f"the catalogue of {folder} does not go with {home}: {what}; its tracks have "
            f"other codes, so {GIVE_CODES}"
        )
    path = folder / files.CODEBOOKS
    found = files.sha256_file(path) if path.is_file() else ours.codebook_hash
    if found != ours.codebook_hash:
        raise ArtifactError(
            f"{path} ({found[:12]}…) is not the file that {files.TALKPLAY_CONFIG} beside it and "
            f"{home} name ({ours.codebook_hash[:12]}…); get the folder again"
        )
