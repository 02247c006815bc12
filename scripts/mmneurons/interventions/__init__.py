"""Causal tests: context managers that change a model while they are open and restore it exactly."""
