"""What there is to recommend: tracks, playlists, and the conversations about them (paper 3.1)."""
