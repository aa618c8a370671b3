"""Record: what every slice and voxel of a layer is, and whose; what runs have left there."""
