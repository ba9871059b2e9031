"""Cards: the README of a repo, filled from what is known about it."""

from talkplay_hf.hub.cards.conversations import update_card
from talkplay_hf.hub.cards.folder import card, write_card
from talkplay_hf.hub.cards.licenses import base_rules, name_problem

__all__ = ["base_rules", "card", "name_problem", "update_card", "write_card"]
