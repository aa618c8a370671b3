"""Series of volumes: each step in time is prompted by the one before."""
