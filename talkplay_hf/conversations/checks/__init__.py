"""What an answer of a language model must keep to, and reading it."""
