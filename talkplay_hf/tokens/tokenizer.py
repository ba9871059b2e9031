"""`TalkPlayTokenizer`: a text tokenizer grown by music tokens, with its codebooks and catalogue."""

import json
import operator
import os
import re
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tokenizers import AddedToken
from tokenizers.processors import ByteLevel
from transformers import PreTrainedTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ArtifactError, ConfigError, InputError
from talkplay_hf.hub import files, needed
from talkplay_hf.hub.cards import write_card
from talkplay_hf.hub.older import write_for_older
from talkplay_hf.hub.pull import fetch
from talkplay_hf.hub.push import Pushed, push_saved
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.tokens.config import END_OF_MUSIC, START_OF_MUSIC, TalkPlayConfig

SIDE_FILES = {
    "talkplay_config_file": files.TALKPLAY_CONFIG,
    "codebooks_file": files.CODEBOOKS,
    "token_catalog_file": files.TOKEN_CATALOG,
    "catalog_index_file": files.CATALOG_INDEX,
    "codebook_labels_file": files.CODEBOOK_LABELS,
    "codebook_health_file": files.CODEBOOK_HEALTH,
    "examples_file": files.EXAMPLES,
}
# what is made anew with every catalogue
OF_A_CATALOG = (
    "catalog_index_file",
    "codebook_labels_file",
    "codebook_health_file",
    "examples_file",
)
# what transformers notes in the config and is of no use elsewhere
HOW_IT_WAS_LOADED = ("is_local", "local_files_only")
# header_open, header_close, end_of_turn, after_turn
HEADER_STYLES = {
    "llama3": ("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", ""),
    "chatml": ("<|im_start|>", "\n", "<|im_end|>", "\n"),
}


class _FastAsPython(PreTrainedTokenizer):  # type: ignore[misc]
    """Lets a tokenizer of the tokenizers backend also be a `PreTrainedTokenizer`.

    The two backends are siblings; the Python one must not set up its own state.
    """

    def __init__(self, **kwargs: Any) -> None:
        PreTrainedTokenizerBase.__init__(self, **kwargs)

    get_special_tokens_mask = PreTrainedTokenizerBase.get_special_tokens_mask


class TalkPlayTokenizer(PreTrainedTokenizerFast, _FastAsPython):  # type: ignore[misc]
    """The tokenizer of a TalkPlay model (paper 4.1, Token Mapping).

    A base tokenizer grown by `<start_of_music>`, `<end_of_music>` and one token per code. Loads
    with `from_pretrained` from a folder or the Hub together with `talkplay_config.json`, the
    codebooks and the token catalog; the same folder loads with `AutoTokenizer` without this
    package, ids equal, as a plain tokenizer.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        **PreTrainedTokenizerFast.vocab_files_names,
        **SIDE_FILES,
    }

    @classmethod
    def grow(
        cls, base: PreTrainedTokenizerBase, music_tokens: Sequence[str]
    ) -> "TalkPlayTokenizer":
        """Grow a base tokenizer by music tokens and give it the chat template.

        Args:
            base (`PreTrainedTokenizerBase`): A fast tokenizer with Llama 3 or ChatML headers.
            music_tokens (`Sequence[str]`): The new tokens in id order.

        Raises:
            ConfigError: If the base is not fast, already has one of the tokens, or has none of the
                supported headers.
        """
        backend = getattr(base, "backend_tokenizer", None)
        if backend is None:
            raise ConfigError("the base tokenizer has no fast (tokenizers) backend")
        known = base.get_vocab()
        already = [token for token in music_tokens if token in known]
        if already:
            raise ConfigError(
                f"the base tokenizer already has {already[0]!r} and {len(already) - 1} more music "
                "tokens; start from a base model that was not grown"
            )
        style = next((s for s, parts in HEADER_STYLES.items() if parts[0] in known), None)
        if style is None:
            raise ConfigError(
                "the base tokenizer has neither Llama 3 headers (<|start_header_id|>) nor ChatML "
                "headers (<|im_start|>); use an instruct model that has"
            )
        end_of_turn = HEADER_STYLES[style][2]
        tokenizer = cls(
            tokenizer_object=backend,
            bos_token=base.bos_token,
            eos_token=end_of_turn,
            pad_token=base.pad_token or end_of_turn,
            unk_token=base.unk_token,
            extra_special_tokens=[
                token for token in base.all_special_tokens if token != end_of_turn
            ],
            model_max_length=base.model_max_length,
            padding_side="left",
        )
        # the template writes the special tokens itself
        tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
        tokenizer.add_tokens(
            [AddedToken(token, special=True, normalized=False) for token in music_tokens],
            special_tokens=True,
        )
        tokenizer.chat_template = _chat_template(style, base.bos_token)
        return tokenizer

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> "TalkPlayTokenizer":
        """Load a tokenizer or model folder, or a Hub repository.

        The files of a folder are compared with the SHA-256 in its manifest, where it has one. Of a
        repository only the tokenizer's files are fetched, all of one commit.

        Args:
            pretrained_model_name_or_path (`str` or `PathLike`): A folder, or a Hub id.
            args: As for any tokenizer.
            kwargs: `revision`, `token`, `cache_dir` and `local_files_only` for the Hub;
                `verify=False` leaves out the comparison; others as for any tokenizer.

        Raises:
            ArtifactError: If there is no such folder, it is none of a tokenizer, or a file is not
                the one that the manifest names.
            HubError: If the Hub does not give it.
        """
        name = str(pretrained_model_name_or_path)
        folder = Path(name)
        verified = kwargs.pop("verify", True)
        if folder.is_dir():
            if verified:
                verify_folder(folder, [one for one in needed.TOKENIZER if (folder / one).exists()])
        elif folder.is_absolute():
            raise ArtifactError(f"{name}: no such folder")
        else:
            where = ("revision", "token", "cache_dir", "local_files_only")
            hub = {key: kwargs.pop(key) for key in where if key in kwargs}
            allow = needed.TOKENIZER
            folder = fetch(name, repo_type="model", allow=allow, verify=verified, **hub)
        if not (folder / kwargs.get("subfolder", "") / "tokenizer.json").is_file():
            raise ArtifactError(f"{name}: has no tokenizer.json, so it is no tokenizer or model")
        loaded: TalkPlayTokenizer = super().from_pretrained(folder, *args, **kwargs)
        return loaded

    def attach(self, folder: str | Path) -> None:
        """Point at the side files (`talkplay_config.json`, codebooks, ...) in a folder."""
        for key, name in SIDE_FILES.items():
            self.init_kwargs[key] = str(Path(folder) / name)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> tuple[str, ...]:
        """Save the tokenizer and its side files; `AutoTokenizer` can load it without us.

        A folder that holds nothing else becomes a tokenizer folder with a card and a manifest; in
        one that has a manifest already, the manifest is kept right.

        Args:
            save_directory (`str` or `Path`): The folder.
            kwargs: As for any tokenizer, but for `push_to_hub`, which is a method of its own here.

        Raises:
            InputError: If `push_to_hub` is given.
        """
        if kwargs.pop("push_to_hub", False):
            raise InputError("push_to_hub: call tokenizer.push_to_hub(repo_id) instead")
        folder = Path(save_directory)
        before = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        saved: tuple[str, ...] = super().save_pretrained(save_directory, **kwargs)
        path = folder / "tokenizer_config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        values["tokenizer_class"] = "PreTrainedTokenizerFast"
        left_out = {*SIDE_FILES, *HOW_IT_WAS_LOADED}
        files.write_json(path, {k: v for k, v in values.items() if k not in left_out})
        # also for a model that was saved to the same folder just before
        renamed = write_for_older(folder)
        names = {Path(name).name for name in saved} | set(SIDE_FILES.values()) | renamed
        if files.MANIFEST in before:
            files.refresh_manifest(folder, names)
        elif before <= names | {files.CARD} and (folder / files.TALKPLAY_CONFIG).exists():
            write_card(folder)
            files.refresh_manifest(folder)
        return saved

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
        """Put the tokenizer with its codebooks and catalogue into a Hub repository, in one commit.

        Args:
            repo_id (`str`): The repository, made where there is none.
            private (`bool`, *optional*): Whether a new repository is private.
            token (`str` or `bool`, *optional*): For the Hub; the one of `hf auth login` when left
                out.
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
        """

        def save(folder: Path) -> None:
            self.save_pretrained(folder)
            write_card(folder, repo_id=repo_id, license=license)

        return push_saved(
            save,
            repo_id,
            kind="tokenizer",
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            message=commit_message,
            overwrite_card=overwrite_card,
        )

    def _save_pretrained(
        self, save_directory: str, file_names: tuple[str, ...], **kwargs: Any
    ) -> tuple[str, ...]:
        names: tuple[str, ...] = super()._save_pretrained(save_directory, file_names, **kwargs)
        for key, name in SIDE_FILES.items():
            source, target = self.init_kwargs.get(key), Path(save_directory) / name
            if key == "talkplay_config_file" and "config" in self.__dict__:
                # after another catalogue was put under it
                files.write_json(target, self.config.to_dict())
            elif not (source and Path(source).exists()):
                if key in OF_A_CATALOG:
                    # one that lies there is of another catalogue
                    target.unlink(missing_ok=True)
                continue
            elif Path(source).resolve() != target.resolve():
                shutil.copyfile(source, target)
            names += (str(target),)
        return names

    def __getstate__(self) -> dict[str, Any]:
        # the config is kept: under another catalogue it is not what the file says
        lazy = {"start_of_music_id", "end_of_music_id", "code_offsets"}
        lazy |= {"_control", "_control_starts"}
        return {key: value for key, value in self.__dict__.items() if key not in lazy}

    def side_file(self, key: str) -> Path:
        """The path of a side file.

        Raises:
            ArtifactError: If this tokenizer was loaded without it.
        """
        path = self.init_kwargs.get(key)
        if not path or not Path(path).exists():
            raise ArtifactError(f"the tokenizer folder has no {SIDE_FILES[key]}")
        return Path(path)

    @cached_property
    def config(self) -> TalkPlayConfig:
        """The `talkplay_config.json` of this tokenizer."""
        return TalkPlayConfig.load(self.side_file("talkplay_config_file"))

    @cached_property
    def start_of_music_id(self) -> int:
        """Id of `<start_of_music>`."""
        return int(self.convert_tokens_to_ids(START_OF_MUSIC))

    @cached_property
    def end_of_music_id(self) -> int:
        """Id of `<end_of_music>`."""
        return int(self.convert_tokens_to_ids(END_OF_MUSIC))

    @cached_property
    def code_offsets(self) -> np.ndarray:
        """Id of code 0 of each modality, with one end mark; int64 `[modalities + 1]`.

        Raises:
            ArtifactError: If the vocabulary and `talkplay_config.json` do not agree.
        """
        tokens = self.config.music_tokens
        first, second, last = self.convert_tokens_to_ids([*tokens[:2], tokens[-1]])
        if first is None or (second, last) != (first + 1, first + len(tokens) - 1):
            raise ArtifactError("the tokenizer's vocabulary and talkplay_config.json disagree")
        ends = np.cumsum(self.config.codes, dtype=np.int64)
        return np.asarray(first + 2 + np.append(0, ends))

    def block_ids(self, codes: Sequence[int]) -> list[int]:
        """The ids of a music block: start, one token a modality, end.

        Raises:
            InputError: If a code is out of range.
        """
        try:
            whole = [operator.index(code) for code in codes]
        except TypeError:
            raise InputError(f"codes {codes!r:.60}: must be whole numbers") from None
        if len(whole) != len(self.config.codes) or any(
            not 0 <= code < size for code, size in zip(whole, self.config.codes, strict=False)
        ):
            raise InputError(f"codes {whole!r:.200} do not fit the codebooks {self.config.codes}")
        inside = (self.code_offsets[:-1] + np.asarray(whole)).tolist()
        return [self.start_of_music_id, *inside, self.end_of_music_id]

    def parse_blocks(self, ids: Sequence[int]) -> list[tuple[int, ...] | None]:
        """The code tuples of the music blocks in generated ids.

        Read from ids, never from decoded text. A block that is not well-formed gives `None`.

        Args:
            ids (`Sequence[int]`): Token ids.
        """
        offsets = self.code_offsets
        depth = len(self.config.codes)
        blocks: list[tuple[int, ...] | None] = []
        for at, token in enumerate(ids):
            if token != self.start_of_music_id:
                continue
            inside = np.asarray(ids[at + 1 : at + 1 + depth])
            whole = (
                len(inside) == depth
                and at + 1 + depth < len(ids)
                and ids[at + 1 + depth] == self.end_of_music_id
                and bool(((inside >= offsets[:-1]) & (inside < offsets[1:])).all())
            )
            blocks.append(tuple((inside - offsets[:-1]).tolist()) if whole else None)
        return blocks

    def text_of(self, ids: Sequence[int]) -> str:
        """The reply text in generated ids, without music blocks and control tokens."""
        return str(self.decode(list(ids), skip_special_tokens=True)).strip()

    @cached_property
    def _control_starts(self) -> frozenset[str]:
        return frozenset(token[0] for token in self.added_tokens_encoder)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        tokens = sorted(self.added_tokens_encoder, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, tokens)))

    def has_control_tokens(self, text: str) -> bool:
        """Whether a text spells a control or music token."""
        # the pattern of thousands of tokens takes a third of a second to make
        if self._control_starts.isdisjoint(text):
            return False
        return self._control.search(text) is not None

    def defuse(self, text: str) -> str:
        """Break every control or music token that a text spells by a space after its first sign."""
        if not self.has_control_tokens(text):
            return text
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def chat_ids(self, messages: Sequence[Message], codes: Sequence[Sequence[int]]) -> list[int]:
        """Encode a conversation up to where the model answers.

        Text can never become a control or music token: what a user types in that form is encoded as
        plain text.

        Args:
            messages (`Sequence[Message]`): The conversation so far.
            codes (`Sequence[Sequence[int]]`): Codes of the music messages, in order.
        """
        rows = template_rows(messages, codes)
        unsafe = any(self.has_control_tokens(message.content) for message in messages)
        ids: list[int] = self.apply_chat_template(
            rows,
            add_generation_prompt=True,
            return_dict=False,
            sanitize_control_tokens=unsafe,
        )
        return ids


def template_rows(
    messages: Sequence[Message], codes: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """Messages as the chat template takes them: music as integer codes, never as text."""
    left = iter(codes)
    return [
        {"role": "music", "codes": [int(code) for code in next(left)]}
        if message.role == "music"
        else {"role": message.role, "content": message.content}
        for message in messages
    ]


def continuation_frame(tokenizer: TalkPlayTokenizer) -> tuple[np.ndarray, np.ndarray]:
    """What the chat template writes around music blocks: the system prompt (paper A.3), the end.

    Args:
        tokenizer (`TalkPlayTokenizer`): The tokenizer.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: The ids before the first block and those after the last,
        int32; the first of the latter is the end of turn.
    """
    one = template_rows([Message("music")], [[0] * len(tokenizer.config.codes)])
    ids = np.array(tokenizer.apply_chat_template(one, return_dict=False), dtype=np.int32)
    start = int(np.flatnonzero(ids == tokenizer.start_of_music_id)[0])
    end = int(np.flatnonzero(ids == tokenizer.end_of_music_id)[0])
    return ids[:start], ids[end + 1 :]


def _chat_template(style: str, begin: str | None) -> str:
    names = ("header_open", "header_close", "end_of_turn", "after_turn")
    values = dict(zip(names, HEADER_STYLES[style], strict=True)) | {"begin": begin or ""}
    head = "".join(f"{{%- set {name} = {json.dumps(value)} %}}\n" for name, value in values.items())
    return head + (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
