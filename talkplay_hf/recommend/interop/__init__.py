"""What other inference engines need of us: the answer as a grammar, and the way back to tracks."""
