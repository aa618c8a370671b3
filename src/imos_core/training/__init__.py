"""Training: losses, one unrolled pass through a clip, and the loop."""
