"""Walking: what windows show of the slices, on the way from painted ones to all others."""
