"""Training data: sources of labelled slices, window sampling and augmentation."""
