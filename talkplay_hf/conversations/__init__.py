"""Music conversations made from playlists (paper 3.2, A.1, A.2)."""
