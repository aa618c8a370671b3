"""What is to be propagated from file to file, in the words of a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

from imos_core.errors import FileError
from imos_core.files.given import Given
from imos_core.paths import check_path
from imos_core.whole_numbers import whole_numbers

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from imos_core.arrays.on_grid import Grid
    from imos_core.formats.volume import Place, Spacing

    AnyPath: TypeAlias = str | os.PathLike[str]
    Numbers: TypeAlias = SupportsIndex | Iterable[SupportsIndex]


def _path(given: Any, name: str) -> Path:
    """Return a path that was given as one, or as text.

    Parameters
    ----------
    given : Any
        What was given.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    FileError
        If it is neither, or no file can have that name.
    """
    try:
        return check_path(Path(given))
    except TypeError:
        raise FileError(f"{name} must be a path, not {given!r}: name a file or folder.") from None


@dataclass(frozen=True)
class FileJob:
    """What is to be propagated, and where the result goes.

    Paths may be given as text, and one anchor or label without a list.
    """

    image: Given[AnyPath, Path] = Given(_path)
    """Volume or video."""
    painted: Given[AnyPath, Path] = Given(_path)
    """Labels of its shape with painted slices, or one painted slice."""
    output: Given[AnyPath, Path] = Given(_path)
    """Result; its suffix says the format."""
    confidence: Given[AnyPath | None, Path | None] = Given(_path, optional=True)
    """Where to write how sure every voxel is, 0 to 1."""
    level: int = 0
    """Level of resolution of an OME-Zarr image."""
    time: Place | None = None
    """Time point of an image that has several, or another place (`read_volume`); of labels that
    have several, too."""
    channels: Sequence[int] | None = None
    """Up to three channels of the image that the network sees as colours."""
    grid: Grid | None = None
    """Where the voxels of the labels are in the image, if it has others."""
    by_index: bool = False
    """Whether labels lie on the image voxel by voxel, whatever the affines of the files say."""
    session: bool = False
    """Whether a session says what to do, of labels that were painted on voxels as stored."""
    axis: int = 0
    """Axis that is walked."""
    anchors: Given[Numbers | None, Sequence[int] | None] = Given(whole_numbers, optional=True)
    """Painted slices to use; all by default."""
    labels: Given[Numbers | None, Sequence[int] | None] = Given(whole_numbers, optional=True)
    """Ids to propagate; all by default."""
    start: int | None = None
    """First slice."""
    stop: int | None = None
    """One past the last slice."""
    absent: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Label -> slices where it is not, by a person's word: it does not go on behind them."""
    through: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Label -> painted slices that say nothing of it, onto which it is filled in."""
    fill_anchors: bool = False
    """Whether objects are filled in on painted slices of other objects, if each slice shows other
    ones (`unrelated`): it then goes before `through`."""
    stop_when_gone: bool = False
    """Whether labels that were gone for a while stay gone."""
    spacing: Spacing | None = None
    """Size of a voxel, if the files do not know better."""
    frames: bool = False
    """Whether the first number of `spacing` counts frames, and is no length."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of `imos_core.propagate`."""

    def outputs(self) -> list[Path]:
        """Files that will be written."""
        return [path for path in (self.output, self.confidence) if path is not None]

    def inputs(self) -> list[Path]:
        """Files that are read, but for models."""
        return [self.image, self.painted]
