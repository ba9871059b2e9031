"""Artefacts on disk: file names, hashes and atomic writes."""
