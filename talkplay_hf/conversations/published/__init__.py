"""Conversations that others published, matched with a catalog."""
