"""What a training leaves to read and to look at."""
