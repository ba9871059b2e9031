"""What a run needs beside the training itself: where it starts, what it keeps, where it reports."""
