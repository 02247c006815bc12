"""Bundles: the artifacts of a run in one file, with checksums and provenance, and the way back."""
