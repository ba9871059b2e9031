"""`Recommender`: a model, its tokenizer and its catalogue as one thing that answers a chat."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
)

from talkplay_hf.catalog.schema import ROLES, Catalog, Message, Track
from talkplay_hf.errors import ArtifactError, InputError, NoTrackError
from talkplay_hf.hub import files
from talkplay_hf.recommend.grammar import MusicGrammarLogitsProcessor, MusicVocabulary
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.recommend.ranking import rank_leaves
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.config import TEMPERATURE, TOP_P
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

CONSTRAINTS = ("catalog", "grammar", "none")
STRATEGIES = ("sample", "rank")
BEAM_WIDTH = 256
REPLY_TOKENS = 96

Chat = str | Sequence[Message | Mapping[str, Any]]


@dataclass(frozen=True)
class ScoredTrack:
    """A track with the log-probability of its five tokens."""

    track: Track
    score: float
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Recommendation:
    """An answer.

    Args:
        tracks (`tuple[Track, ...]`): The tracks, in the order the model played them.
        reply (`str`): The text that goes with them.
        codes (`tuple[tuple[int, ...], ...]`): The five codes that were generated, per track.
        scores (`tuple[float, ...]`): Log-probability of the five tokens after `<start_of_music>`
            over the full vocabulary, per track.
        matched (`tuple[tuple[str, ...], ...]`): Which modalities led to the track, per track; all
            five in an exact match.
        blocks (`int`): Well-formed music blocks that were generated, matched or not.
        malformed (`int`): Music blocks that were not well-formed; 0 unless `constraint="none"`.
    """

    tracks: tuple[Track, ...]
    reply: str
    codes: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...]
    matched: tuple[tuple[str, ...], ...]
    blocks: int = 0
    malformed: int = 0


class Recommender:
    """A conversational recommender (paper 4.4).

    Args:
        model (`PreTrainedModel`): A causal language model with the grown vocabulary.
        tokenizer (`TalkPlayTokenizer`): Its tokenizer, with codebooks and token catalog.

    Raises:
        ArtifactError: If model and tokenizer do not belong together.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: TalkPlayTokenizer) -> None:
        if model.config.vocab_size < len(tokenizer):
            raise ArtifactError(
                f"the model has {model.config.vocab_size} tokens, the tokenizer {len(tokenizer)}: "
                "they do not belong together"
            )
        trained_with = getattr(model.config, "talkplay_codebook_hash", None)
        if trained_with not in (None, tokenizer.config.codebook_hash):
            raise ArtifactError(
                f"the model was trained with the codebooks {trained_with[:12]}…, the tokenizer has "
                f"{tokenizer.config.codebook_hash[:12]}…: they do not belong together"
            )
        found = files.sha256_file(tokenizer.side_file("codebooks_file"))
        if found != tokenizer.config.codebook_hash:
            raise ArtifactError(
                f"{files.CODEBOOKS} ({found[:12]}…) is not the file that {files.TALKPLAY_CONFIG} "
                f"names ({tokenizer.config.codebook_hash[:12]}…)"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._vocabulary = MusicVocabulary.of(tokenizer)
        self._catalog, self._codes = read_token_catalog(tokenizer.side_file("token_catalog_file"))
        sizes = tokenizer.config.codes
        if self._codes.shape[1] != len(sizes):
            raise ArtifactError(
                f"catalog.parquet has {self._codes.shape[1]} codes a track, not {len(sizes)}"
            )
        if ((self._codes < 0) | (self._codes >= np.asarray(sizes))).any():
            raise ArtifactError("catalog.parquet has codes beyond the codebooks")
        self._index = CatalogIndex(self._codes, sizes)
        missing = [tokenizer.config.missing_code(m) for m in range(len(sizes))]
        self._lookup = WeightedLookup(self._codes, sizes, tokenizer.config.lookup_weights, missing)

    @classmethod
    def from_pretrained(
        cls, model: str | Path, *, device: str | None = None, **kwargs: Any
    ) -> "Recommender":
        """Load a model folder or Hub repository.

        Args:
            model (`str` or `Path`): A folder, or a Hub id.
            device (`str`, *optional*): Where to run; a GPU where there is one.
            kwargs: Passed to both `from_pretrained` calls (`revision`, `token`, `cache_dir`,
                `local_files_only`).

        Raises:
            ArtifactError: If it cannot be loaded or the parts do not belong together.
        """
        name = str(model)
        try:
            tokenizer = TalkPlayTokenizer.from_pretrained(name, **kwargs)
            weights = AutoModelForCausalLM.from_pretrained(name, **kwargs)
        except (OSError, ValueError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise ArtifactError(f"the model {name!r} cannot be loaded: {first}") from None
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(weights.to(device), tokenizer)

    @property
    def track_ids(self) -> list[str]:
        """Ids of all tracks that can be recommended."""
        return self._catalog.track_ids

    @property
    def catalog(self) -> Catalog:
        """The tracks that can be recommended (no playlists)."""
        return self._catalog

    def track(self, track_id: str) -> Track:
        """A track by id.

        Raises:
            InputError: If the catalogue has no such track.
        """
        return self._catalog.track(track_id)

    def codes(self, track_id: str) -> tuple[int, ...]:
        """The five codes of a track."""
        return tuple(self._codes[self._catalog.row(track_id)].tolist())

    @cached_property
    def examples(self) -> list[str]:
        """A few opening requests that fit the catalogue, if the folder brings them."""
        path = self.tokenizer.init_kwargs.get("examples_file")
        if not path or not Path(path).exists():
            return []
        return [str(text) for text in files.read_json(path)]

    def messages(self, chat: Chat) -> list[Message]:
        """Check a chat and turn it into messages.

        Args:
            chat (`str` or `Sequence`): One request, or messages (`Message` or dicts with `role`,
                `content`, `track_id`) that end with the user's.

        Raises:
            InputError: If a role is unknown, a track is not in the catalogue, or the last message
                is not the user's.
        """
        if isinstance(chat, str):
            return [Message("user", chat)]
        messages = []
        for number, item in enumerate(chat):
            if isinstance(item, Message):
                message = item
            elif isinstance(item, Mapping) and set(item) <= {"role", "content", "track_id"}:
                message = Message(
                    item.get("role") or "", item.get("content") or "", item.get("track_id")
                )
            else:
                raise InputError(f"message {number}: needs role and content or track_id")
            if message.role not in ROLES:
                raise InputError(f"message {number}: unknown role {message.role!r}")
            if not isinstance(message.content, str) or not _is_unicode(message.content):
                raise InputError(f"message {number}: the content is not text")
            if message.role == "music" and not self._knows(message.track_id):
                raise InputError(
                    f"message {number}: the catalogue has no track {message.track_id!r}"
                )
            if message.role == "system" and number:
                raise InputError(f"message {number}: a system message can only come first")
            messages.append(message)
        if not messages or messages[-1].role != "user":
            raise InputError("the last message of a chat must be the user's")
        return messages

    def _knows(self, track_id: object) -> bool:
        return isinstance(track_id, str) and track_id in self._catalog

    def prompt_ids(
        self, messages: Sequence[Message], *, room: int = REPLY_TOKENS + 64
    ) -> list[int]:
        """Encode messages up to where the model answers; the oldest turns give way if too long.

        Raises:
            InputError: If the last message alone does not fit.
        """
        limit = self.model.config.max_position_embeddings - room
        system = [message for message in messages[:1] if message.role == "system"]
        users = [at for at, message in enumerate(messages) if message.role == "user"]

        def without(turns: int) -> list[int]:
            kept = [*system, *messages[users[turns] :]] if turns else messages
            codes = [self.codes(m.track_id or "") for m in kept if m.role == "music"]
            return self.tokenizer.chat_ids(kept, codes)

        ids = without(0)
        if len(ids) > limit:
            # a halving search, so that a long history does not cost one encoding a turn
            drop = bisect_left(
                range(len(users)), True, lo=1, key=lambda turns: len(without(turns)) <= limit
            )
            ids = without(min(drop, len(users) - 1))
        if len(ids) > limit:
            raise InputError(f"the message is too long: {len(ids)} tokens, {limit} fit")
        return ids

    def _allowed(self, messages: Sequence[Message], exclude_played: bool) -> np.ndarray:
        allowed = np.ones(len(self._catalog), dtype=bool)
        if exclude_played:
            allowed[
                [self._catalog.row(m.track_id or "") for m in messages if m.role == "music"]
            ] = False
        if not allowed.any():
            raise NoTrackError("every track of the catalogue was played already")
        return allowed

    def rank(
        self,
        chat: Chat,
        k: int = 10,
        *,
        exclude_played: bool = True,
        width: int = BEAM_WIDTH,
    ) -> list[ScoredTrack]:
        """The best tracks by the log-probability of their five tokens.

        Constrained beam search over the catalogue, exact where it has at most `width` distinct
        tuples. Tracks that share a tuple have the same score and come together, in catalog order;
        the last group is given whole, so the list can be longer than `k`.

        Args:
            chat (`str` or `Sequence`): See `messages`.
            k (`int`): Tracks wanted.
            exclude_played (`bool`): Leave out tracks that the chat has played.
            width (`int`): Beam width, at least `k` is used.
        """
        messages = self.messages(chat)
        ranked = rank_leaves(
            self.model,
            self.prompt_ids(messages),
            self._vocabulary,
            self._index,
            width=max(k, width),
            allowed=(allowed := self._allowed(messages, exclude_played)),
        )
        found: list[ScoredTrack] = []
        for leaf, score in zip(ranked.leaves.tolist(), ranked.scores.tolist(), strict=True):
            if len(found) >= k:
                break
            rows = np.sort(self._index.tracks(leaf))
            found += [
                ScoredTrack(self._catalog.track_at(row), score, tuple(self._codes[row].tolist()))
                for row in rows[allowed[rows]].tolist()
            ]
        return found

    def chat(
        self,
        chat: Chat,
        *,
        tracks: int = 1,
        constraint: str = "catalog",
        strategy: str = "sample",
        exclude_played: bool = True,
        temperature: float = TEMPERATURE,
        top_p: float = TOP_P,
        max_new_tokens: int = REPLY_TOKENS,
        seed: int | None = None,
    ) -> Recommendation:
        """Answer a chat turn: generate the music tokens, then the reply; look the tracks up.

        Args:
            chat (`str` or `Sequence`): See `messages`.
            tracks (`int`): Tracks in the answer; fewer come back where the model repeats itself.
            constraint (`str`): `"catalog"` allows only tokens that lead to a track, `"grammar"`
                only well-formed blocks, `"none"` anything (as in the paper).
            strategy (`str`): `"sample"` as in the paper; `"rank"` plays the most probable track and
                replies greedily (always within the catalogue).
            exclude_played (`bool`): Leave out tracks that the chat has played.
            temperature (`float`): Sampling temperature (paper: 1.0).
            top_p (`float`): Nucleus (paper: 0.9).
            max_new_tokens (`int`): Length limit of the reply.
            seed (`int`, *optional*): Makes the answer repeatable.

        Raises:
            InputError: If the chat or an option cannot be used.
            NoTrackError: If no track is left to play.
        """
        if tracks < 1 or max_new_tokens < 0 or temperature <= 0 or not 0 < top_p <= 1:
            raise InputError(
                f"tracks {tracks}, max_new_tokens {max_new_tokens}, temperature {temperature}, "
                f"top_p {top_p}: must be at least 1, at least 0, above 0, and above 0 up to 1"
            )
        if constraint not in CONSTRAINTS:
            raise InputError(f"constraint {constraint!r}: must be one of {CONSTRAINTS}")
        if strategy not in STRATEGIES:
            raise InputError(f"strategy {strategy!r}: must be one of {STRATEGIES}")
        messages = self.messages(chat)
        allowed = self._allowed(messages, exclude_played)
        tracks = min(tracks, int(allowed.sum()))
        blocks = tracks * (self._vocabulary.depth + 2)
        prompt = self.prompt_ids(messages, room=max_new_tokens + blocks)
        opening: list[int] = []
        if strategy == "rank":
            for scored in self.rank(messages, tracks, exclude_played=exclude_played)[:tracks]:
                opening += self.tokenizer.block_ids(scored.codes)
        processors = LogitsProcessorList()
        if constraint != "none" or strategy == "rank":
            inside = constraint == "catalog"
            processors.append(
                MusicGrammarLogitsProcessor(
                    self._vocabulary,
                    self.model.config.vocab_size,
                    tracks=tracks,
                    index=self._index if inside else None,
                    allowed=allowed if inside else None,
                )
            )
        rng = np.random.default_rng(seed) if strategy == "sample" else None
        left = max_new_tokens + blocks - len(opening)
        if not left:
            return self._read(prompt, opening, allowed, rng)
        config = GenerationConfig(
            max_new_tokens=left,
            do_sample=strategy == "sample",
            temperature=temperature if strategy == "sample" else None,
            top_p=top_p if strategy == "sample" else None,
            top_k=0 if strategy == "sample" else None,
            repetition_penalty=1.0,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
        )
        ids = torch.tensor([prompt + opening], device=self.model.device)
        with torch.inference_mode(), torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            output = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=processors,
            )
        answer = output.sequences[0, len(prompt) :].tolist()
        return self._read(prompt, answer, allowed, rng)

    def _read(
        self,
        prompt: list[int],
        answer: list[int],
        allowed: np.ndarray,
        rng: np.random.Generator | None,
    ) -> Recommendation:
        """Look up the tracks of an answer; without `rng` the first of each bucket."""
        blocks = self.tokenizer.parse_blocks(answer)
        names = self.tokenizer.config.modalities
        rows: list[int] = []
        played, codes, matched = [], [], []
        for number, block in enumerate(block for block in blocks if block is not None):
            match = self._lookup.find(block, allowed)
            row = match.draw(rng)
            # a block that repeats itself in the answer must not become a near miss
            if row is None or (block in codes and not match.exact):
                continue
            played.append(number)
            rows.append(row)
            codes.append(block)
            matched.append(tuple(names[m] for m in match.modalities))
            allowed[row] = False
        scores = self._block_scores(prompt, answer) if rows else []
        return Recommendation(
            tracks=tuple(self._catalog.track_at(row) for row in rows),
            reply=self.tokenizer.text_of(answer),
            codes=tuple(codes),
            scores=tuple(scores[number] for number in played),
            matched=tuple(matched),
            blocks=sum(block is not None for block in blocks),
            malformed=sum(block is None for block in blocks),
        )

    @torch.inference_mode()
    def _block_scores(self, prompt: list[int], answer: list[int]) -> list[float]:
        """Log-probability of the codes of each well-formed block, by one forward pass."""
        depth = self._vocabulary.depth
        starts = [at for at, token in enumerate(answer) if token == self._vocabulary.start]
        ids = torch.tensor([prompt + answer[: starts[-1] + depth + 1]], device=self.model.device)
        logits = self.model(ids).logits[0].float()
        scores = []
        for at, block in zip(starts, self.tokenizer.parse_blocks(answer), strict=True):
            if block is None:
                continue
            first = len(prompt) + at
            log_probs = torch.log_softmax(logits[first : first + depth], dim=-1)
            tokens = ids[0, first + 1 : first + 1 + depth]
            scores.append(float(log_probs.gather(1, tokens[:, None]).sum()))
        return scores


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON can bring half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
