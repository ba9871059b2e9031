"""The rules in force in a chat, over one catalogue."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from talkplay_hf.catalog.matcher import BoolArray, ConstraintMatcher
from talkplay_hf.errors import NoTrackError
from talkplay_hf.recommend.rules import Combined, Not, OneRule, Rule, Rules, Where, as_rule


class RuleSet:
    """The rules in force, all of which must hold, over one catalogue.

    Args:
        tracks (`ConstraintMatcher`): The catalogue. One matcher serves many sets, so that a column
            is read once.
        rules (`Rule`, `Constraint`, `str`, `Callable`, or a sequence of them): See `as_rule`.

    Raises:
        InputError: If a rule cannot be read, or cannot be applied to this catalogue.
        NoTrackError: If rules that do not depend on the chat leave no track.
    """

    def __init__(self, tracks: ConstraintMatcher, rules: Rules = ()) -> None:
        given: Sequence[OneRule]
        given = rules if isinstance(rules, Sequence) and not isinstance(rules, str) else [rules]
        parts = [part for rule in given for part in _parts(as_rule(rule))]
        self._tracks = tracks
        self._fixed = [rule for rule in parts if not rule.by_chat]
        self._mask = self._narrow(np.ones(len(tracks.catalog), dtype=bool), self._fixed, [], ())
        self._mask.flags.writeable = False
        self._by_chat = [_fix(rule, tracks) for rule in parts if rule.by_chat]
        for rule in self._by_chat:
            rule.mask(tracks, ())  # an unknown column is told now, not in the middle of a chat

    def mask(self, played: Sequence[int] = ()) -> BoolArray | None:
        """Which tracks the rules allow.

        Args:
            played (`Sequence[int]`): The catalogue rows that the chat has played, oldest first.

        Returns:
            `np.ndarray` of shape `[n]`, bool, not to be written to; `None` where nothing is ruled
            out.

        Raises:
            NoTrackError: If no track is left; names the first rule after which none is.
        """
        mask = self._narrow(self._mask, self._by_chat, self._fixed, played)
        return None if mask.all() else mask

    def __str__(self) -> str:
        return " and ".join(map(str, [*self._fixed, *self._by_chat]))

    def _narrow(
        self, mask: BoolArray, rules: list[Rule], before: list[Rule], played: Sequence[int]
    ) -> BoolArray:
        for number, rule in enumerate(rules):
            narrowed = mask & rule.mask(self._tracks, played)
            if not narrowed.any():
                earlier = " and ".join(map(str, before + rules[:number]))
                raise NoTrackError(
                    f"rule {str(rule)!r:.200} leaves none of {np.count_nonzero(mask):,} tracks"
                    + (f" that are left by {earlier}" if earlier else "")
                    + (f", after {len(played):,} were played" if rule.by_chat else "")
                )
            mask = narrowed
        return mask


def _parts(rule: Rule) -> list[Rule]:
    """The rules that must all hold for one to hold."""
    if isinstance(rule, Combined) and rule.word == "and":
        return [part for one in rule.rules for part in _parts(one)]
    return [rule]


def _fix(rule: Rule, tracks: ConstraintMatcher) -> Rule:
    """The same rule, with the mask of each part that does not depend on the chat worked out."""
    if not rule.by_chat:
        mask = rule.mask(tracks, ())
        return Where(lambda _: mask, str(rule))
    if isinstance(rule, Combined):
        return replace(rule, rules=tuple(_fix(one, tracks) for one in rule.rules))
    return Not(_fix(rule.rule, tracks)) if isinstance(rule, Not) else rule
