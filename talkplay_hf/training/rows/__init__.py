"""Conversations and playlists as rows of token ids with labels (paper 4.3)."""
