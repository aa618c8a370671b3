"""Arrays as people have them: axes, channels, grids and chunks, read lazily as slices."""
