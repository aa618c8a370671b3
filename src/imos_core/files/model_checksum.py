"""Which weights labels were made with: files are known again by all of their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def model_checksum(model: Any) -> str:
    """Return the SHA-256 of a weights file, by name or path; empty if it cannot be read."""
    from imos_core.weights import list_models

    paths = {info.name: info.path for info in list_models()}
    try:
        return hashlib.sha256(Path(paths.get(str(model), model)).read_bytes()).hexdigest()
    except (OSError, TypeError, ValueError):
        return ""
