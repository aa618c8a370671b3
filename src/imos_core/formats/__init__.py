"""File formats, a module or two each, over what they share; `imos_core.io` chooses among them."""
