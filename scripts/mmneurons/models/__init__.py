"""One adapter per model family behind one interface, `mmneurons.models.base.MultimodalModel`."""
