"""Reading and replacing activations at FFN sites, with context managers that always let go."""
