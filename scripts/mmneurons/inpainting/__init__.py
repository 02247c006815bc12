"""Painting an object out of a picture: masks from boxes, and the backends that fill them."""
