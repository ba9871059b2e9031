"""Writing a model folder: weights, tokenizer, catalogue, card and manifest, as one thing."""

import contextlib
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from talkplay_hf.errors import InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.push import Pushed, push_saved
from talkplay_hf.hub.weights import write_weight_index
from talkplay_hf.recommend.model_folder import PAPERS, Source
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


class Savable:
    """A model and its tokenizer that can be written to a folder or to the Hub.

    Args:
        model (`PreTrainedModel`): The model.
        tokenizer (`TalkPlayTokenizer`): Its tokenizer.
        source (`Source`, *optional*): Where they were read from.
    """

    model: PreTrainedModel
    tokenizer: TalkPlayTokenizer
    source: Source | None = None

    def save_pretrained(self, out: str | Path, *, license: str | None = None) -> None:
        """Write a model folder: what `from_pretrained` reads, and `AutoModelForCausalLM` and
        `AutoTokenizer` without this package.

        Args:
            out (`str` or `Path`): The folder. An earlier model folder in its place is replaced
                whole at the end; it may be the one that this was loaded from.
            license (`str`, *optional*): The licence that the card names.

        Raises:
            ArtifactError: If `out` is something else than a model folder.
            InputError: If this was loaded with `int8=True`.
        """
        save_model_folder(self.model, self.tokenizer, out, source=self.source, license=license)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        license: str | None = None,
        overwrite_card: bool = False,
    ) -> Pushed:
        """Put a model folder into a Hub repository, in one commit.

        Args:
            repo_id (`str`): The repository, made where there is none.
            private (`bool`, *optional*): Whether a new repository is private.
            token (`str` or `bool`, *optional*): As for `from_pretrained`.
            revision (`str`, *optional*): The branch to write to.
            create_pr (`bool`): Open a pull request instead.
            commit_message (`str`, *optional*): What the history says.
            license (`str`, *optional*): The licence that the card names.
            overwrite_card (`bool`): Replace a `README.md` that a person has edited; it is kept
                when left out.

        Returns:
            `Pushed`: The commit, and the pull request if one was opened.

        Raises:
            HubError: If the Hub refuses, or somebody else has pushed in between.
            InputError: If this was loaded with `int8=True`.
        """

        def save(folder: Path) -> None:
            save_model_folder(
                self.model,
                self.tokenizer,
                folder,
                source=self.source,
                repo_id=repo_id,
                license=license,
            )

        return push_saved(
            save,
            repo_id,
            kind="model",
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            message=commit_message,
            overwrite_card=overwrite_card,
        )


def save_model_folder(
    model: PreTrainedModel,
    tokenizer: TalkPlayTokenizer,
    out: str | Path,
    *,
    source: Source | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> None:
    """Write a model folder; an earlier one in its place is replaced whole, at the very end.

    Args:
        model (`PreTrainedModel`): The model.
        tokenizer (`TalkPlayTokenizer`): Its tokenizer; its side files are copied.
        out (`str` or `Path`): The folder; one of ours that is there is replaced, and may be the one
            that model and tokenizer were read from.
        source (`Source`, *optional*): Where they were read from: the training report and the
            pictures there are kept, and what the card says of results.
        repo_id (`str`, *optional*): Where it goes on the Hub, for the card.
        license (`str`, *optional*): The licence that the card names.

    Raises:
        ArtifactError: If `out` is something else than a model folder.
        InputError: If the model is in 8-bit integers.
    """
    check_savable(model)
    out = Path(out)
    if getattr(model.config, "talkplay_codebook_hash", None) is None:
        model.config.talkplay_codebook_hash = tokenizer.config.codebook_hash
    with files.staged_folder(out, "model") as aside:
        model.save_pretrained(aside)
        write_weight_index(aside)
        tokenizer.save_pretrained(aside)
        if source is not None:
            source.fetch_papers()
            here = out.is_dir() and source.folder.resolve() == out.resolve()
            _keep(source.folder, aside, (*PAPERS, files.BUILD) if here else PAPERS)
            if _is_of_another_catalog(source.folder, tokenizer):
                # its results are those of the catalogue that it was written for
                _drop_our_card(aside)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if not is_ours((out / files.CARD).read_text(encoding="utf-8")):
                shutil.copyfile(out / files.CARD, aside / files.CARD)
        write_card(aside, repo_id=repo_id, license=license)
        files.refresh_manifest(aside)


def check_savable(model: PreTrainedModel) -> None:
    """Refuse a model whose linear layers were put in 8-bit integers for a CPU.

    Raises:
        InputError: If it is one.
    """
    if any("quantized.dynamic" in type(part).__module__ for part in model.modules()):
        raise InputError(
            "a model in 8-bit integers cannot be saved: load it without int8=True, and save that"
        )


def _is_of_another_catalog(source: Path, tokenizer: TalkPlayTokenizer) -> bool:
    config = files.read_json(source / files.TALKPLAY_CONFIG)
    return bool(config.get("catalog_hash") != tokenizer.config.catalog_hash)


def _drop_our_card(folder: Path) -> None:
    path = folder / files.CARD
    if path.is_file() and is_ours(path.read_text(encoding="utf-8", errors="replace")):
        path.unlink()


def _keep(source: Path, aside: Path, patterns: tuple[str, ...]) -> None:
    for path in (path for pattern in patterns for path in sorted(source.glob(pattern))):
        if path.is_file():
            shutil.copyfile(path, aside / path.name)
