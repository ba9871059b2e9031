"""`Recommender`: a model, its tokenizer and its catalogue as one thing that answers a chat."""

import copy
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.names import NameFinder, Names
from talkplay_hf.catalog.schema import Catalog, Message, Track
from talkplay_hf.errors import InputError, NoTrackError
from talkplay_hf.hub import files
from talkplay_hf.recommend.answering import Answerer, Turn
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.decoding.tree import why_unsupported
from talkplay_hf.recommend.explain import Explainable
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.recommend.loading import (
    check_belonging,
    check_options,
    load_model,
    token_catalog,
    token_lookup,
)
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.recommend.memory import ConversationMemory
from talkplay_hf.recommend.model_folder import (
    HubOptions,
    catalog_folder,
    model_folder,
    read_tokenizer,
)
from talkplay_hf.recommend.options import ChatOptions, RankingOptions
from talkplay_hf.recommend.prompts import Chat, chat_prompt, playlist_prompt, read_chat
from talkplay_hf.recommend.ranking import TrackRanker
from talkplay_hf.recommend.reader import AnswerReader
from talkplay_hf.recommend.rule_set import RuleSet
from talkplay_hf.recommend.rules import Rules
from talkplay_hf.recommend.saving import Savable
from talkplay_hf.recommend.values import check_flag, check_seed, whole_number
from talkplay_hf.tokens.swap import swap_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

# conversations whose cache is kept for the next turn
REMEMBERED = 4


class Recommender(Savable, Explainable):
    """A conversational recommender (paper 4.4).

    Args:
        model (`PreTrainedModel`): A causal language model with the grown vocabulary.
        tokenizer (`TalkPlayTokenizer`): Its tokenizer, with codebooks and token catalog.
        remember (`int`): Conversations whose cache is kept, so that a turn does not read again what
            the turns before it have read.

    Raises:
        ArtifactError: If model and tokenizer do not belong together.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: TalkPlayTokenizer, *, remember: int = REMEMBERED
    ) -> None:
        check_belonging(model, tokenizer)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._vocabulary = MusicVocabulary.of(tokenizer)
        self._catalog, self._codes, self._index = token_catalog(tokenizer, model.device)
        self._lookup = token_lookup(tokenizer, self._codes, self._index)
        self._ranker = TrackRanker(
            model,
            self._vocabulary,
            self._index,
            self._lookup,
            self._catalog,
            self._codes,
            tokenizer.config.modalities,
        )
        self._matcher = ConstraintMatcher(self._catalog)
        self._remember = remember
        memory = ConversationMemory(0 if why_unsupported(model) else remember)
        self._answerer = Answerer(model, self._vocabulary, self._index, self._ranker, memory)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        catalog: str | Path | None = None,
        device: str | None = None,
        int8: bool = False,
        remember: int = REMEMBERED,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        verify: bool = True,
        **kwargs: Any,
    ) -> "Recommender":
        """Load a model folder or Hub repository.

        Of a repository only what is needed is fetched, all of one commit. No code that comes with a
        model is ever run, and no pickles are read.

        Args:
            model (`str` or `Path`): A folder, or a Hub id.
            catalog (`str` or `Path`, *optional*): Another catalogue under the same model: a
                tokenizer or model folder, or a Hub id of one, with the same codebooks.
            device (`str`, *optional*): Where to run; a GPU where there is one.
            int8 (`bool`): On a CPU, run the linear layers on 8-bit integers: faster, and the scores
                are no longer exact; they depend a little on what is read together.
            remember (`int`): Conversations whose cache is kept.
            revision (`str`, *optional*): Branch, tag or commit of the model on the Hub.
            token (`str` or `bool`, *optional*): For the Hub; the one of `hf auth login` when left
                out.
            cache_dir (`str` or `Path`, *optional*): Where files from the Hub are kept.
            local_files_only (`bool`): Take only what was fetched before.
            verify (`bool`): Compare the files of a folder with the SHA-256 in its manifest, where
                it has one, in about 0.6 seconds a gigabyte. Files that come from the Hub are always
                compared.
            kwargs: Passed to `AutoModelForCausalLM.from_pretrained` (`dtype`,
                `attn_implementation`, `device_map`, ...).

        Raises:
            ArtifactError: If it cannot be loaded, a file is damaged, or the parts do not belong
                together.
            HubError: If the Hub does not give it.
            InputError: If the device cannot be used, `int8` is asked for on another one than a
                CPU, or code that comes with a model is to be run.
        """
        check_options(device, int8, kwargs)
        hub = HubOptions(revision, token, cache_dir, local_files_only)
        # before the weights, which take long to fetch
        other = catalog_folder(catalog, hub, verify=verify) if catalog is not None else None
        source = model_folder(model, hub, verify=verify, own_catalog=other is None)
        tokenizer = read_tokenizer(source.folder)
        if other is not None:
            swap_catalog(tokenizer, other)
        weights = load_model(source.folder, device, int8, tokenizer=tokenizer, **kwargs)
        recommender = cls(weights, tokenizer, remember=remember)
        recommender.source = source
        return recommender

    def with_catalog(
        self,
        catalog: str | Path,
        *,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        verify: bool = True,
    ) -> "Recommender":
        """The same model with another catalogue, the weights in memory once.

        Args:
            catalog (`str` or `Path`): As for `from_pretrained`, and so are the others.
            token (`str` or `bool`, *optional*): For the Hub.
            cache_dir (`str` or `Path`, *optional*): Where files from the Hub are kept.
            local_files_only (`bool`): Take only what was fetched before.
            verify (`bool`): Compare the files of a folder with its manifest.

        Raises:
            ArtifactError: If it cannot be loaded, or its tracks have codes of other codebooks.
            HubError: If the Hub does not give it.
        """
        hub = HubOptions(None, token, cache_dir, local_files_only)
        folder = catalog_folder(catalog, hub, verify=verify)
        tokenizer = copy.deepcopy(self.tokenizer)
        swap_catalog(tokenizer, folder)
        other = type(self)(self.model, tokenizer, remember=self._remember)
        other.source = self.source
        return other

    def prepare(self) -> None:
        """Read what the first answer with `names` would wait for, which is seconds for some ten
        thousand tracks."""
        self._finder  # noqa: B018

    @property
    def track_ids(self) -> list[str]:
        """Ids of all tracks that can be recommended."""
        return self._catalog.track_ids

    @property
    def catalog(self) -> Catalog:
        """The tracks that can be recommended (no playlists)."""
        return self._catalog

    @property
    def lookup(self) -> WeightedLookup:
        """From code tuples to catalog rows (paper 4.4)."""
        return self._lookup

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

    def prompt_ids(self, chat: Chat, *, history: Sequence[str] = (), room: int = 160) -> list[int]:
        """Encode a chat up to where the model answers; the oldest turns give way if too long.

        Args:
            chat (`str` or `Sequence`): As for `chat`.
            history (`Sequence[str]`): As for `chat`.
            room (`int`): Tokens that the answer needs.

        Raises:
            InputError: If the chat cannot be used, or its last message alone does not fit.
        """
        return self._prompt(read_chat(chat, self._catalog, history), room)

    def chat(
        self,
        chat: Chat,
        *,
        history: Sequence[str] = (),
        seed: int | None = None,
        **options: Any,
    ) -> Recommendation:
        """Answer a chat.

        Args:
            chat (`str` or `Sequence`): One request, or messages (`Message` or dicts with `role`,
                `content`, `track_id`) that end with the user's.
            history (`Sequence[str]`): Ids of tracks that were listened to before the chat.
            seed (`int`, *optional*): Makes the answer repeatable.
            options: See `ChatOptions`: `tracks`, `constraint`, `strategy`, `exclude_played`,
                `rules`, `temperature`, `top_p`, `max_new_tokens`, `names`.

        Raises:
            InputError: If the chat or an option cannot be used.
            NoTrackError: If no track is left to play.
        """
        *_, answer = self.stream(chat, history=history, seed=seed, **options)
        return answer

    def stream(
        self,
        chat: Chat,
        *,
        history: Sequence[str] = (),
        seed: int | None = None,
        **options: Any,
    ) -> Iterator[Recommendation]:
        """Answer a chat while it is written: first the tracks, then a growing reply.

        Takes what `chat` takes.

        Yields:
            `Recommendation`: The answer so far, whenever a track or some of the reply was added;
            the last one is what `chat` gives.
        """
        asked = ChatOptions(**options)
        messages = read_chat(chat, self._catalog, history)
        return self._answerer.stream(self._turn(messages, asked, seed), asked)

    def chat_batch(
        self,
        chats: Sequence[Chat],
        *,
        seeds: Sequence[int | None] | None = None,
        **options: Any,
    ) -> list[Recommendation]:
        """Answer several chats at once; each gets the answer that it gets alone.

        Args:
            chats (`Sequence[Chat]`): The chats, each as for `chat`.
            seeds (`Sequence[int | None]`, *optional*): A seed for each.
            options: See `ChatOptions`.

        Raises:
            InputError: If a chat or an option cannot be used.
            NoTrackError: If no track is left to play in a chat.
        """
        asked = ChatOptions(**options)
        drawn = _one_each(seeds, chats)
        messages = [read_chat(chat, self._catalog) for chat in chats]
        turns = [self._turn(one, asked, seed) for one, seed in zip(messages, drawn, strict=True)]
        return self._answerer.answer_all(turns, asked) if turns else []

    def rank(
        self,
        chat: Chat,
        k: int = 10,
        *,
        history: Sequence[str] = (),
        exclude_played: bool = True,
        rules: Rules = (),
        seed: int | None = None,
        **options: Any,
    ) -> list[ScoredTrack]:
        """The best tracks for a chat.

        Args:
            chat (`str` or `Sequence`): As for `chat`.
            k (`int`): Tracks at least, where there are as many: a group of ties is completed.
            history (`Sequence[str]`): Ids of tracks that were listened to before the chat.
            exclude_played (`bool`): Leave out tracks that the chat has played.
            rules (`Rule`, `Constraint`, `str`, `Callable`, or a sequence of them): What every track
                has to meet.
            seed (`int`, *optional*): Makes draws repeatable.
            options: See `RankingOptions`: `strategy` (`"beam"`, `"exact"`, `"sampling"`,
                `"expansion"`), `constraint`, `beam_width`, `draws`, `temperature`, `names`, ...

        Returns:
            `list[ScoredTrack]`: In falling order of score; scores that differ by no more than the
            rounding of floats are ordered by track id.

        Raises:
            InputError: If the chat or an option cannot be used.
            NoTrackError: If no track is left.
        """
        messages = read_chat(chat, self._catalog, history)
        return self._rank([messages], k, exclude_played, rules, [seed], options)[0]

    def rank_batch(
        self,
        chats: Sequence[Chat],
        k: int = 10,
        *,
        exclude_played: bool = True,
        rules: Rules = (),
        seeds: Sequence[int | None] | None = None,
        **options: Any,
    ) -> list[list[ScoredTrack]]:
        """The best tracks for several chats; all turns of a dialogue are read in one pass.

        Args:
            chats (`Sequence[Chat]`): The chats. Those that begin alike are read once.
            k (`int`): As for `rank`, and so are `exclude_played`, `rules` and `options`.
            exclude_played (`bool`): Leave out tracks that the chat has played.
            rules (`Rule`, `Constraint`, `str`, `Callable`, or a sequence of them): What every track
                has to meet.
            seeds (`Sequence[int | None]`, *optional*): A seed for each.
            options: See `RankingOptions`.

        Raises:
            InputError: If a chat or an option cannot be used.
            NoTrackError: If no track is left in a chat.
        """
        drawn = _one_each(seeds, chats)
        messages = [read_chat(chat, self._catalog) for chat in chats]
        return self._rank(messages, k, exclude_played, rules, drawn, options)

    def continue_playlist(
        self,
        track_ids: Sequence[str],
        k: int = 10,
        *,
        exclude_played: bool = True,
        rules: Rules = (),
        seed: int | None = None,
        **options: Any,
    ) -> list[ScoredTrack]:
        """The best tracks to go on with after others, without a chat (paper 4.3).

        Args:
            track_ids (`Sequence[str]`): The tracks so far.
            k (`int`): As for `rank`, and so are the others.
            exclude_played (`bool`): Leave out the tracks so far.
            rules (`Rule`, `Constraint`, `str`, `Callable`, or a sequence of them): What every track
                has to meet.
            seed (`int`, *optional*): Makes draws repeatable.
            options: See `RankingOptions`.

        Raises:
            InputError: If there is no track, or the catalogue does not have one of them.
            NoTrackError: If no track is left.
        """
        k = whole_number("k", k, 1)
        check_seed(seed)
        how = RankingOptions(**options)
        limit = self._limit(self._vocabulary.depth + 2)
        prompt = playlist_prompt(track_ids, self._catalog, self.tokenizer, self.codes, limit)
        rows = [self._catalog.row(track_id) for track_id in track_ids]
        check_flag("exclude_played", exclude_played)
        mask = self._mask(RuleSet(self._matcher, rules), rows, rows if exclude_played else ())
        return self._ranker.rank([prompt], k, how, [mask], [seed])[0]

    def _rank(
        self,
        chats: Sequence[Sequence[Message]],
        k: int,
        exclude_played: bool,
        rules: Rules,
        seeds: Sequence[int | None],
        options: dict[str, Any],
    ) -> list[list[ScoredTrack]]:
        k = whole_number("k", k, 1)
        check_flag("exclude_played", exclude_played)
        how = RankingOptions(**options)
        for seed in seeds:
            check_seed(seed)
        if not chats:
            return []
        force = RuleSet(self._matcher, rules)
        played = [self._played(one) for one in chats]
        masks = [self._mask(force, rows, rows if exclude_played else ()) for rows in played]
        prompts = [self._prompt(one, self._vocabulary.depth + 2) for one in chats]
        named = None
        if how.names:
            found = [self._finder.find(one[-1].content) for one in chats]
            named = [one.within(mask) for one, mask in zip(found, masks, strict=True)]
        return self._ranker.rank(prompts, k, how, masks, seeds, named)

    def _turn(self, messages: list[Message], options: ChatOptions, seed: int | None) -> Turn:
        check_seed(seed)
        force = RuleSet(self._matcher, options.rules)
        before = self._played(messages)
        rng = np.random.default_rng(seed)

        names = self._named(messages, options.names)

        def allowed(played: Sequence[int]) -> np.ndarray:
            rows = [*before, *played]
            return self._mask(force, rows, rows if options.exclude_played else played)

        def masks(played: Sequence[int]) -> np.ndarray:
            mask = allowed(played)
            named = names.within(mask)
            return mask if named is None else named

        tracks = min(options.tracks, int(allowed(()).sum()))
        blocks = tracks * (self._vocabulary.depth + 2)
        sampled = options.strategy == "sample"
        return Turn(
            ids=self._prompt(messages, options.max_new_tokens + blocks),
            tracks=tracks,
            reader=AnswerReader(
                self.tokenizer, self._lookup, self._catalog, rng if sampled else None
            ),
            masks=masks,
            mask=masks(()),
            rng=rng,
        )

    @cached_property
    def _finder(self) -> NameFinder:
        return NameFinder(self._catalog)

    def _named(self, messages: Sequence[Message], wanted: bool) -> Names:
        return self._finder.find(messages[-1].content) if wanted else Names()

    def _prompt(self, messages: Sequence[Message], room: int) -> list[int]:
        return chat_prompt(messages, self.tokenizer, self.codes, self._limit(room))

    def _limit(self, room: int) -> int:
        # models without position embeddings (ALiBi) have no such limit
        limit = getattr(self.model.config, "max_position_embeddings", sys.maxsize)
        return int(limit) - room

    def _played(self, messages: Sequence[Message]) -> list[int]:
        return [self._catalog.row(m.track_id or "") for m in messages if m.role == "music"]

    def _mask(self, force: RuleSet, played: Sequence[int], without: Sequence[int]) -> np.ndarray:
        """The tracks allowed by the rules, without some."""
        found = force.mask(played)
        mask = np.ones(len(self._catalog), dtype=bool) if found is None else found.copy()
        mask[list(without)] = False
        if not mask.any():
            rules = f" that the rules allow ({force})" if found is not None else ""
            raise NoTrackError(f"every track of the catalogue{rules} was played already")
        return mask


def _one_each(seeds: Sequence[int | None] | None, chats: Sequence[Chat]) -> Sequence[int | None]:
    if isinstance(chats, str) or not isinstance(chats, Sequence):
        raise InputError(f"chats {chats!r:.60}: must be several chats, not one text")
    if seeds is None:
        return [None] * len(chats)
    if len(seeds) != len(chats):
        raise InputError(f"{len(seeds)} seeds for {len(chats)} chats: there must be one for each")
    return seeds
