"""Readers and writers of every file format of the workflow: the only room that touches files."""
