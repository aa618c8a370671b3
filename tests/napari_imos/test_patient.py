"""Where in the patient files of NIfTI say that they lie: in the window, and in saved sessions."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest
from test_ledger import run
from test_reader import opened
from test_widget import MANIFEST

from imos_core.io import read_volume, write_labels
from napari_imos._layers import read_job
from napari_imos._new_labels import add_labels_for, needs_new
from napari_imos._placement import placement
from napari_imos._record.ledger import Ledger
from napari_imos._saved.session import save_session
from napari_imos._walk import Walk

SHAPE = (12, 20, 24)  # z, y, x
WALK = Walk(3, 0, ())
OBLIQUE = np.array(
    [[-0.8, 0.1, 0.3, 90], [0.1, 0.8, 0.2, -120], [0.2, -0.1, 2.5, 40], [0, 0, 0, 1]]
)
PLACES = {
    "RAS": np.array([[0.8, 0, 0, -30.5], [0, 0.9, 0, 7], [0, 0, 5, 12.75], [0, 0, 0, 1]]),
    "LAS": np.array([[-0.8, 0, 0, 30.5], [0, 0.9, 0, 7], [0, 0, 5, 12.75], [0, 0, 0, 1]]),
    "sagittal": np.array([[0, 0, 3, -9], [-1, 0, 0, 80], [0, -1, 0, 33], [0, 0, 0, 1.0]]),
    "oblique": OBLIQUE,
}


def moved(affine, *voxels):
    """Affine of what begins at a voxel (x, y, z)."""
    shift = np.eye(4)
    shift[:3, 3] = voxels
    return affine @ shift


def save(path, array, affine, *, labels=False, unit="mm"):
    image = nibabel.Nifti1Image(array.transpose(*reversed(range(array.ndim))), affine)
    image.header.set_xyzt_units(unit, "sec")
    if labels:
        image.header.set_intent("label")
    nibabel.save(image, path)
    return path


@pytest.fixture
def viewer(npe2pm):
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        yield ViewerModel()


@pytest.fixture
def beside(viewer, volume, painted, tmp_path):
    """Layers of an image and of labels, of files with affines."""

    def layers(ours, theirs, labels=painted, **more):
        save(tmp_path / "image.nii", volume, ours)
        save(tmp_path / "labels.nii.gz", labels, theirs, labels=True, **more)
        return [opened(viewer, tmp_path / n)[0] for n in ("image.nii", "labels.nii.gz")]

    return layers


def affine_of(path):
    """Affine that a file says, or None if it says none."""
    header = nibabel.load(path).header
    return header.get_sform() if header["sform_code"] or header["qform_code"] else None


class TestInTheWindow:
    @pytest.mark.parametrize("place", PLACES)
    def test_a_part_lies_where_its_affine_says(self, beside, painted, place):
        affine = PLACES[place]
        part = np.ascontiguousarray(painted[2:9, 7:, 5:20])
        image, labels = beside(affine, moved(affine, 5, 7, 2), part)
        offset = (labels.translate - image.translate) / image.scale
        np.testing.assert_allclose(offset, (2, 7, 5), atol=1e-4)
        assert (labels.scale > 0).all()
        assert placement(image, labels, {0: 0, 1: 1, 2: 2}).starts == {0: 2, 1: 7, 2: 5}

    def test_another_unit_is_the_same_place(self, beside):
        affine = PLACES["LAS"]
        image, labels = beside(affine, np.diag([1e3, 1e3, 1e3, 1]) @ affine, unit="micron")
        assert needs_new(image, labels, WALK, ViewerModel()) == ""

    @pytest.mark.parametrize("mirrored", [0, 2])
    def test_mirrored_labels_are_refused_and_never_copied(self, beside, viewer, mirrored):
        # around the middle, both begin at the same number
        affine = np.diag([0.8, 0.9, 5, 1])
        affine[:3, 3] = [-0.4 * 23, -0.45 * 19, -2.5 * 11]
        mirror = np.eye(4)
        mirror[mirrored, mirrored], mirror[mirrored, 3] = -1, SHAPE[2 - mirrored] - 1
        image, labels = beside(affine @ mirror, affine)
        np.testing.assert_allclose(image.translate, labels.translate, atol=1e-4)
        said = needs_new(image, labels, WALK, viewer)
        assert said.startswith("The file of the labels 'labels' stores its voxels in other dir")
        fresh = add_labels_for(viewer, image, labels)
        assert not fresh.data.any()
        assert needs_new(image, fresh, WALK, viewer) == ""

    def test_labels_of_another_place_are_not_copied(self, beside, viewer):
        image, labels = beside(OBLIQUE, moved(OBLIQUE, 0, 0, 2))
        assert "does not lie on the image" in needs_new(image, labels, WALK, viewer)
        assert not add_labels_for(viewer, image, labels).data.any()

    def test_labels_that_lie_there_are_copied(self, beside, viewer, painted):
        image, labels = beside(OBLIQUE, OBLIQUE)
        np.testing.assert_array_equal(add_labels_for(viewer, image, labels).data, painted)

    def test_no_code_is_no_place(self, viewer, volume, tmp_path):
        image = nibabel.Nifti1Image(volume.T, None)
        image.header.set_zooms((0.5, 0.5, 2))
        nibabel.save(image, tmp_path / "a.nii")
        (layer,) = opened(viewer, tmp_path / "a.nii")
        np.testing.assert_allclose(layer.translate, 0)

    def test_a_film_lies_there_too(self, viewer, volume, tmp_path):
        frames = [volume[:, None], volume[2:, None, 3:]]
        for name, array, begin in zip("ab", frames, (0, 3), strict=True):
            save(tmp_path / f"{name}.nii", array, moved(PLACES["LAS"], 0, begin, 0))
        film, part = (opened(viewer, tmp_path / f"{name}.nii")[0] for name in "ab")
        np.testing.assert_allclose(film.translate, (0, 7, -30.5), atol=1e-4)
        np.testing.assert_allclose(part.translate - film.translate, (0, 2.7, 0), atol=1e-4)

    def test_results_in_other_formats_lie_on_their_image(self, viewer, painted, beside, tmp_path):
        image, _ = beside(OBLIQUE, OBLIQUE)
        write_labels(tmp_path / "out.zarr", painted, read_volume(tmp_path / "image.nii"))
        (result,) = opened(viewer, tmp_path / "out.zarr")
        assert needs_new(image, result, WALK, viewer) == ""


class TestSaved:
    @pytest.mark.parametrize("name", ["labels.nii.gz", "other.nii"])
    @pytest.mark.parametrize("place", PLACES)
    def test_labels_keep_the_place_that_their_file_had(self, beside, tmp_path, place, name):
        affine = PLACES[place]
        _, labels = beside(affine, moved(affine, 1, 2, 3))
        labels.data[3, 3, 3] = 7
        save_session(labels, tmp_path / name)
        np.testing.assert_allclose(affine_of(tmp_path / name), moved(affine, 1, 2, 3), atol=1e-4)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, labels.data)

    @pytest.mark.parametrize("ran", [False, True])
    def test_new_labels_lie_where_their_image_does(self, beside, viewer, engine, tmp_path, ran):
        image, painted = beside(OBLIQUE, OBLIQUE)
        labels = add_labels_for(viewer, image, painted)
        if ran:
            run((viewer, image, labels), engine)
        save_session(labels, tmp_path / "a.nii.gz", () if ran else [image.source.path])
        np.testing.assert_allclose(affine_of(tmp_path / "a.nii.gz"), OBLIQUE, atol=1e-4)
        (again,) = opened(viewer, tmp_path / "a.nii.gz")
        assert needs_new(image, again, WALK, viewer) == ""

    def test_a_part_with_other_voxels_lies_where_it_was_painted(
        self,
        beside,
        viewer,
        engine,
        tmp_path,
    ):
        image, _ = beside(OBLIQUE, OBLIQUE)
        data = np.zeros((8, 6, 7), np.uint8)
        data[3, 1:5, 1:5] = 1
        labels = viewer.add_labels(
            data,
            scale=image.scale * (1, 2, 2),
            translate=image.translate + image.scale * (2, 4, 6),
            units=image.units,
        )
        run((viewer, image, labels), engine)
        save_session(labels, tmp_path / "a.nii.gz")
        wanted = moved(OBLIQUE, 6, 4, 2) @ np.diag([2, 2, 1, 1])
        np.testing.assert_allclose(affine_of(tmp_path / "a.nii.gz"), wanted, atol=1e-3)
        (again,) = opened(viewer, tmp_path / "a.nii.gz")
        read_job(image, again, 0, [3], None, viewer, Ledger.of(again))
        np.testing.assert_allclose(again.translate, labels.translate, rtol=1e-4)

    @pytest.mark.parametrize(
        "place",
        [{"scale": (1, 1, 1), "translate": (0, 0, 0)}, {"translate": (9, 9, 9)}],
        ids=["counted in voxels", "moved by hand"],
    )
    def test_layers_that_lie_elsewhere_say_no_place(self, beside, tmp_path, place):
        image, labels = beside(OBLIQUE, OBLIQUE)
        for name, value in place.items():
            setattr(labels, name, value)
        save_session(labels, tmp_path / "a.nii.gz", [image.source.path])
        assert affine_of(tmp_path / "a.nii.gz") is None

    def test_what_its_file_says_counts_if_it_was_written_since(
        self,
        beside,
        viewer,
        painted,
        tmp_path,
    ):
        _, labels = beside(OBLIQUE, OBLIQUE)
        save_session(labels, tmp_path / "labels.nii.gz")
        save(tmp_path / "labels.nii.gz", painted, moved(OBLIQUE, 0, 0, 3), labels=True)
        (again,) = opened(viewer, tmp_path / "labels.nii.gz")
        offset = (again.translate - labels.translate) / labels.scale
        np.testing.assert_allclose(offset, (3, 0, 0), atol=1e-4)

    @pytest.mark.parametrize("many", [False, True], ids=["film", "one of several volumes"])
    def test_labels_of_a_film_or_a_time_point(self, viewer, volume, painted, tmp_path, many):
        array = np.stack([volume] * 2) if many else volume[:, None]
        save(tmp_path / "image.nii", array, OBLIQUE)
        (image,) = opened(viewer, tmp_path / "image.nii")
        labels = viewer.add_labels(
            painted,
            scale=image.scale[-3:],
            translate=image.translate[-3:],
            axis_labels=image.axis_labels[-3:],
        )
        save_session(labels, tmp_path / "a.nii", [image.source.path])
        np.testing.assert_allclose(affine_of(tmp_path / "a.nii"), OBLIQUE, atol=1e-4)
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, painted)

    def test_a_damaged_image_is_no_obstacle(self, beside, viewer, tmp_path):
        image, _ = beside(OBLIQUE, OBLIQUE)
        labels = add_labels_for(viewer, image)
        (tmp_path / "image.nii").write_bytes(b"gone")
        save_session(labels, tmp_path / "a.nii", [str(tmp_path / "image.nii")])
        assert affine_of(tmp_path / "a.nii") is None
