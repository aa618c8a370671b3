"""Films: what a file says of time is still said by the labels that are saved, and made anew."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source
from test_ledger import run
from zarr_files import write_ome_zarr

from imos_core.cli import main
from imos_core.io import read_volume
from napari_imos import propagate
from napari_imos._reader import read
from napari_imos._saved.session import save_session

MICRONS = pytest.approx((0.5, 0.25))
AWAY = [0.0, 10.0, 20.0]


def told(axes):
    kinds = {"t": ("time", "second")}
    named = [(a, *kinds.get(a, ("space", "micrometer"))) for a in axes]
    return [dict(zip(("name", "type", "unit"), one, strict=True)) for one in named]


def opened(path):
    """A layer as napari opens it, knowing its file."""
    (data, keywords, _), *_ = read(path)
    with layer_source(path=str(path)):
        return Image(data, **keywords)


def scene_of(image, painted):
    viewer = ViewerModel()
    viewer.add_layer(image)
    where = {name: getattr(image, name) for name in ("scale", "translate", "units", "axis_labels")}
    labels = viewer.add_labels(painted, **where)
    viewer.dims.set_current_step(0, 5)
    return viewer, image, labels


@pytest.fixture
def film(engine, volume, painted, tmp_path):
    """Labels of a film, 30 s a frame, that begins elsewhere."""
    path = tmp_path / "film.zarr"
    away = [{"type": "translation", "translation": AWAY}]
    scale = (30.0, 0.5, 0.25)
    write_ome_zarr(
        path, volume, "0.5", "tyx", scale, axes_told=told("tyx"), coordinateTransformations=away
    )
    scene = scene_of(opened(path), painted)
    run(scene, engine)
    return scene[2]


def test_frames_have_no_thickness(engine, film, tmp_path):
    """Neither in napari nor where its labels are made anew, as both have to be the same."""
    save_session(film, tmp_path / "a.tif")
    main(["rerun", str(tmp_path / "a.tif"), "-o", str(tmp_path / "b.tif"), "--quiet"])
    assert [call["spacing"] for call in engine.calls] == [(1, 1, 0.5)] * 2


class TestSessions:
    @pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.zarr"])
    def test_a_film_stays_one(self, film, tmp_path, name):
        save_session(film, tmp_path / name)
        again = read_volume(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(again.array), film.data)
        assert (again.film, again.interval, again.unit) == (True, (30, "second"), "micrometer")
        assert again.spacing[1:] == MICRONS
        if name == "a.zarr":
            assert again.extra["translation"] == AWAY
        if name == "a.ome.tif":
            with tifffile.TiffFile(tmp_path / name) as tif:
                assert tif.series[0].axes == "TYX"
                assert "PhysicalSizeZ" not in tif.ome_metadata

    def test_nifti_has_another_unit(self, film, tmp_path):
        save_session(film, tmp_path / "a.nii.gz")
        again = read_volume(tmp_path / "a.nii.gz")
        assert (again.film, again.interval, again.unit) == (True, (30, "second"), "millimeter")
        assert again.spacing[1:] == pytest.approx((5e-4, 2.5e-4))

    def test_a_layer_that_counts_seconds(self, film, tmp_path):
        """As other readers open films."""
        film.scale, film.units = (30, 0.5, 0.25), ("second", "micrometer", "micrometer")
        film.translate = (60, 10, 20)
        save_session(film, tmp_path / "a.zarr")
        again = read_volume(tmp_path / "a.zarr")
        assert (again.interval, again.unit) == ((30, "second"), "micrometer")
        assert again.extra["translation"] == [60, 10, 20]

    def test_an_image_that_is_gone(self, film, tmp_path):
        (tmp_path / "film.zarr").rename(tmp_path / "elsewhere.zarr")
        save_session(film, tmp_path / "a.zarr")
        again = read_volume(tmp_path / "a.zarr")
        assert (again.film, again.interval) == (True, (1, None))

    def test_a_series_keeps_its_step_and_place(self, engine, volume, painted, tmp_path):
        path = tmp_path / "series.zarr"
        away = [{"type": "translation", "translation": [0.0, 5.0, 10.0, 20.0]}]
        scale = (30.0, 2.0, 0.5, 0.25)
        series = np.stack([volume] * 2)
        write_ome_zarr(
            path, series, "0.5", "tzyx", scale,
            axes_told=told("tzyx"), coordinateTransformations=away,
        )  # fmt: skip
        viewer, image, labels = scene_of(opened(path), np.stack([painted] * 2))
        viewer.dims.set_current_step(1, 5)
        run((viewer, image, labels), engine)
        save_session(labels, tmp_path / "a.zarr")
        again = read_volume(tmp_path / "a.zarr", time=1)
        assert (again.interval, again.spacing) == ((30, "second"), (2, 0.5, 0.25))
        assert again.extra["translation"] == [5, 10, 20]


@pytest.mark.parametrize("out", ["again.zarr", "again.ome.tif", "again.nii.gz"])
def test_a_film_is_made_anew(session, out):
    """By the engine, which is told the same, and with the time step that layers do not know."""
    path, labels = session
    assert main(["rerun", str(path), "-o", str(path.with_name(out)), "--quiet"]) == 0
    again = read_volume(path.with_name(out))
    np.testing.assert_array_equal(np.asarray(again.array), labels)
    assert (again.film, again.interval) == (True, (30, "second"))
    scale = 1e-3 if again.unit == "millimeter" else 1
    assert again.spacing[1:] == pytest.approx((0.2 * scale, 0.1 * scale))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A disc that drifts through a film, with labels that were propagated and saved."""
    folder = tmp_path_factory.mktemp("film")
    t, y, x = np.ogrid[:6, :48, :64]
    disc = (y - 20 - 2 * t) ** 2 + ((x - 30 - t) / 2) ** 2 < 60
    noise = np.random.default_rng(0).normal(0, 6, disc.shape)
    pixels = (90 + 90 * disc + noise).clip(0, 255).astype(np.uint8)
    scale = (30.0, 0.2, 0.1)
    write_ome_zarr(folder / "film.zarr", pixels, "0.5", "tyx", scale, axes_told=told("tyx"))
    painted = np.zeros(disc.shape, np.uint8)
    painted[2] = disc[2]
    _, image, labels = scene_of(opened(folder / "film.zarr"), painted)
    propagate(image, labels, precision="float32", device="cpu")
    save_session(labels, folder / "labels.tif")
    return folder / "labels.tif", np.array(labels.data)
