"""Adapters: tuned ones, kept by name in the person's data folder, and files that come and go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from imos_core.adapter_headers import refuse_model
from imos_core.errors import FileError, WeightsError
from imos_core.file_identity import folded
from imos_core.whole_files import swapped_in

if TYPE_CHECKING:
    import os

SUFFIX = ".safetensors"
_FORBIDDEN = set('/\\:*?"<>|')


class AdapterStore:
    """Folder with one adapter file per name.

    Parameters
    ----------
    folder : path, optional
        By default the person's data folder.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder or user_data_path("napari-imos", appauthor=False) / "adapters")

    def names(self) -> list[str]:
        """Return the names of what is there, in order."""
        return sorted(file.stem for file in self.folder.glob(f"*{SUFFIX}"))

    def path(self, name: str) -> Path:
        """Return where an adapter of that name is, or would be.

        Raises
        ------
        FileError
            If it cannot be a name.
        """
        name = name.strip()
        if not name or name.startswith(".") or _FORBIDDEN & set(name):
            raise FileError(
                f"An adapter cannot be named {name!r}: use letters, digits, spaces and hyphens."
            )
        return self.folder / f"{name}{SUFFIX}"

    def new_path(self, name: str) -> Path:
        """Return `path`, its folder made.

        Raises
        ------
        FileError
            If it cannot be made.
        """
        path = self.path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self.folder} cannot be made: {error.strerror}.") from error
        return path

    def free_name(self, name: str) -> str:
        """Return a name like this one that is not taken yet, whatever its letters' case."""
        taken, found, count = {folded(one) for one in self.names()}, name, 1
        while folded(found) in taken:
            count += 1
            found = f"{name} {count}"
        return found

    def take_in(self, file: str | os.PathLike[str]) -> str:
        """Copy a file into the folder; return its name there.

        Raises
        ------
        WeightsError
            If it is no adapter.
        FileError
            If it cannot be read or copied.
        """
        source = Path(file)
        _check(source)
        name = self.free_name(source.stem)
        _copy(source, self.new_path(name))
        return name

    def remove(self, name: str) -> None:
        """Delete an adapter; one that is not there any more is no error.

        Raises
        ------
        FileError
            If it cannot be deleted.
        """
        path = self.path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{path} cannot be deleted: {error.strerror or error}.") from error

    def give_out(self, name: str, file: str | os.PathLike[str]) -> Path:
        """Copy an adapter to a file; return the file.

        Raises
        ------
        FileError
            If it cannot be copied.
        """
        target = Path(file)
        if target.suffix != SUFFIX:
            target = target.with_name(target.name + SUFFIX)
        _copy(self.path(name), target)
        return target


def _check(path: Path) -> None:
    """Refuse what is no adapter.

    The engine looks again when it loads one; this is to say so at once.
    """
    from safetensors import SafetensorError, safe_open

    words = (
        f"{path} is no adapter: choose a {SUFFIX} file that was exported here or written by "
        "imos adapt."
    )
    try:
        with safe_open(path, "np") as file:
            header, names = file.metadata() or {}, list(file.keys())
    except (OSError, SafetensorError) as error:
        raise WeightsError(words) from error
    refuse_model(path, header)
    if "base_sha256" not in header and not any(".adapter." in name for name in names):
        raise WeightsError(words)


def _copy(source: Path, target: Path) -> None:
    with swapped_in(target) as partial:
        shutil.copyfile(source, partial)
