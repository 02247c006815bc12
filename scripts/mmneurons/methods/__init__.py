"""One module per method: pure functions from recorded tensors to scores and to neurons."""
