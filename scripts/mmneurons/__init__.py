"""Find, compare, test and edit the neurons that carry a concept through a multimodal model."""
