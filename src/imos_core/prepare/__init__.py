"""Public data sets, from their native layouts to sequences of one object each."""
