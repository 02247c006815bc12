"""Checkpoints as published: fetched, checked key by key, and written as the adapters load them."""
