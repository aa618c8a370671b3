"""NIfTI: arrays of (x, y, z), presented as (z, y, x), with header and affine kept."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError, FileWarning
from imos_core.formats.units import converted, length_unit, rescaled, time_unit
from imos_core.formats.volume import (
    Spacing,
    Volume,
    arrange,
    in_order,
    places_held,
    time_point,
    usable,
    usable_interval,
)

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Place

_LETTERS = "xyztuvw"
_SPATIAL = 3
_LABELS = 1002  # NIFTI_INTENT_LABEL


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise FileError('NIfTI files need nibabel: pip install "napari-imos[files]".') from error
    return nibabel


def is_nifti_name(path: Path) -> bool:
    """Whether a file of that name is NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_name(path: Path) -> None:
    """Refuse a name under which nibabel would look for another file.

    Raises
    ------
    FileError
        If its suffix is neither all small nor all capitals.
    """
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    if not name.endswith((".nii", ".NII")):
        raise FileError(f"{path} has a suffix that NIfTI tools do not find: spell it .nii or .NII.")


@contextmanager
def _own_words(path: Path) -> Iterator[None]:
    """Have what nibabel logs of a header, which it corrects, said as our warning."""
    logger, said = _nibabel().imageglobals.logger, []

    def hear(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logger.addFilter(hear)
    try:
        yield
    finally:
        logger.removeFilter(hear)
    if said:
        warnings.warn(FileWarning(f"{path.name}: {'; '.join(said)}."), stacklevel=2)


class _Scaled:
    """Numbers with a scale factor, which nibabel calls by the type that they have on disk."""

    def __init__(self, proxy: Any) -> None:
        self._proxy, self.shape = proxy, tuple(proxy.shape)
        self.dtype = np.dtype(proxy[(slice(0, 1),) * len(self.shape)].dtype)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        part: npt.NDArray[Any] = self._proxy[key]
        return part


def read(
    path: Path, time: Place | None = None, *, series: bool = False, values: bool = True
) -> Volume:
    """Read a NIfTI file, or one time point of it; uncompressed files are mapped, not loaded.

    Without `values`, all of them are 0, and of compressed files no more than the header is read.
    """
    check_name(path)
    with _own_words(path):
        image = _nibabel().load(path, mmap="r")  # never written to, so its pages may be dropped
    header, affine = _placed(path, image.header, image.affine)
    proxy = image.dataobj
    if not values:
        data: Any = np.broadcast_to(np.zeros((), image.get_data_dtype()), proxy.shape)
    elif path.name.lower().endswith(".gz"):
        # going back one slice would decompress the file from its beginning each time
        data = np.asanyarray(proxy)
    else:
        unscaled = proxy.get_unscaled()  # maps the file, and raises if it is cut short
        data = unscaled if (proxy.slope, proxy.inter) == (1.0, 0.0) else _Scaled(proxy)
    shape = tuple(int(n) for n in data.shape)
    letters = _LETTERS[: len(shape)]
    if data.dtype.names:
        data = np.asanyarray(data)
        data = data.view((data.dtype[0], len(data.dtype))).reshape(*shape, -1)
        letters += "c"
    at = time_point(letters, data.shape, time, path.name)
    axes, channels_last = arrange(letters, data.shape, path.name, at, series=series)
    kept = axes[: len(axes) - channels_last]
    spatial = kept[:_SPATIAL]  # time is behind them
    zooms = header.get_zooms()
    film = len(spatial) == 3 and _LETTERS[spatial[-1]] == "t"
    sizes = [zooms[a] for a in reversed(spatial)]
    if film and usable([sizes[0]] * 3) is None:
        sizes[0] = sizes[1]  # as of any film that says no time between frames
    spacing = usable(sizes)
    order = (*reversed(kept), *axes[len(kept) :])
    array = in_order(data, order, path.name, at)
    unit, clock = _units(header, path.name)
    extra = {
        "header": header,
        "affine": affine,
        "shape": tuple(1 if a in at else n for a, n in enumerate(shape)),
        "class": type(image),
        "spacing": spacing,
        "axes": tuple(reversed(spatial)),
        "slope": _slope(image),
        **_lies(header, spacing, tuple(reversed(spatial))),
    }
    names = "".join(letters[a] for a in order)
    labels = int(header["intent_code"]) == _LABELS
    timed = len(shape) > 3 and converted(1.0, clock, "second") is not None
    interval = usable_interval(zooms[3], clock) if timed else None
    return Volume(
        array,
        spacing,
        channels_last,
        unit,
        "nifti",
        extra,
        film,
        interval,
        names=names,
        labels=labels,
        places=places_held(shape, at),
    )


def _units(header: Any, name: str) -> tuple[str | None, str | None]:
    """Units of length and time; None of codes that nothing knows."""
    known, code = _nibabel().nifti1.unit_codes.label, int(header["xyzt_units"])
    length, clock = code % 8, code - code % 8
    if not {length, clock} <= set(known):
        warnings.warn(
            FileWarning(
                f"{name} gives its units by a number that is none of NIfTI's ({code}): units that "
                "are not known are left out; correct xyzt_units in its header."
            ),
            stacklevel=3,
        )
    return length_unit(known.get(length)), time_unit(known.get(clock))


def coded_affines(header: Any) -> list[npt.NDArray[np.float64]]:
    """Return what a header says of its voxels' place, what counts first; nothing if it does not."""
    found = []
    for affine, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
        if code and np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]):
            found.append(np.asarray(affine, np.float64))
    return found


def _lies(header: Any, spacing: Spacing | None, axes: tuple[int, ...]) -> dict[str, Any]:
    """Where the first voxel lies along the axes of the array, and how those of space point."""
    affines = coded_affines(header)
    if not affines or spacing is None:
        return {}
    columns = affines[0][:3, :3]
    # counted in voxels, so that a part of a volume lies in it however its axes point
    voxels = np.linalg.solve(columns, affines[0][:3, 3])
    units = (columns / np.linalg.norm(columns, axis=0)).T
    sizes = zip(axes, spacing, strict=True)
    return {
        "translation": [float(voxels[a] * size) if a < _SPATIAL else 0.0 for a, size in sizes],
        "directions": [units[a].tolist() for a in axes if a < _SPATIAL],
    }


def _slope(image: Any) -> float | None:
    """Step between values that were scaled to fit into integers; None if they were not."""
    proxy = image.dataobj
    scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
    return abs(float(proxy.slope)) if scaled and image.get_data_dtype().kind in "iu" else None


def _placed(
    path: Path, header: Any, affine: npt.NDArray[np.float64]
) -> tuple[Any, npt.NDArray[np.float64]]:
    """Header and affine; a place that is not finite is none, so that the next one counts."""
    if np.isfinite(affine).all():
        return header, affine
    header = header.copy()
    kinds = {
        "sform": ("srow_x", "srow_y", "srow_z"),
        "qform": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    }
    for kind, fields in kinds.items():
        for field in (f"{kind}_code", *fields):
            header[field] = 0
        affine = header.get_best_affine()
        if np.isfinite(affine).all():
            return header, affine
    raise FileError(
        f"{path} does not say how large its voxels are (its sform, qform and pixdim are not "
        "finite): mend its header, or save it anew."
    )


def write(path: Path, labels: npt.NDArray[Any], like: Volume) -> None:
    """Write labels with the header and affine of `like`, or only its spacing."""
    nibabel = _nibabel()
    data = labels.transpose(2, 1, 0)
    if data.dtype == bool:
        data = data.astype(np.uint8)  # NIfTI knows no booleans
    spacing = like.spacing or (1.0, 1.0, 1.0)
    if like.format == "nifti":
        data = data.reshape(like.extra["shape"])
        header = like.extra["header"].copy()
        affine = like.extra["affine"]
        old = like.extra["spacing"]
        if old is not None and like.film:
            spacing = (old[0], *spacing[1:])  # time has no place in an affine
        if old is not None and spacing != old:
            affine = stretched(affine, old, spacing)
        header.set_data_dtype(data.dtype)
        header.set_slope_inter(1, 0)
        header["cal_max"] = header["cal_min"] = 0  # the image's display window, not the labels'
        image = like.extra["class"](data, affine, header)
    else:
        z, y, x = rescaled(spacing, like.unit, "millimeter")
        # only what could be converted is in millimetres
        is_length = converted(1.0, like.unit, "millimeter") is not None
        zooms, units = [x, y, z], ["mm" if is_length else "unknown"]
        if like.film:
            # one plane, as thick as its rows are since nobody has said it, and time behind it
            step, clock = like.interval or (1.0, None)
            seconds = converted(step, clock, "second")
            data = data[:, :, np.newaxis]
            zooms = [x, y, y, step if seconds is None else seconds]
            units.append("unknown" if seconds is None else "sec")
        # without a code for sform and qform, since nobody has said where the voxels lie
        image = nibabel.Nifti1Image(data, None, dtype=data.dtype)
        image.header.set_zooms(zooms)
        image.header.set_xyzt_units(*units)
    # an image's intent, such as a statistic, is not that of its labels
    image.header.set_intent("label" if labels.dtype.kind in "bui" else "none")
    nibabel.save(image, path)


def stretched(
    affine: npt.NDArray[np.float64], old: Spacing, new: Spacing
) -> npt.NDArray[np.float64]:
    """Return an affine, its columns (x, y, z) scaled from one spacing (z, y, x) to another."""
    scaled = np.array(affine)
    scaled[:3, :3] *= np.divide(new, old)[::-1]
    return scaled
