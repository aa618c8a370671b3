"""Saved: sessions beside files, and what a crash leaves behind."""
