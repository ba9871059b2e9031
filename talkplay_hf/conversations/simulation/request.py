"""A user message of a simulated conversation in the making."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.conversations.simulation.attributes import Attribute


@dataclass
class Request:
    """A user message in the making, with what the reply should pick up.

    Args:
        parts (`list[str]`): Its sentences.
        acts (`list[str]`): What it does, by the names of the intent taxonomy.
        topics (`list[str]`): What it is about, likewise.
        standing (`list[Attribute]`): The conditions that hold after it.
        said (`list[Attribute]`): The conditions that it names.
        picked_up (`list[str]`): What the reply says first: a greeting back, an answer.
        wish (`str`, *optional*): What the reply may say last.
        corrected (`str`, *optional*): What it puts in place of a slip, as it says it.
    """

    parts: list[str] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    standing: list[Attribute] = field(default_factory=list)
    said: list[Attribute] = field(default_factory=list)
    picked_up: list[str] = field(default_factory=list)
    wish: str | None = None
    corrected: str | None = None

    def ask(
        self, act: str, text: str, said: Sequence[Attribute], kept: Sequence[Attribute]
    ) -> None:
        """Add the request itself: what it says now, and which conditions still hold besides."""
        self.acts.append(act)
        self.parts.append(text)
        self.said += said
        # a theme that only the lyrics tell demands nothing, so it cannot hold on
        self.standing = [*kept, *(a for a in said if a.constraints and a not in kept)]
        self.topics += [attribute.kind for attribute in said]

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Everything that the next track has to meet."""
        return tuple(dict.fromkeys(c for a in self.standing for c in a.constraints))

    @property
    def intents(self) -> tuple[str, ...]:
        """Acts, then topics, each once."""
        return tuple(dict.fromkeys([*self.acts, *self.topics]))
