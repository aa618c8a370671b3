"""Adaptation: the adapters of a network tuned to one image, on its painted slices."""
