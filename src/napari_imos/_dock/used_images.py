"""Used images: from which image labels were made, as far as somebody has seen or noted it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from napari_imos._image_file import file_of
from napari_imos._layers import images_of
from napari_imos._record.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari.layers import Image, Labels, Layer


class UsedImages:
    """Knows from which images labels were made."""

    def __init__(self) -> None:
        self._used: WeakKeyDictionary[Labels, ref[Image]] = WeakKeyDictionary()

    def note(self, labels: Labels, image: Image) -> None:
        """Note that labels are made from an image."""
        self._used[labels] = ref(image)

    def of(self, labels: Labels, layers: Collection[Layer]) -> Image | None:
        """Return the image that labels were made from, if it is still among the layers.

        Of runs that nobody has seen here (of another day, of a script), the record says it.

        Parameters
        ----------
        labels : Labels
            Layer.
        layers : collection of Layer
            Those of the viewer.
        """
        used = self._used.get(labels)
        if used is None:
            return _on_record(labels, images_of(layers))
        image = used()
        return image if image in layers else None


def _on_record(labels: Labels, images: list[Image]) -> Image | None:
    """Return the image of the latest run that names one, by its file or else by its name."""
    runs = [run for record in Ledger.of(labels).records.values() for run in record.runs]
    latest = next((run for run in reversed(runs) if run.get("image")), None)
    if latest is None:
        return None
    path = str(latest.get("image_path") or "")
    same = [image for image in images if path and _is_from(image, Path(path))]
    named = [image for image in same or images if image.name == latest["image"]]
    return next(iter([*named, *same]), None)


def _is_from(image: Image, path: Path) -> bool:
    """Whether an image came from a file, or from the files of a folder."""
    known = file_of(image)
    return bool(known) and path in (Path(known), Path(known).parent)
