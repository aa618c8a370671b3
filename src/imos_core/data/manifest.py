"""The list beside training sequences that says under which licence each may be used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imos_core.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

_FIELDS = ("name", "use")


def sequence_entries(folder: Path) -> dict[str, dict[str, Any]] | None:
    """Read the manifest of a folder of sequences.

    Parameters
    ----------
    folder : Path
        Folder with ``<modality>/<name>.npz``; its ``manifest.json`` is one level up.

    Returns
    -------
    dict of str to dict, or None
        Entries by their ``name``, ``<modality>/<name>``; each has a licence class, ``use``. None
        where there is no manifest.

    Raises
    ------
    FileError
        If it is no list of such entries.
    """
    path = folder.parent / "manifest.json"
    if not path.exists():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read as JSON ({error}): mend it.") from error
    if not isinstance(entries, list):
        raise FileError(f"{path} must be a list with one entry for each sequence: mend it.")
    for number, entry in enumerate(entries):
        told = entry if isinstance(entry, dict) else {}
        if missing := [f for f in _FIELDS if not isinstance(told.get(f), str)]:
            raise FileError(
                f"Entry {number} of {path} lacks {' and '.join(missing)}: each needs a name "
                "(modality/name of the file) and a use (its licence class)."
            )
    return {entry["name"]: entry for entry in entries}
