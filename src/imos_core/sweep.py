"""Sweep: an array and an axis as a sequence of 2-D slices, read lazily, one at a time."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from imos_core.arrays.slabs import DEFAULT_BYTES, PlaneReader
from imos_core.errors import FileError, ImageError, ImosError, first_line
from imos_core.intensity import as_float32, plain
from imos_core.whole_numbers import axis_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


class Sweep:
    """Slices of an array along one axis.

    Parameters
    ----------
    image : array-like
        Anything with `shape` and basic slicing: numpy, memmap, dask, zarr, torch. Three spatial
        axes, and a trailing channel axis if `channels_last`. What numpy masks is taken for NaN.
    axis : int
        Spatial axis that is walked; negative counts from the last spatial axis.
    channels_last : bool
        Whether the last axis holds channels (1 to 4; of 4, the last is alpha and ignored).

    Raises
    ------
    ImageError
        If the shape does not fit.
    PromptError
        If the axis is out of range.
    """

    def __init__(self, image: Any, axis: SupportsIndex = 0, *, channels_last: bool = False) -> None:
        if not hasattr(image, "shape"):
            if image is None or isinstance(image, (str, PathLike)):
                raise ImageError(
                    f"The image is an array of pixels, but {image!r} was given: read the file "
                    "first, or use imos propagate."
                )
            image = np.asarray(image)
        if any(n != n for n in image.shape):  # as dask says NaN
            raise ImageError(
                f"The image does not know its own shape ({tuple(image.shape)}): let it be "
                "computed, such as by compute_chunk_sizes()."
            )
        shape = tuple(int(n) for n in image.shape)
        spatial = shape[:-1] if channels_last else shape
        if len(spatial) != 3:
            hint = " (set channels_last for colour images)" if len(spatial) == 4 else ""
            raise ImageError(
                f"The image must have three spatial axes, but its shape is {shape}{hint}."
            )
        if channels_last and not 1 <= shape[-1] <= 4:
            raise ImageError(
                f"A colour image has 1 to 4 channels on its last axis, but this has {shape[-1]}: "
                "choose up to three channels."
            )
        self.axis = axis_of(axis)
        self.length = spatial[self.axis]
        self.plane_shape = tuple(n for i, n in enumerate(spatial) if i != self.axis)
        self._stored = (*self.plane_shape, *shape[len(spatial) :])
        if 0 in spatial:
            raise ImageError(f"The image is empty: its shape is {shape}.")
        if self.length < 2:
            raise ImageError(
                "The image has only one slice along this axis: choose another axis or a volume."
            )
        self.zero = 0.0
        """Number from which `frame` counts (`zero_for`)."""
        self._image = image
        self._channels_last = channels_last
        self._planes = PlaneReader(image, self.axis, plain)

    @property
    def colour(self) -> bool:
        """Whether slices have three colours, rather than shades of grey."""
        return self._channels_last and self._image.shape[-1] >= 3

    @property
    def plane_bytes(self) -> int:
        """Bytes of a slice as stored."""
        return self._planes.plane_bytes

    def __len__(self) -> int:
        return self.length

    def expect(self, paths: Iterable[range], limit: int | None = None) -> None:
        """Say which slices will be read in which order, for reading ahead.

        Parameters
        ----------
        paths : iterable of range
            Slices of each walk.
        limit : int, optional
            Bytes that may be held of a chunked array.
        """
        self._planes.expect(paths, DEFAULT_BYTES if limit is None else limit)

    def most_held(self, paths: Iterable[range], limit: int) -> int:
        """Bytes that are held at most after `expect` was told the same."""
        return self._planes.most_held(paths, limit)

    def frame(self, index: int) -> npt.NDArray[np.float32]:
        """Read one slice: `(H, W)`, or `(H, W, C)` with one to three channels, float32.

        Values are counted from `zero`. It may hold NaN and infinity: `to_unit` makes them black or
        white.

        Raises
        ------
        ImageError
            If the slice holds complex numbers, or has another shape than the others.
        FileError
            If the slice cannot be read.
        """
        return as_float32(self.raw(index), self.zero)

    def raw(self, index: int) -> npt.NDArray[Any]:
        """Do as `frame`, but keep the image's own type, which may need no copy.

        Raises
        ------
        ImageError, FileError
            As `frame` does.
        """
        try:
            plane = self._planes.plane(index)
        except ImosError:
            raise
        except Exception as error:  # arrays and their codecs raise whatever they like
            if _lacks_memory(error):
                raise
            raise FileError(
                f"Slice {index} of the image cannot be read: {first_line(error)}."
            ) from error
        if plane.shape != self._stored:
            # arrays of many files may know the shape of the first one only
            raise ImageError(
                f"Slice {index} of the image has shape {plane.shape}, the others {self._stored}: "
                "bring all to one shape."
            )
        if plane.dtype.kind not in "buif":
            raise ImageError(
                f"The image holds {plane.dtype} values: convert it to integers or floats."
            )
        if self._channels_last:
            plane = plane[..., :1] if plane.shape[-1] < 3 else plane[..., :3]
            if plane.shape[-1] == 1:
                plane = plane[..., 0]
        return plane


def _lacks_memory(error: Exception) -> bool:
    """Whether there was no memory for a slice, which does not say that it is damaged."""
    # torch's is told by its name: who has no tensors need not import it
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
