"""File formats, one module each, with a `read` and a `write`; `imos_core.io` chooses among them."""
