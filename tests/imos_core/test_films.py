"""Films in files: the engine is told what shape their pixels have, and no thickness of frames."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from zarr_files import write_ome_zarr

import imos_core
from imos_core.cli import main
from imos_core.formats.volume import Volume
from imos_core.io import read_labels, read_volume, write_labels

SHAPE = (5, 20, 24)


class Asked(Exception):
    """What stands in for the engine was called."""


@pytest.fixture
def told(monkeypatch):
    """Spacings that the engine was told; it ends there."""
    spacings = []

    def engine(*given, spacing, **more):
        spacings.append(spacing)
        raise Asked

    for name in ("propagate", "adapt"):
        monkeypatch.setitem(vars(imos_core), name, engine)
    return spacings


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write an image with these axes and sizes, and painted labels; return the names."""
    monkeypatch.chdir(tmp_path)

    def written(name, axes, sizes):
        shape = SHAPE if len(axes) == 3 else (2, *SHAPE)
        pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        if name.endswith(".zarr"):
            write_ome_zarr(tmp_path / name, pixels, "0.5", axes, sizes)
        else:
            metadata = {f"PhysicalSize{a.upper()}": s for a, s in zip(axes, sizes, strict=True)}
            metadata |= {"axes": axes.upper(), "TimeIncrement": metadata.pop("PhysicalSizeT", 30)}
            tifffile.imwrite(tmp_path / name, pixels, metadata=metadata)
        painted = np.zeros(SHAPE, np.uint8)
        painted[1, 4:9, 4:9] = 1
        tifffile.imwrite(tmp_path / "painted.tif", painted)
        return [name, "painted.tif"]

    return written


def run(command, *more):
    with pytest.raises(Asked):
        main([*command, *more, "--quiet"])


@pytest.mark.parametrize("name", ["film.zarr", "film.ome.tif"])
@pytest.mark.parametrize(("sides", "shape"), [((0.5, 0.5), (1, 1, 1)), ((0.5, 0.25), (1, 1, 0.5))])
def test_frames_have_no_thickness(told, write, name, sides, shape):
    files = write(name, "tyx", (30.0, *sides))
    run(["propagate", *files, "-o", "out.tif"])
    run(["adapt", *files, "-o", "a.safetensors"])
    assert told == [shape, shape]


def test_what_a_person_says_stays(told, write):
    files = write("film.zarr", "tyx", (30.0, 0.5, 0.5))
    run(["propagate", *files, "-o", "out.tif", "--spacing", "2,0.5,0.5"])
    assert told == [(2, 0.5, 0.5)]


def test_slices_have_one(told, write):
    run(["propagate", *write("volume.zarr", "zyx", (2.0, 0.5, 0.5)), "-o", "out.tif"])
    series = write("series.zarr", "tzyx", (30.0, 2.0, 0.5, 0.5))
    run(["propagate", *series, "-o", "out.tif", "--time", "1"])
    run(["propagate", *series, "-o", "out.tif", "--time", "1", "--series"])
    assert told == [(2, 0.5, 0.5)] * 3


def test_files_say_what_they_said(write):
    image = read_volume(write("film.zarr", "tyx", (30.0, 0.5, 0.5))[0])
    assert image.spacing == (30, 0.5, 0.5)
    assert Volume(image.array).engine_spacing is None


def test_films_have_no_distances_unless_somebody_says_so(write, capsys):
    film, painted = write("film.ome.tif", "tyx", (30.0, 0.5, 0.5))
    labels = np.asarray(read_labels(painted).array)
    write_labels("labels.ome.tif", labels, read_volume(film))
    pair = ["labels.ome.tif", "labels.ome.tif"]
    assert main(["evaluate", *pair]) == 0
    assert "distance" not in capsys.readouterr().out
    assert main(["evaluate", *pair, "--spacing", "1,0.5,0.5"]) == 0
    assert "distance" in capsys.readouterr().out
