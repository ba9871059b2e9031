"""Asking language models: endpoints, models in this process, pace and budget."""
