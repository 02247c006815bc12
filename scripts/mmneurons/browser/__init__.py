"""The neuron browser: from the artifacts of a run to pages that open from disk."""
