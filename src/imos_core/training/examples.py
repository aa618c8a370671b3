"""The four phases of the paper, as files to begin with."""

from __future__ import annotations

from pathlib import Path

from imos_core.errors import FileError
from imos_core.whole_files import writing

EXAMPLES = tuple(sorted((Path(__file__).parents[1] / "_phases").glob("*.toml")))
"""Their files in the package, in the order in which they are trained."""


def write_examples(folder: Path) -> list[Path]:
    """Copy the phases' files into a folder, which is made if need be.

    Raises
    ------
    FileError
        If one is there already, or it cannot be written.
    """
    files = [folder / path.name for path in EXAMPLES]
    for file in files:
        if file.exists():
            raise FileError(f"{file} is there already: choose another folder.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for source, file in zip(EXAMPLES, files, strict=True):
            file.write_bytes(source.read_bytes())
    return files
