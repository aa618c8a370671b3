"""Commands of the palette."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.errors import ImosError

if TYPE_CHECKING:
    from napari.viewer import Viewer


def propagate_shown(viewer: Viewer) -> None:
    """Propagate the shown slice of the active Labels layer through its image, or one that fits.

    Parameters
    ----------
    viewer : Viewer
        Given by napari.
    """
    from napari.layers import Labels
    from napari.utils.notifications import show_error

    from napari_imos._dock.used_images import UsedImages
    from napari_imos._layers import fitting_image
    from napari_imos._saved.session import taken_over
    from napari_imos._walk import shown_axis
    from napari_imos.api import start_propagation

    labels = viewer.layers.selection.active
    if not isinstance(labels, Labels):
        labels = next((la for la in reversed(viewer.layers) if isinstance(la, Labels)), None)
    fitting = None if labels is None else fitting_image(viewer.layers, labels)
    if labels is None or fitting is None:
        show_error("There is nothing to propagate: open an image and add a Labels layer.")
        return
    try:
        taken_over(labels)  # which may say from which image they were made
        image = UsedImages().of(labels, viewer.layers) or fitting
        start_propagation(image, labels, axis=shown_axis(labels, viewer))
    except ImosError as error:
        show_error(str(error))
