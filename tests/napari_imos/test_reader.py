"""Files of NIfTI and OME-Zarr opened in napari's window: layers, their places, and the loop."""

from __future__ import annotations

import itertools
import sys

import nibabel
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManifest
from test_ledger import kinds
from test_widget import MANIFEST, click, wait, wait_done
from zarr_files import write_ome_zarr

from imos_core.errors import FileError
from imos_core.files.sidecar import sidecar_of
from imos_core.formats.volume import Volume
from imos_core.io import write_labels
from napari_imos import _brightness, _reader
from napari_imos._reader import get_reader
from napari_imos._saved.session import save_session
from napari_imos._widget import PropagateWidget

SPACING = (2.5, 0.75, 0.5)


@pytest.fixture
def plugin(npe2pm):
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        yield


@pytest.fixture
def viewer(plugin):
    """A viewer without a window, which takes a second to open."""
    return ViewerModel()


@pytest.fixture
def window(make_napari_viewer, plugin):
    return make_napari_viewer()


def opened(viewer, path):
    return viewer.open(path, plugin="napari-imos")


def write_nifti(path, array, *, intent=None, unit="mm", slope=None):
    """Write an array of (t), z, y, x."""
    data = array.transpose(*reversed(range(array.ndim)))
    image = nibabel.Nifti1Image(data, np.diag([*reversed(SPACING), 1]))
    image.header.set_xyzt_units(unit, "sec")
    if array.ndim == 4:
        image.header.set_zooms((*reversed(SPACING), 9))
    if intent:
        image.header.set_intent(intent)
    if slope is not None:
        image.header.set_data_dtype(np.int16)
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)
    return path


def mapped(array):
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


class TestNifti:
    @pytest.mark.parametrize("name", ["head.nii", "head.NII", "sub-01.head.nii.gz"])
    def test_a_volume(self, viewer, volume, tmp_path, name):
        (layer,) = opened(viewer, write_nifti(tmp_path / name, volume.astype(np.int16)))
        assert isinstance(layer, Image)
        assert layer.name == name.lower().removesuffix(".gz").removesuffix(".nii")
        assert layer.source.path == str(tmp_path / name)
        assert layer.axis_labels == ("z", "y", "x")
        assert [str(u) for u in layer.units] == ["millimeter"] * 3
        np.testing.assert_allclose(layer.scale, SPACING)
        np.testing.assert_array_equal(layer.data, volume)
        assert mapped(layer.data) == (not name.endswith(".gz"))

    @pytest.mark.parametrize("name", ["film.nii", "film.nii.gz"])
    def test_a_series_keeps_all_of_time(self, viewer, volume, tmp_path, name):
        series = np.stack([volume, volume // 2, volume // 3])
        (layer,) = opened(viewer, write_nifti(tmp_path / name, series, unit="micron"))
        np.testing.assert_array_equal(layer.data, series)
        assert layer.axis_labels == ("t", "z", "y", "x")
        # results say nothing of time, and have to lie where their image does
        np.testing.assert_allclose(layer.scale, (1, *SPACING))
        assert [str(u) for u in layer.units] == ["pixel"] + ["micrometer"] * 3

    def test_no_unit_is_no_unit(self, viewer, volume, tmp_path):
        (layer,) = opened(viewer, write_nifti(tmp_path / "a.nii", volume, unit="unknown"))
        assert {str(u) for u in layer.units} == {"pixel"}

    def test_scaled_values_stay_on_disk(self, viewer, volume, tmp_path):
        stored = volume.astype(np.float32)
        (layer,) = opened(viewer, write_nifti(tmp_path / "a.nii", stored, slope=0.125))
        assert not isinstance(layer.data, np.ndarray)
        assert layer.dtype == np.float64
        np.testing.assert_allclose(layer.data[3], volume[3] / 8)

    def test_colours(self, viewer, volume, tmp_path):
        colours = np.stack([volume, volume // 2, volume // 3], axis=-1)
        kind = np.dtype([(c, "u1") for c in "RGB"])
        write_nifti(tmp_path / "a.nii", np.ascontiguousarray(colours).view(kind)[..., 0])
        (layer,) = opened(viewer, tmp_path / "a.nii")
        assert layer.rgb
        np.testing.assert_array_equal(layer.data, colours)

    def test_three_columns_are_no_colours(self, viewer, volume, tmp_path):
        (layer,) = opened(viewer, write_nifti(tmp_path / "a.nii", volume[..., :3].copy()))
        assert not layer.rgb

    @pytest.mark.parametrize("dtype", [">i2", "f4", "u1"])
    def test_labels_by_their_intent(self, viewer, painted, tmp_path, dtype):
        write_nifti(tmp_path / "a.nii", painted.astype(dtype), intent="label")
        (layer,) = opened(viewer, tmp_path / "a.nii")
        assert isinstance(layer, Labels)
        np.testing.assert_array_equal(layer.data, painted)
        layer.paint((5, 2, 2), 3)
        assert layer.data[5, 2, 2] == 3
        layer.undo()

    def test_what_is_called_labels_and_is_none(self, viewer, volume, tmp_path):
        write_nifti(tmp_path / "a.nii", volume + np.float32(0.5), intent="label")
        (layer,) = opened(viewer, tmp_path / "a.nii")
        assert isinstance(layer, Image)


class TestZarr:
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_levels(self, viewer, volume, tmp_path, version):
        moved = [{"type": "translation", "translation": [10.0, 20.0, 30.0]}]
        write_ome_zarr(
            tmp_path / "a.ome.zarr",
            volume,
            version,
            scale=SPACING,
            coordinateTransformations=moved,
        )
        (layer,) = opened(viewer, tmp_path / "a.ome.zarr")
        assert (layer.name, layer.multiscale) == ("a", True)
        assert layer.axis_labels == ("z", "y", "x")
        assert [str(u) for u in layer.units] == ["micrometer"] * 3
        np.testing.assert_allclose(layer.scale, SPACING)
        np.testing.assert_allclose(layer.translate, (10, 20, 30))
        assert [level.shape for level in layer.data] == [(12, 20, 24), (12, 10, 12)]
        assert not isinstance(layer.data[0], np.ndarray), "it stays on disk"
        np.testing.assert_array_equal(layer.data[0], volume)

    def test_channels_are_layers(self, viewer, volume, tmp_path):
        series = np.stack([np.stack([volume, volume // 2, volume // 3])] * 2)
        scale = (9.0, 1.0, *SPACING)
        write_ome_zarr(tmp_path / "a.zarr", series, "0.5", "tczyx", scale=scale)
        layers = opened(viewer, tmp_path / "a.zarr")
        assert [layer.name for layer in layers] == ["a 0", "a 1", "a 2"]
        for c, layer in enumerate(layers):
            np.testing.assert_array_equal(layer.data[0], series[:, c])
            assert layer.axis_labels == ("t", "z", "y", "x")
            np.testing.assert_allclose(layer.scale, (1, *SPACING))

    def test_a_level_that_has_lost_an_axis(self, viewer, volume, tmp_path):
        series = np.stack([volume] * 2)
        write_ome_zarr(tmp_path / "a.zarr", series, "0.5", "tzyx")
        group = zarr.open_group(str(tmp_path / "a.zarr"))
        del group["s1"]
        group.create_array("s1", data=series[:, :1, ::2, ::2])
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert not layer.multiscale
        np.testing.assert_array_equal(layer.data, series)

    @pytest.mark.parametrize("colours", [False, True])
    def test_a_plain_array(self, viewer, volume, tmp_path, colours):
        array = np.stack([volume] * 3, axis=-1) if colours else volume
        zarr.create_array(tmp_path / "a.zarr", data=array)
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert layer.rgb == colours
        np.testing.assert_array_equal(layer.data, array)

    def test_a_unit_of_no_length(self, viewer, volume, tmp_path):
        write_ome_zarr(tmp_path / "a.zarr", volume, "0.5", scale=SPACING)
        group = zarr.open_group(str(tmp_path / "a.zarr"))
        ome = group.attrs["ome"]
        for axis, unit in zip(ome["multiscales"][0]["axes"], ["um", "", "rabbits"], strict=True):
            axis["unit"] = unit
        group.attrs["ome"] = ome
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert {str(u) for u in layer.units} == {"pixel"}
        np.testing.assert_allclose(layer.scale, SPACING)

    @pytest.mark.parametrize("inside", ["", "labels/a"])
    def test_results_are_labels(self, viewer, painted, tmp_path, inside):
        write_labels(tmp_path / "a.zarr", painted, Volume(painted, SPACING, unit="micrometer"))
        (layer,) = opened(viewer, tmp_path / "a.zarr" / inside)
        assert isinstance(layer, Labels)
        assert layer.name == "a"
        assert isinstance(layer.data, np.ndarray), "it can be painted, and that be undone"
        np.testing.assert_array_equal(layer.data, painted)
        np.testing.assert_allclose(layer.scale, SPACING)

    def test_maps_of_confidence_are_images(self, viewer, painted, tmp_path):
        write_labels(tmp_path / "a.zarr", painted / np.float32(2))
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert isinstance(layer, Image)

    def test_large_labels_stay_on_disk(self, viewer, painted, tmp_path, monkeypatch):
        monkeypatch.setattr(_reader, "_IN_MEMORY", painted.nbytes - 1)
        write_labels(tmp_path / "a.zarr", painted)
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert isinstance(layer, Labels)
        assert not isinstance(layer.data, np.ndarray)
        np.testing.assert_array_equal(layer.data, painted)


class TestHowBright:
    """napari looks at one plane of what is on disk: an empty one, or none that is there."""

    @pytest.fixture
    def series(self):
        """Two time points of 8 planes; the first and the last of each are empty."""
        series = np.full((2, 8, 16, 18), 300, np.uint16)
        series[:, 2:6, 4:8, 4:8] = 2000
        return series

    @pytest.fixture(params=[None, 1], ids=["all of it", "some planes"])
    def _looked_at(self, request, monkeypatch):
        if request.param:
            monkeypatch.setattr(_brightness, "_WHOLE", request.param)

    @pytest.mark.usefixtures("_looked_at")
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_a_volume_that_begins_elsewhere(self, viewer, series, tmp_path, version):
        moved = [{"type": "translation", "translation": [0.0, 10.0, 20.0, 30.0]}]
        write_ome_zarr(
            tmp_path / "a.zarr", series, version, "tzyx", coordinateTransformations=moved
        )
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert layer.contrast_limits == [300, 2000]

    @pytest.mark.usefixtures("_looked_at")
    def test_channels_have_their_own(self, viewer, series, tmp_path):
        channels = np.stack([series, 5000 - series, np.full_like(series, 7)], axis=1)
        write_ome_zarr(tmp_path / "a.zarr", channels, "0.5", "tczyx")
        limits = [layer.contrast_limits for layer in opened(viewer, tmp_path / "a.zarr")]
        assert limits == [[300, 2000], [3000, 4700], [0, 7]]

    @pytest.mark.usefixtures("_looked_at")
    def test_what_is_no_number_does_not_count(self, viewer, series, tmp_path):
        volume = series[0].astype(np.float32)
        volume[3, 0, :3] = np.nan, np.inf, -np.inf
        write_ome_zarr(tmp_path / "a.zarr", volume, "0.5")
        write_ome_zarr(tmp_path / "b.zarr", np.full_like(volume, np.nan), "0.5")
        (layer,), (nothing,) = (opened(viewer, tmp_path / name) for name in ("a.zarr", "b.zarr"))
        assert layer.contrast_limits == [300, 2000]
        assert nothing.contrast_limits == [0, 1]

    def test_scaled_nifti(self, viewer, series, tmp_path):
        path = write_nifti(tmp_path / "a.nii", series[0].astype(np.float32), slope=0.125)
        (layer,) = opened(viewer, path)
        assert layer.contrast_limits == [37.5, 250]

    def test_colours_and_bytes_are_as_they_are(self, viewer, series, tmp_path):
        plain = np.stack([series[0] // 8] * 3, axis=-1).astype(np.uint8)
        zarr.create_array(tmp_path / "a.zarr", data=plain)
        write_ome_zarr(tmp_path / "b.zarr", plain[..., 0], "0.5")
        for name in ("a.zarr", "b.zarr"):
            (layer,) = opened(viewer, tmp_path / name)
            assert layer.contrast_limits == [0, 255]

    def test_a_plane_that_is_damaged_hinders_no_other(self, viewer, series, tmp_path, monkeypatch):
        monkeypatch.setattr(_brightness, "_WHOLE", 1)
        write_ome_zarr(tmp_path / "a.zarr", series[0], "0.5")
        del zarr.open_group(str(tmp_path / "a.zarr"))["s1"]
        group = zarr.open_group(str(tmp_path / "a.zarr"))
        ome = group.attrs["ome"]
        del ome["multiscales"][0]["datasets"][1]
        group.attrs["ome"] = ome
        (tmp_path / "a.zarr" / "s0" / "c" / "4" / "0" / "0").write_bytes(b"no chunk")
        (layer,) = opened(viewer, tmp_path / "a.zarr")
        assert layer.contrast_limits == [300, 2000]

    @pytest.mark.parametrize(
        ("shape", "chunks", "slices"),
        [
            ((256, 1536, 1536), (128, 128, 128), [64, 192]),
            ((90, 4096, 4096), (1, 4096, 4096), [25, 65]),
            ((90, 4096, 4096), None, [5, 85]),
            ((3, 90, 1024, 1024), (1, 1, 256, 256), [15, 75]),
            ((512, 512, 512), (512, 512, 512), [256, 256]),
        ],
    )
    def test_few_chunks_of_large_images_are_read(self, shape, chunks, slices):
        image = Chunked(shape, chunks)
        (limits,) = _brightness.contrast_limits(image, channels_last=False)
        assert limits == (0, max(image.looked_at))
        assert [min(image.looked_at), max(image.looked_at)] == slices
        # a single chunk may be larger
        assert len(image.read) == sum(image.times.values())
        most = max(2**26, 2 * np.prod(chunks or (1,)))
        assert len(image.read) * 2 * np.prod(chunks or (1,)) <= most


class Chunked:
    """An array of 16 bits that notes which of its chunks are read; planes hold their number."""

    def __init__(self, shape, chunks):
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype(np.uint16)
        self.chunks, self.read, self.times, self.looked_at = chunks, set(), {}, []

    def __getitem__(self, key):
        *front, rows, columns = key
        self.looked_at.append(front[-1])
        if self.chunks:
            at = [[k // c] for k, c in zip(front, self.chunks, strict=False)]
            for k, c in zip((rows, columns), self.chunks[-2:], strict=True):
                at.append(range(k.start // c, -(-k.stop // c)))
            for chunk in itertools.product(*at):
                self.read.add(chunk)
                self.times[chunk] = self.times.get(chunk, 0) + 1
        plane = np.full((rows.stop - rows.start, columns.stop - columns.start), front[-1], "u2")
        plane[0, 0] = 0
        return plane


class TestWhatIsNotRead:
    def test_other_files_are_for_other_readers(self, tmp_path):
        (tmp_path / "slices").mkdir()
        for name in ("a.tif", "a.nii.txt", "nii", "slices", "https://example.org/a.zarr"):
            assert get_reader(str(tmp_path / name) if "//" not in name else name) is None
        assert get_reader([str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]) is None
        assert get_reader([str(tmp_path / "a.nii")]) is not None

    def test_one_sentence_says_why(self, viewer, tmp_path, volume):
        (tmp_path / "bad.nii").write_bytes(b"this is text" * 100)
        with pytest.raises(FileError, match="damaged, cut short or no NIfTI file"):
            opened(viewer, tmp_path / "bad.nii")
        (tmp_path / "folder.zarr").mkdir()
        with pytest.raises(FileError, match="is no Zarr folder"):
            opened(viewer, tmp_path / "folder.zarr")
        zarr.open_group(str(tmp_path / "empty.zarr"), mode="w")
        with pytest.raises(FileError, match="is no OME-Zarr image"):
            opened(viewer, tmp_path / "empty.zarr")
        write_nifti(tmp_path / "five.nii", np.stack([np.stack([volume] * 2)] * 2))
        with pytest.raises(FileError, match=r"more than four axes .*: save one volume of it"):
            opened(viewer, tmp_path / "five.nii")


@pytest.fixture
def write_image():
    def write(path, volume):
        if path.suffix == ".zarr":
            write_ome_zarr(path, volume, "0.5", "tzyx"[-volume.ndim :])
            return path
        return write_nifti(path, volume)

    return write


@pytest.mark.parametrize(
    ("image", "saved"),
    [
        ("image.nii", "labels.zarr"),
        ("image.nii.gz", "labels.nii.gz"),
        ("image.zarr", "labels.zarr"),
        ("image.zarr", "labels.nii.gz"),
    ],
)
def test_the_loop_goes_on_with_opened_files(
    qtbot, engine, window, volume, painted, tmp_path, write_image, image, saved
):
    viewer = window
    (picture,) = opened(viewer, write_image(tmp_path / image, volume))
    labels = viewer.add_labels(
        painted, scale=picture.scale, units=picture.units, axis_labels=picture.axis_labels
    )
    viewer.dims.set_current_step(0, 5)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    labels.paint((8, 2, 2), 1)
    save_session(labels, tmp_path / saved)
    before, was, place = labels.data.copy(), kinds(labels), labels.data_to_world((1, 1, 1))
    units = labels.units
    viewer.layers.remove(labels)

    (again,) = opened(viewer, tmp_path / saved)
    assert isinstance(again, Labels)
    np.testing.assert_array_equal(again.data, before)
    np.testing.assert_allclose(again.data_to_world((1, 1, 1)), place)
    assert again.units == units
    assert widget.status.value.startswith("Took over ")
    assert kinds(again) == was
    viewer.dims.set_current_step(0, 8)
    wait(qtbot, lambda: widget.prompt.value.startswith("Prompt: slice 8 (with 5)"))
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert again.data[11, 2, 2] == 1


def test_labels_with_a_session_are_labels_whatever_their_file_says(viewer, painted, tmp_path):
    labels = viewer.add_labels(painted, translate=(0, 7, 0), units=("um",) * 3)
    save_session(labels, tmp_path / "a.nii.gz")
    plain = nibabel.load(tmp_path / "a.nii.gz")
    plain.header.set_intent("none")  # as sessions were saved before
    nibabel.save(plain, tmp_path / "a.nii.gz")
    (again,) = opened(viewer, tmp_path / "a.nii.gz")
    assert isinstance(again, Labels)
    np.testing.assert_allclose(again.translate, (0, 7, 0))
    assert again.units == labels.units
    # a session of other labels says nothing of these, and the widget tells of one that is damaged
    write_labels(tmp_path / "a.nii.gz", painted[:4])
    (other,) = opened(viewer, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(other.translate, 0)
    for text in ("{", "[" * 100_000):
        sidecar_of(tmp_path / "a.nii.gz").write_text(text)
        (damaged,) = opened(viewer, tmp_path / "a.nii.gz")
        assert isinstance(damaged, Labels)


@pytest.mark.skipif(sys.platform == "win32", reason="whole paths are short there")
def test_a_file_whose_session_would_have_too_long_a_name_opens(viewer, painted, tmp_path):
    path = tmp_path / f"{'a' * 244}.nii.gz"
    write_labels(path, painted)
    (layer,) = opened(viewer, path)
    assert isinstance(layer, Labels)


def test_a_series_of_labels_comes_back(viewer, painted, tmp_path):
    series = np.stack([painted, painted[::-1]])
    labels = viewer.add_labels(series, scale=(1, *SPACING), units=("pixel", *["mm"] * 3))
    save_session(labels, tmp_path / "a.zarr")
    (again,) = opened(viewer, tmp_path / "a.zarr")
    assert isinstance(again, Labels)
    np.testing.assert_array_equal(again.data, series)
    np.testing.assert_allclose(again.scale, labels.scale)
    assert again.units == labels.units


def test_the_unit_goes_into_the_file(viewer, painted, tmp_path):
    labels = viewer.add_labels(painted, scale=SPACING, units=("um",) * 3)
    for name in ("a.zarr", "a.nii.gz"):
        save_session(labels, tmp_path / name)
        sidecar_of(tmp_path / name).unlink()
        (again,) = opened(viewer, tmp_path / name)
        lengths = [
            (s * u).to("um").magnitude for s, u in zip(again.scale, again.units, strict=True)
        ]
        np.testing.assert_allclose(lengths, SPACING, rtol=1e-6)


def test_a_whole_series_of_an_opened_file(qtbot, engine, window, volume, tmp_path, write_image):
    viewer = window
    path = write_image(tmp_path / "film.nii", np.stack([volume] * 3))
    (picture,) = opened(viewer, path)
    labels = viewer.add_labels(np.zeros((3, 12, 20, 24), np.uint8), scale=picture.scale)
    labels.data[1, 5, 4:10, 4:10] = 1
    viewer.dims.current_step = (1, 5, 0, 0)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels.data[1].any(axis=(1, 2)).all()
    assert not labels.data[0].any()


def test_time_counts_in_steps(viewer, volume, tmp_path):
    write_ome_zarr(tmp_path / "film.zarr", volume, "0.5", axes="tyx", scale=[30.0, 0.5, 0.5])
    (layer,) = opened(viewer, tmp_path / "film.zarr")
    np.testing.assert_allclose(layer.scale, (1, 0.5, 0.5))


def test_time_goes_before_slices(viewer, volume, tmp_path):
    series = np.stack([volume, volume // 2], axis=1)
    write_ome_zarr(tmp_path / "a.zarr", series, "0.5", axes="ztyx", scale=[2.0, 30.0, 0.5, 0.25])
    (layer,) = opened(viewer, tmp_path / "a.zarr")
    assert layer.axis_labels == ("t", "z", "y", "x")
    np.testing.assert_allclose(layer.scale, (1, 2, 0.5, 0.25))
    np.testing.assert_array_equal(layer.data[0], series.swapaxes(0, 1))
