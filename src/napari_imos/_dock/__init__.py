"""Dock: what the widget is made of."""
