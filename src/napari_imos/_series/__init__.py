"""Series: a whole (time, z) series in layers, by `imos_core.series`."""
