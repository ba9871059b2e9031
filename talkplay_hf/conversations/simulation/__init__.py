"""A writer without any language model: seeded, from phrase books."""
