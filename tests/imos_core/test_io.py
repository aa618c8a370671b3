"""Files: round trips with spacing, laziness, damage, and outputs that are whole or not there."""

from __future__ import annotations

import builtins
import errno
import gzip
import json
import os
import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from zarr_files import write_ome_zarr

from imos_core import io
from imos_core.errors import FileError, FileWarning, PromptError
from imos_core.formats import tiff, units
from imos_core.io import Volume, check_output, read_labels, read_volume, write_labels

SPACING = (2.5, 0.75, 0.5)
NAMES = ["out.tif", "out.ome.tif", "out.nii", "out.nii.gz", "out.zarr", "out.npy", "out"]


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 5, (4, 6, 7)).astype(np.uint16)


def stack(shape=(4, 6, 7), dtype=np.uint8):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_round_trip(tmp_path, labels, name, dtype):
    path = tmp_path / name
    labels = labels.astype(dtype)
    write_labels(path, labels, Volume(labels, SPACING, unit="micrometer"))
    volume = read_volume(path)
    np.testing.assert_array_equal(np.asarray(volume.array), labels)
    assert volume.array.dtype == dtype
    assert not volume.channels_last
    if name.endswith((".npy", "out")):
        return
    in_millimetres = ".nii" in name
    assert volume.unit == ("millimeter" if in_millimetres else "micrometer")
    expected = np.multiply(SPACING, 1e-3 if in_millimetres else 1)
    assert volume.spacing == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint64, np.float32])
def test_wide_and_real_numbers(tmp_path, labels, name, dtype):
    write_labels(tmp_path / name, labels.astype(dtype), Volume(labels, SPACING))
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(np.asarray(volume.array), labels)
    if not name.endswith((".npy", "out")):
        assert volume.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("name", NAMES)
def test_boolean_labels(tmp_path, labels, name):
    write_labels(tmp_path / name, labels > 2)
    np.testing.assert_array_equal(np.asarray(read_volume(tmp_path / name).array), labels > 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_way_of_slicing(tmp_path, labels, name):
    write_labels(tmp_path / name, labels)
    array = read_volume(tmp_path / name).array
    for key in (1, (slice(None), 2), (slice(None), slice(None), 3), (slice(1, 3), 0), ...):
        np.testing.assert_array_equal(np.asarray(array[key]), labels[key])


class TestTiff:
    def test_imagej_stays_imagej(self, tmp_path, labels):
        source = tmp_path / "in.tif"
        metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "micron"}
        tifffile.imwrite(source, stack(), imagej=True, resolution=(2, 4 / 3), metadata=metadata)
        image = read_volume(source)
        assert image.spacing == pytest.approx(SPACING)
        write_labels(tmp_path / "out.tif", labels, image)
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            assert tif.is_imagej
            assert tif.imagej_metadata["unit"] == "micron"
        assert read_volume(tmp_path / "out.tif").spacing == pytest.approx(SPACING)

    def test_ome_stays_ome_and_keeps_its_unit(self, tmp_path, labels):
        source = tmp_path / "in.tif"
        metadata = {"axes": "ZYX"}
        for axis, size in zip("ZYX", SPACING, strict=True):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
        tifffile.imwrite(source, stack(), ome=True, metadata=metadata)
        image = read_volume(source)
        assert (image.spacing, image.unit) == (SPACING, "nanometer")
        write_labels(tmp_path / "out.tif", labels, image)
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            assert tif.is_ome
        again = read_volume(tmp_path / "out.tif")
        assert (again.spacing, again.unit) == (SPACING, "nanometer")

    def test_uncompressed_is_mapped(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", stack(), imagej=True)
        assert isinstance(read_volume(tmp_path / "a.tif").array.base, np.memmap)

    def test_compressed_and_large_is_read_by_slice(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tiff, "LOADED_AT_ONCE", 1)
        tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib", photometric="minisblack")
        array = read_volume(tmp_path / "a.tif").array
        assert not isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array[2], stack()[2])
        np.testing.assert_array_equal(array[:, 2], stack()[:, 2])

    @staticmethod
    def lzw(path, planes):
        """Write LZW as Pillow does, which needs no other package for it."""
        first, *rest = [Image.fromarray(plane) for plane in planes]
        first.save(path, save_all=True, append_images=rest, compression="tiff_lzw")

    @pytest.mark.parametrize("folder", [False, True])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_lzw(self, tmp_path, monkeypatch, folder, lazy):
        pytest.importorskip("imagecodecs")
        monkeypatch.setattr(tiff, "LOADED_AT_ONCE", 1 if lazy else 2**26)
        for k, planes in enumerate(stack()[:, None] if folder else [stack()]):
            self.lzw(tmp_path / f"{k}.tif", planes)
        array = read_volume(tmp_path if folder else tmp_path / "0.tif").array
        np.testing.assert_array_equal(np.asarray(array), stack())

    @pytest.mark.parametrize("folder", [False, True])
    @pytest.mark.parametrize("here", [False, True])
    def test_what_cannot_be_decompressed_is_not_called_damaged(
        self, tmp_path, monkeypatch, folder, here
    ):
        self.lzw(tmp_path / "a.tif", stack()[: 1 if folder else 4])
        monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None}, raising=False)
        monkeypatch.setattr(tiff, "find_spec", lambda name: object() if here else None)
        words = "LZW.*uncompressed" if here else r"compressed \(LZW\).*: pip install imagecodecs"
        with pytest.raises(FileError, match=words):
            read_volume(tmp_path if folder else tmp_path / "a.tif")

    @pytest.mark.parametrize("planar", [False, True])
    def test_colour(self, tmp_path, planar):
        colours = stack((4, 6, 7, 3))
        written = np.moveaxis(colours, -1, 1) if planar else colours
        config = "separate" if planar else "contig"
        tifffile.imwrite(tmp_path / "a.tif", written, photometric="rgb", planarconfig=config)
        image = read_volume(tmp_path / "a.tif")
        assert image.channels_last
        np.testing.assert_array_equal(np.asarray(image.array), colours)

    def test_one_channel_and_time_point_of_a_hyperstack(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", stack((1, 4, 1, 6, 7)), imagej=True, metadata={"axes": "TZCYX"}
        )
        assert read_volume(tmp_path / "a.tif").array.shape == (4, 6, 7)

    def test_several_channels_come_last(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", stack((4, 2, 6, 7)), imagej=True, metadata={"axes": "ZCYX"}
        )
        image = read_volume(tmp_path / "a.tif")
        assert image.channels_last
        assert image.array.shape == (4, 6, 7, 2)

    def test_slices_that_were_written_as_planes_of_colour(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", stack((3, 6, 7)), photometric="rgb", planarconfig="separate"
        )
        image = read_volume(tmp_path / "a.tif")
        assert not image.channels_last
        assert image.array.shape == (3, 6, 7)

    def test_time_and_depth_are_too_much(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", stack((3, 4, 6, 7)), imagej=True, metadata={"axes": "TZYX"}
        )
        with pytest.raises(FileError, match="more than three axes"):
            read_volume(tmp_path / "a.tif")

    def test_the_resolution_of_paper_is_no_spacing(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", stack((5, 6, 7)), resolution=(72, 72), resolutionunit="inch"
        )
        assert read_volume(tmp_path / "a.tif").spacing is None

    @pytest.mark.parametrize("unit", [{}, {"unit": "pixel"}, {"unit": "micron"}])
    def test_imagej_without_a_distance_of_slices(self, tmp_path, labels, unit):
        metadata = {"axes": "ZYX", **unit}
        tifffile.imwrite(
            tmp_path / "a.tif", stack(), imagej=True, resolution=(4, 2), metadata=metadata
        )
        image = read_volume(tmp_path / "a.tif")
        assert image.spacing == (0.5, 0.5, 0.25)
        write_labels(tmp_path / "b.tif", labels, image)
        with tifffile.TiffFile(tmp_path / "b.tif") as tif:
            assert "spacing" not in tif.imagej_metadata
        again = read_volume(tmp_path / "b.tif")
        assert (again.spacing, again.unit) == (image.spacing, image.unit)

    def test_ome_without_a_distance_of_slices(self, tmp_path, labels):
        metadata = {"axes": "ZYX", "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.25}
        tifffile.imwrite(tmp_path / "a.ome.tif", stack(), metadata=metadata)
        image = read_volume(tmp_path / "a.ome.tif")
        write_labels(tmp_path / "b.ome.tif", labels, image)
        with tifffile.TiffFile(tmp_path / "b.ome.tif") as tif:
            assert "PhysicalSizeZ" not in tif.ome_metadata
        assert read_volume(tmp_path / "b.ome.tif").spacing == image.spacing == (0.5, 0.5, 0.25)
        # somebody may know it
        write_labels(tmp_path / "c.ome.tif", labels, replace(image, spacing=(2.0, 0.5, 0.25)))
        assert read_volume(tmp_path / "c.ome.tif").spacing == (2.0, 0.5, 0.25)

    @pytest.mark.parametrize(
        ("old", "new", "warned", "spacing"),
        [
            ("<", "<", None, SPACING),
            ("<(?=[A-Z])|</", lambda m: f"{m[0]}ome:", None, SPACING),
            ('"', "'", None, SPACING),
            ('"2.5"', '"-2.5"', None, SPACING),
            ("<Pixels", '<Note Name="a & b < c"/><Pixels', None, SPACING),
            ('"2.5"', '"0"', None, (0.75, 0.75, 0.5)),
            ('"2.5"', '""', None, (0.75, 0.75, 0.5)),
            ('"2.5"', '"2,5"', "distance of its slices is taken as unknown", (0.75, 0.75, 0.5)),
            ('"0.75"', '"0"', "their size is taken as unknown", None),
            ('"0.75"', '"0,75"', "their size is taken as unknown", None),
        ],
    )
    def test_ome_as_other_programs_write_it(self, tmp_path, recwarn, old, new, warned, spacing):
        metadata = {f"PhysicalSize{a}": s for a, s in zip("ZYX", SPACING, strict=True)}
        tifffile.imwrite(tmp_path / "a.tif", stack(), ome=True, metadata={"axes": "ZYX"} | metadata)
        told = re.sub(old, new, tifffile.tiffcomment(tmp_path / "a.tif").partition("?>")[2])
        told = told.replace("xmlns=", "xmlns:ome=", 1) if "<ome:" in told else told
        tifffile.tiffcomment(tmp_path / "a.tif", told.encode())
        assert read_volume(tmp_path / "a.tif").spacing == spacing
        said = [str(warning.message) for warning in recwarn]
        assert [warned in text for text in said] == ([True] if warned else [])

    @pytest.mark.parametrize(
        ("told", "warned", "spacing"),
        [
            ("2.5", 0, SPACING),
            ("-2.5", 0, SPACING),
            ("0.0", 0, (0.75, 0.75, 0.5)),
            ("2,5", 1, (0.75, 0.75, 0.5)),
        ],
    )
    def test_a_distance_of_slices_as_imagej_writes_it(
        self, tmp_path, labels, recwarn, told, warned, spacing
    ):
        text = f"ImageJ=1.53t\nimages=4\nslices=4\nunit=micron\nspacing={told}\n"
        tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack", metadata=None,
                         description=text, resolution=(2, 4 / 3), resolutionunit=1,
                         contiguous=True)  # fmt: skip
        image = read_volume(tmp_path / "a.tif")
        assert image.spacing == pytest.approx(spacing)
        assert [str(w.message).startswith("a.tif says") for w in recwarn] == [True] * warned
        write_labels(tmp_path / "b.tif", labels, image)
        with tifffile.TiffFile(tmp_path / "b.tif") as tif:
            assert tif.imagej_metadata.get("spacing") == (2.5 if spacing == SPACING else None)

    @pytest.mark.parametrize("size", [1e-12, 3e10])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    def test_sizes_that_no_resolution_can_say(self, tmp_path, labels, size, dtype):
        like = Volume(labels, (size,) * 3, unit="meter")
        write_labels(tmp_path / "a.tif", labels.astype(dtype), like)
        again = read_volume(tmp_path / "a.tif")
        assert (again.spacing, again.unit) == ((size,) * 3, "meter")

    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
    @pytest.mark.parametrize("spacing", [None, SPACING])
    def test_one_column(self, tmp_path, labels, dtype, spacing):
        column = labels[..., :1].astype(dtype)
        write_labels(tmp_path / "a.tif", column, Volume(column, spacing))
        again = read_volume(tmp_path / "a.tif")
        np.testing.assert_array_equal(again.array, column)
        assert again.spacing == (spacing and pytest.approx(spacing))

    def test_pixels_of_one_are_no_spacing(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", stack(), imagej=True, metadata={"axes": "ZYX"})
        assert read_volume(tmp_path / "a.tif").spacing is None

    @staticmethod
    def written_one_by_one(path, images, **options):
        """Write what tifffile takes for so many images."""
        with tifffile.TiffWriter(path) as tif:
            for image in images:
                tif.write(image, photometric="minisblack", **options)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_pages_that_were_written_one_by_one(self, tmp_path, monkeypatch, compression, lazy):
        monkeypatch.setattr(tiff, "LOADED_AT_ONCE", 1 if lazy else 2**26)
        self.written_one_by_one(tmp_path / "a.tif", stack(), compression=compression)
        array = read_labels(tmp_path / "a.tif").array
        assert isinstance(array, np.ndarray) != lazy
        np.testing.assert_array_equal(np.asarray(array), stack())
        assert tiff.axes_of(tmp_path / "a.tif") == ("iyx", (4, 6, 7))

    @pytest.mark.parametrize(
        "shapes", [[(3, 6, 7), (5, 6, 7)], [(6, 7), (4, 8, 9)], [(6, 7), (6, 7), (5, 6, 7)]]
    )
    @pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
    @pytest.mark.parametrize("folder", [False, True])
    def test_several_images_are_refused(self, tmp_path, name, shapes, folder):
        self.written_one_by_one(tmp_path / name, map(stack, shapes))
        with pytest.raises(FileError, match="nothing says which of them is meant"):
            read_volume(tmp_path if folder else tmp_path / name)

    def test_positions_of_a_microscope_are_no_slices(self, tmp_path):
        self.written_one_by_one(tmp_path / "a.ome.tif", stack())
        with pytest.raises(FileError, match="nothing says which of them is meant"):
            read_volume(tmp_path / "a.ome.tif")

    @pytest.mark.parametrize("folder", [False, True])
    @pytest.mark.parametrize("picture", [(3, 3), (5, 6, 3)])
    def test_a_small_picture_behind_the_image_is_left_out(self, tmp_path, folder, picture):
        image = stack((6, 7) if folder else (4, 6, 7))
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            tif.write(image, photometric="minisblack", metadata=None)
            tif.write(stack(picture), photometric=self.colours(picture), metadata=None)
        array = read_volume(tmp_path if folder else tmp_path / "a.tif").array
        np.testing.assert_array_equal(array[:], image[None] if folder else image)

    @staticmethod
    def colours(shape):
        return "rgb" if shape[-1] == 3 and len(shape) > 2 else "minisblack"

    @pytest.mark.parametrize("shape", [(4, 6, 7), (4, 6, 7, 3)])
    def test_a_snapshot_in_other_colours_is_no_slice(self, tmp_path, shape):
        image, snapshot = stack(shape), stack((6, 7, 3) if len(shape) == 3 else (6, 7))
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            for page in (*image, snapshot):
                tif.write(page, photometric=self.colours(page.shape), metadata=None)
        np.testing.assert_array_equal(np.asarray(read_volume(tmp_path / "a.tif").array), image)

    def test_single_pages_in_several_colours_are_refused(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            for shape in ((6, 7), (6, 7, 3)):
                tif.write(stack(shape), photometric=self.colours(shape), metadata=None)
        with pytest.raises(FileError, match="nothing says which of them is meant"):
            read_volume(tmp_path / "a.tif")

    @pytest.mark.parametrize("one_by_one", [False, True])
    def test_a_preview_before_the_image_is_left_out(self, tmp_path, one_by_one):
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            tif.write(stack((3, 4)), photometric="minisblack", subfiletype=1)
            for image in stack() if one_by_one else [stack()]:
                tif.write(image, photometric="minisblack")
        np.testing.assert_array_equal(np.asarray(read_volume(tmp_path / "a.tif").array), stack())

    @staticmethod
    def parts(folder, lengths, *, positions=False, **options):
        """Write an OME-TIFF in parts, each of which names all; return all slices.

        They are one image, or, as `positions`, one each.
        """
        slices = stack((sum(lengths), 16, 16), np.uint16)
        names = [f"part{k}.ome.tif" for k in range(len(lengths))]
        places = [(n, k) for n, length in zip(names, lengths, strict=True) for k in range(length)]
        images = [[p for p in places if p[0] == n] for n in names] if positions else [places]
        told = "".join(
            f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="16" SizeY="16" SizeZ="{len(image)}" SizeC="1" SizeT="1">'
            + "".join(
                f'<TiffData IFD="{k}" FirstZ="{z}" FirstC="0" FirstT="0" PlaneCount="1">'
                f'<UUID FileName="{n}">urn:uuid:{n}</UUID></TiffData>'
                for z, (n, k) in enumerate(image)
            )
            + "</Pixels></Image>"
            for i, image in enumerate(images)
        )
        for name in names:
            text = f'<?xml version="1.0"?><OME UUID="urn:uuid:{name}">{told}</OME>'
            with tifffile.TiffWriter(folder / name) as tif:
                for plane in [slices[z] for z, (n, _) in enumerate(places) if n == name]:
                    tif.write(plane, description=text, metadata=None, contiguous=False, **options)
        return slices

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize(("part", "slices"), [(0, slice(3)), (1, slice(3, 7))])
    def test_positions_in_files_of_their_own(
        self, tmp_path, monkeypatch, part, slices, lazy, compression
    ):
        monkeypatch.setattr(tiff, "LOADED_AT_ONCE", 1 if lazy else 2**26)
        written = self.parts(tmp_path, [3, 4], positions=True, compression=compression)
        array = read_volume(tmp_path / f"part{part}.ome.tif").array
        assert isinstance(array, np.ndarray) != lazy
        np.testing.assert_array_equal(np.asarray(array), written[slices])
        np.testing.assert_array_equal(array[2], written[slices][2])

    @pytest.mark.parametrize("quote", ['"', "'"])
    def test_parts_are_files_of_the_image(self, tmp_path, quote):
        self.parts(tmp_path, [1, 2])
        first = tmp_path / "part0.ome.tif"
        tifffile.tiffcomment(first, tifffile.tiffcomment(first).replace('"', quote).encode())
        assert tiff.files_of(first) == [first, tmp_path / "part1.ome.tif"]

    @pytest.mark.parametrize("part", ["part0.ome.tif", "part1.ome.tif"])
    def test_ome_in_parts_of_different_length(self, tmp_path, part):
        slices = self.parts(tmp_path, [1, 5])
        np.testing.assert_array_equal(np.asarray(read_volume(tmp_path / part).array), slices)
        other = tmp_path / "part1.ome.tif"
        other.write_bytes(other.read_bytes()[:-600])
        with pytest.raises(FileError, match=r"part1\.ome\.tif is cut short"):
            read_volume(tmp_path / part)

    def test_a_folder_of_ome_parts_of_one_slice(self, tmp_path):
        slices = self.parts(tmp_path, [1, 1, 1])
        np.testing.assert_array_equal(read_volume(tmp_path).array[:], slices)

    @pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_cut_short(self, tmp_path, capfd, options, compression, share):
        path = tmp_path / "a.tif"
        noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64)).astype(np.uint16)
        tifffile.imwrite(path, noise, compression=compression, metadata={"axes": "ZYX"}, **options)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(FileError, match=r"cut short|damaged"):
            read_volume(path)
        assert capfd.readouterr().err == ""


class TestNifti:
    def test_what_nibabel_corrects_is_our_warning(self, tmp_path, labels, capfd):
        write_labels(tmp_path / "a.nii", labels)
        content = bytearray((tmp_path / "a.nii").read_bytes())
        content[80:84] = bytes(4)  # pixdim[1]
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.warns(FileWarning, match=r"^a\.nii: pixdim"):
            assert read_volume(tmp_path / "a.nii").array.shape == labels.shape
        content[70:72] = b"\x0f\x27"  # a type that there is not
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.raises(FileError, match="cannot be read"):
            read_volume(tmp_path / "a.nii")
        assert capfd.readouterr().err == ""

    AFFINE = np.array([[0, -0.75, 0, 10], [-0.5, 0, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])

    def image(self, path, data, kind=nibabel.Nifti1Image):
        image = kind(data, self.AFFINE)
        image.header.set_xyzt_units("mm")
        image.set_sform(self.AFFINE, 1)
        image.set_qform(self.AFFINE, 2)
        image.header["cal_max"] = 200
        nibabel.save(image, path)

    @pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    def test_slices_come_first_and_the_header_stays(self, tmp_path, labels, name, kind):
        data = stack((7, 6, 4), np.int16)
        self.image(tmp_path / name, data, kind)
        image = read_volume(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(image.array), data.transpose(2, 1, 0))
        assert image.spacing == pytest.approx(SPACING, rel=1e-3)
        assert image.unit == "millimeter"
        write_labels(tmp_path / ("out-" + name), labels, image)
        before, after = nibabel.load(tmp_path / name), nibabel.load(tmp_path / ("out-" + name))
        assert type(after) is kind
        np.testing.assert_allclose(after.affine, before.affine)
        for code in ("qform_code", "sform_code"):
            assert after.header[code] == before.header[code]
        assert after.header.get_xyzt_units()[0] == "mm"
        assert after.header["cal_max"] == 0
        assert after.header.get_intent()[0] == "label"
        assert (image.labels, read_volume(tmp_path / ("out-" + name)).labels) == (False, True)
        assert after.get_data_dtype() == labels.dtype
        np.testing.assert_array_equal(np.asarray(after.dataobj), labels.transpose(2, 1, 0))

    def test_scaled_intensities_are_read_by_slice(self, tmp_path, labels):
        image = nibabel.Nifti1Image(stack((7, 6, 4), np.float32), self.AFFINE)
        image.header.set_data_dtype(np.int16)
        image.header.set_slope_inter(0.5, 10)
        nibabel.save(image, tmp_path / "a.nii")
        volume = read_volume(tmp_path / "a.nii")
        assert not isinstance(volume.array, np.ndarray)
        np.testing.assert_allclose(volume.array[3], stack((7, 6, 4))[:, :, 3].T * 0.5 + 10)
        assert volume.array.dtype == np.float64, "what is read, not what is stored"
        write_labels(tmp_path / "b.nii", labels, volume)
        np.testing.assert_array_equal(np.asarray(read_volume(tmp_path / "b.nii").array), labels)

    def test_unscaled_is_mapped(self, tmp_path):
        self.image(tmp_path / "a.nii", stack((7, 6, 4)))
        array = read_volume(tmp_path / "a.nii").array
        while array.base is not None and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)

    @pytest.mark.parametrize("shape", [(7, 6, 4, 1), (7, 6, 1, 4)])
    def test_video_of_one_slice(self, tmp_path, labels, shape):
        self.image(tmp_path / "a.nii.gz", stack(shape))
        image = read_volume(tmp_path / "a.nii.gz")
        expected = stack(shape).reshape(7, 6, 4).transpose(2, 1, 0)
        np.testing.assert_array_equal(np.asarray(image.array), expected)
        write_labels(tmp_path / "b.nii.gz", labels, image)
        assert nibabel.load(tmp_path / "b.nii.gz").shape == shape

    def test_colour(self, tmp_path):
        kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        colours = stack((7, 6, 4, 3))
        data = np.ascontiguousarray(colours).view(kind)[..., 0]
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
        image = read_volume(tmp_path / "a.nii")
        assert image.channels_last
        np.testing.assert_array_equal(np.asarray(image.array), colours.transpose(2, 1, 0, 3))

    @pytest.mark.parametrize(
        ("shape", "time", "helps"),
        [
            ((7, 6, 4, 2), None, True),
            ((7, 6, 4, 1, 3), None, False),
            ((7, 6, 4, 1, 3), 0, False),
            ((7, 6, 4, 2, 3), None, False),
            ((7, 6, 4, 2, 3), 1, False),
        ],
    )
    def test_a_time_point_is_advised_where_it_helps(self, tmp_path, shape, time, helps):
        self.image(tmp_path / "a.nii", stack(shape))
        with pytest.raises(FileError, match="save one volume") as told:
            read_volume(tmp_path / "a.nii", time=time)
        assert ("--time" in str(told.value)) == helps

    @pytest.mark.parametrize(("code", "unit"), [(7, None), (64 + 2, "millimeter")])
    def test_a_code_of_no_unit_is_no_damage(self, tmp_path, labels, code, unit):
        write_labels(tmp_path / "a.nii", labels)
        content = bytearray((tmp_path / "a.nii").read_bytes())
        content[123] = code
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.warns(FileWarning, match=rf"^a\.nii gives its units by .*\({code}\)"):
            assert read_volume(tmp_path / "a.nii").unit == unit

    @pytest.mark.parametrize("qform", [0, 2])
    def test_a_place_that_is_not_finite_is_none(self, tmp_path, labels, qform):
        self.image(tmp_path / "a.nii", stack((7, 6, 4)))
        content = bytearray((tmp_path / "a.nii").read_bytes())
        header = nibabel.load(tmp_path / "a.nii").header.copy()
        header["srow_x"], header["qform_code"] = np.nan, qform
        content[:348] = header.binaryblock
        (tmp_path / "a.nii").write_bytes(content)
        write_labels(tmp_path / "b.nii", labels, read_volume(tmp_path / "a.nii"))
        again = nibabel.load(tmp_path / "b.nii")
        assert (again.header["sform_code"], again.header["qform_code"]) == (0, qform)
        assert again.header.get_zooms() == pytest.approx(SPACING[::-1])
        if qform:
            np.testing.assert_allclose(again.affine, self.AFFINE, atol=1e-5)

    def test_a_size_that_is_not_finite_is_refused_before_any_work(self, tmp_path):
        self.image(tmp_path / "a.nii", stack((7, 6, 4)))
        content = bytearray((tmp_path / "a.nii").read_bytes())
        header = nibabel.load(tmp_path / "a.nii").header.copy()
        header["srow_x"] = header["pixdim"][2] = np.nan
        content[:348] = header.binaryblock
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.raises(FileError, match="how large its voxels are"):
            read_volume(tmp_path / "a.nii")

    def test_scaled_labels_are_those_that_scaling_makes(self, tmp_path):
        image = nibabel.Nifti1Image(stack((7, 6, 4), np.float32), self.AFFINE)
        image.header.set_data_dtype(np.int16)
        image.header.set_slope_inter(2, 0)
        nibabel.save(image, tmp_path / "a.nii")
        labels = read_labels(tmp_path / "a.nii").array
        assert labels.dtype.kind == "u"
        np.testing.assert_array_equal(labels, stack((7, 6, 4), int).T * 2)

    def test_another_spacing_stretches_the_affine(self, tmp_path, labels):
        self.image(tmp_path / "a.nii", stack((7, 6, 4)))
        image = read_volume(tmp_path / "a.nii")
        wider = replace(image, spacing=(image.spacing[0] * 2, *image.spacing[1:]))
        write_labels(tmp_path / "b.nii", labels, wider)
        assert read_volume(tmp_path / "b.nii").spacing == pytest.approx(wider.spacing, rel=1e-5)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("share", [0.1, 0.9])
    def test_cut_short(self, tmp_path, name, share):
        noise = np.random.default_rng(0).integers(0, 255, (40, 40, 9)).astype(np.uint8)
        self.image(tmp_path / name, noise)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        with pytest.raises(FileError, match="cannot be read"):
            read_volume(tmp_path / name)


class TestZarr:
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_full_resolution_spacing_and_version(self, tmp_path, labels, version):
        write_ome_zarr(tmp_path / "in.zarr", stack(), version, scale=SPACING)
        image = read_volume(tmp_path / "in.zarr")
        np.testing.assert_array_equal(np.asarray(image.array), stack())
        assert (image.spacing, image.unit) == (SPACING, "micrometer")
        write_labels(tmp_path / "out.zarr", labels, image)
        attributes = dict(zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs)
        ome = attributes.get("ome", attributes)
        assert ("ome" in attributes) == (version == "0.5")
        assert [a["name"] for a in ome["multiscales"][0]["axes"]] == ["z", "y", "x"]
        again = read_volume(tmp_path / "out.zarr")
        assert (again.spacing, again.unit) == (SPACING, "micrometer")

    def test_singleton_time_and_channel_are_left_out(self, tmp_path):
        array = stack((1, 1, 4, 6, 7))
        write_ome_zarr(tmp_path / "a.zarr", array, "0.4", "tczyx", scale=(9.0, 1.0, *SPACING))
        image = read_volume(tmp_path / "a.zarr")
        assert image.spacing == SPACING
        np.testing.assert_array_equal(image.array[:, 2], array[0, 0, :, 2])

    @pytest.mark.parametrize(
        ("names", "types", "shape"),
        [
            (("slice", "row", "column"), "sss", (4, 6, 7)),
            (("sagittal", "coronal", "axial"), "sss", (4, 6, 7)),
            (("depth", "height", "width"), "sss", (4, 6, 7)),
            (("depth", "y", "x"), "sss", (4, 6, 7)),
            (("time", "row", "column"), "tss", (4, 6, 7)),
            (("c", "y", "x"), "sss", (4, 6, 7)),
            (("slice", "y", "x"), "---", (4, 6, 7)),
            (("stain", "slice", "row", "column"), "csss", (1, 4, 6, 7)),
            (("time", "channels", "slice", "row", "column"), "--sss", (1, 1, 4, 6, 7)),
            (("c", "z", "y", "x"), "ssss", (1, 4, 6, 7)),
        ],
    )
    def test_the_type_of_an_axis_decides_and_not_its_name(self, tmp_path, names, types, shape):
        kinds = {"s": "space", "t": "time", "c": "channel"}
        axes = [
            {"name": name, **({} if t == "-" else {"type": kinds[t]})}
            for name, t in zip(names, types, strict=True)
        ]
        write_ome_zarr(tmp_path / "a.zarr", stack(shape), "0.5", axes=names, axes_told=axes)
        image = read_volume(tmp_path / "a.zarr")
        assert not image.channels_last
        np.testing.assert_array_equal(np.asarray(image.array), stack())

    @pytest.mark.parametrize("order", ["xyz", "yxz", "xzy"])
    def test_axes_are_read_as_z_y_x_however_they_are_stored(self, tmp_path, labels, order):
        turned = ["zyx".index(a) for a in order]
        array = stack().transpose(turned)
        scale = [SPACING[a] for a in turned]
        moved = [{"type": "translation", "translation": [[1.0, 2.0, 3.0][a] for a in turned]}]
        write_ome_zarr(tmp_path / "a.zarr", array, "0.5", order, scale, unit="millimeter",
                       coordinateTransformations=moved)  # fmt: skip
        image = read_volume(tmp_path / "a.zarr")
        assert not isinstance(image.array, np.ndarray)
        np.testing.assert_array_equal(np.asarray(image.array), stack())
        np.testing.assert_array_equal(image.array[1], stack()[1])
        assert image.spacing == SPACING
        write_labels(tmp_path / "b.nii.gz", labels, image)
        assert nibabel.load(tmp_path / "b.nii.gz").header.get_zooms() == SPACING[::-1]
        write_labels(tmp_path / "b.zarr", labels, image)
        again = read_volume(tmp_path / "b.zarr")
        np.testing.assert_array_equal(np.asarray(again.array), labels)
        assert again.spacing == SPACING
        assert again.extra["translation"] == [1, 2, 3]
        assert [axis["name"] for axis in again.extra["axes"]] == ["z", "y", "x"]

    def test_a_film_and_a_series_that_are_stored_across(self, tmp_path):
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5", "txy")
        film = read_volume(tmp_path / "a.zarr")
        np.testing.assert_array_equal(np.asarray(film.array), stack().swapaxes(1, 2))
        series = stack((3, 4, 6, 7))
        write_ome_zarr(tmp_path / "b.zarr", series, "0.5", "txyz")
        for place, there in ((1, series[1]), ((1, 2), series[..., 2])):
            found = read_volume(tmp_path / "b.zarr", time=place)
            axes = (2, 1, 0) if place == 1 else (0, 2, 1)
            np.testing.assert_array_equal(np.asarray(found.array), there.transpose(axes))

    def test_a_series_whose_axes_have_long_names(self, tmp_path):
        axes = [{"name": "t", "type": "time"}] + [
            {"name": name, "type": "space"} for name in ("slice", "row", "column")
        ]
        array = stack((3, 4, 6, 7))
        write_ome_zarr(tmp_path / "a.zarr", array, "0.5", axes="tabd", axes_told=axes)
        for place, there in ((1, array[1]), ((1, 2), array[:, 2]), ((3, 5), array[..., 5])):
            found = read_volume(tmp_path / "a.zarr", time=place)
            np.testing.assert_array_equal(np.asarray(found.array), there)

    def test_channels_come_last(self, tmp_path):
        array = stack((3, 4, 6, 7))
        write_ome_zarr(tmp_path / "a.zarr", array, "0.5", "czyx", scale=(1.0, *SPACING))
        image = read_volume(tmp_path / "a.zarr")
        assert image.channels_last
        np.testing.assert_array_equal(image.array[2], np.moveaxis(array[:, 2], 0, -1))
        assert image.spacing == SPACING

    def test_scale_of_all_levels_and_offset(self, tmp_path, labels):
        more = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}]
        write_ome_zarr(
            tmp_path / "a.zarr", stack(), "0.4", scale=SPACING, coordinateTransformations=more
        )
        assert read_volume(tmp_path / "a.zarr").spacing == (5.0, 0.75, 0.5)

    @pytest.mark.parametrize(
        "scale", [[np.inf, 1, 1], [np.nan, 1, 1], [2, 0, 1], [2, -1, 1], [2], [1, 2, 1, 1]]
    )
    def test_a_scale_that_cannot_be_is_said(self, tmp_path, scale):
        more = [{"type": "translation", "translation": [1.0, 2.0, 3.0]}]
        path = tmp_path / "a.zarr"
        write_ome_zarr(path, stack(), "0.5", scale=scale, coordinateTransformations=more)
        with pytest.warns(FileWarning, match=r"^a\.zarr says .* taken as unknown"):
            volume = read_volume(path)
        assert volume.spacing is None
        assert volume.extra["translation"] == [0.0, 0.0, 0.0]

    def test_voxels_of_unknown_size_have_no_unit(self, tmp_path, labels):
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5", scale=SPACING)
        like = replace(read_volume(tmp_path / "a.zarr"), spacing=None)
        for of in (like, Volume(labels, None, unit="millimeter")):
            write_labels(tmp_path / "b.zarr", labels, of)
            assert read_volume(tmp_path / "b.zarr").unit is None

    def test_chunks_of_no_size_are_damage(self, tmp_path):
        path = tmp_path / "a.zarr"
        zarr.create_array(str(path), data=stack(), zarr_format=2)
        told = json.loads((path / ".zarray").read_text())
        (path / ".zarray").write_text(json.dumps({**told, "chunks": [0, *told["chunks"][1:]]}))
        with pytest.raises(FileError, match="damaged"):
            read_volume(path)

    def test_offset_is_kept(self, tmp_path, labels):
        like = Volume(labels, SPACING, format="zarr", extra={"translation": [1.0, 2.0, 3.0]})
        write_labels(tmp_path / "a.zarr", labels, like)
        assert read_volume(tmp_path / "a.zarr").extra["translation"] == [1.0, 2.0, 3.0]

    def test_a_label_group_inside(self, tmp_path, labels):
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5", scale=SPACING)
        write_ome_zarr(tmp_path / "a.zarr" / "labels" / "cells", labels, "0.5", scale=SPACING)
        inner = read_labels(tmp_path / "a.zarr" / "labels" / "cells")
        np.testing.assert_array_equal(np.asarray(inner.array), labels)

    def test_bare_array(self, tmp_path):
        zarr.save_array(str(tmp_path / "a.zarr"), stack())
        image = read_volume(tmp_path / "a.zarr")
        assert image.spacing is None
        np.testing.assert_array_equal(image.array[1], stack()[1])

    def test_a_folder_of_that_name_is_refused(self, tmp_path):
        (tmp_path / "a.zarr").mkdir()
        with pytest.raises(FileError, match="no Zarr folder"):
            read_volume(tmp_path / "a.zarr")

    def test_a_group_without_image_is_refused(self, tmp_path):
        zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
        with pytest.raises(FileError, match="no OME-Zarr image"):
            read_volume(tmp_path / "a.zarr")

    def test_damaged_metadata(self, tmp_path):
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5")
        (tmp_path / "a.zarr" / "zarr.json").write_text("{")
        with pytest.raises(FileError, match="cannot be read"):
            read_volume(tmp_path / "a.zarr")

    def test_damaged_chunk(self, tmp_path):
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5")
        for chunk in (tmp_path / "a.zarr" / "s0" / "c").rglob("0"):
            if chunk.is_file():
                chunk.write_bytes(b"nothing")
        array = read_volume(tmp_path / "a.zarr").array
        with pytest.raises(FileError, match="damaged"):
            array[0]


class TestUnits:
    """Numbers of one unit are never those of another."""

    # fmt: off
    OME = ("Ym", "Zm", "Em", "Pm", "Tm", "Gm", "Mm", "km", "hm", "dam", "m", "dm", "cm", "mm",
           "\u00b5m", "nm", "pm", "fm", "am", "zm", "ym", "\u00c5", "thou", "li", "in", "ft", "yd",
           "mi", "ua", "ly", "pc", "pt")
    NGFF = ("angstrom", "attometer", "centimeter", "decimeter", "exameter", "femtometer", "foot",
            "gigameter", "hectometer", "inch", "kilometer", "megameter", "meter", "micrometer",
            "mile", "millimeter", "nanometer", "parsec", "petameter", "picometer", "terameter",
            "yard", "yoctometer", "yottameter", "zeptometer", "zettameter")
    # fmt: on

    def test_the_table_knows_what_ome_and_ngff_can_say(self):
        assert [units.symbol(units.length_unit(name)) for name in self.OME] == [*self.OME]
        assert [units.length_unit(name) for name in self.NGFF] == [*self.NGFF]
        assert all(units.symbol(name) for name in self.NGFF)
        for text in ("um", "\u03bcm", "micron", "Microns", "\\u00B5m", "micrometre"):
            assert units.length_unit(text) == "micrometer"
        assert [units.length_unit(text) for text in ("", "pixel", None, 3)] == [None] * 4
        assert units.time_unit("sec") == "second"

    def ome(self, path, sizes):
        metadata = {"axes": "ZYX"}
        for axis, (size, unit) in zip("ZYX", sizes, strict=True):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
        tifffile.imwrite(path, stack(), ome=True, metadata=metadata)

    def imagej(self, path, unit, **more):
        metadata = {"axes": "ZYX", "spacing": 0.3, "unit": unit, **more}
        tifffile.imwrite(path, stack(), imagej=True, resolution=(20, 20), metadata=metadata)

    @pytest.mark.parametrize(
        ("kind", "unit", "millimetres"),
        [
            ("imagej", "cm", 10),
            ("imagej", "inch", 25.4),
            ("imagej", "\\u00C5", 1e-7),
            ("imagej", "furlong", None),
            ("ome", "cm", 10),
            ("ome", "\u00c5", 1e-7),
            ("ome", "pixel", None),
            ("zarr", "angstrom", 1e-7),
            ("zarr", "foot", 304.8),
            ("zarr", "furlong", None),
        ],
    )
    def test_nifti_is_in_millimetres_or_in_nothing_known(
        self, tmp_path, labels, kind, unit, millimetres
    ):
        path, sizes = tmp_path / ("a.zarr" if kind == "zarr" else "a.tif"), (0.3, 0.05, 0.05)
        if kind == "imagej":
            self.imagej(path, unit)
        elif kind == "ome":
            self.ome(path, [(size, unit) for size in sizes])
        else:
            write_ome_zarr(path, stack(), "0.5", scale=sizes, unit=unit)
        image = read_volume(path)
        assert image.spacing == pytest.approx(sizes)
        write_labels(tmp_path / "b.nii.gz", labels, image)
        header = nibabel.load(tmp_path / "b.nii.gz").header
        assert header.get_xyzt_units()[0] == ("mm" if millimetres else "unknown")
        factor = millimetres or 1
        assert header.get_zooms() == pytest.approx([s * factor for s in reversed(sizes)])

    @pytest.mark.parametrize("name", ["b.tif", "b.ome.tif", "b.zarr"])
    @pytest.mark.parametrize("unit", ["cm", "\u00c5", "in", "\u00b5m", "furlong"])
    def test_a_unit_survives_every_format_that_has_it(self, tmp_path, labels, unit, name):
        named = units.length_unit(unit)
        write_labels(tmp_path / name, labels, Volume(labels, SPACING, unit=named))
        again = read_volume(tmp_path / name)
        assert again.spacing == pytest.approx(SPACING)
        assert again.unit == (None if (name, unit) == ("b.ome.tif", "furlong") else named)

    def test_what_ome_cannot_hold_says_its_unit_too(self, tmp_path, labels):
        wide = labels.astype(np.uint64)
        write_labels(tmp_path / "a.tif", wide, Volume(wide, SPACING, unit="centimeter"))
        assert read_volume(tmp_path / "a.tif").unit == "centimeter"

    def test_axes_of_different_units_are_brought_to_one(self, tmp_path, labels):
        self.ome(tmp_path / "a.tif", [(0.5, "mm"), (0.05, "cm"), (0.05, "cm")])
        self.imagej(tmp_path / "b.tif", "cm", zunit="mm")
        write_ome_zarr(tmp_path / "c.zarr", stack(), "0.5", scale=(5.0, 2.0, 1.0),
                       unit=["nanometer", "angstrom", "nanometer"],
                       coordinateTransformations=[{"type": "translation",
                                                   "translation": [1.0, 10.0, 1.0]}])  # fmt: skip
        for name, spacing, unit in (
            ("a.tif", (0.05, 0.05, 0.05), "centimeter"),
            ("b.tif", (0.03, 0.05, 0.05), "centimeter"),
            ("c.zarr", (5.0, 0.2, 1.0), "nanometer"),
        ):
            image = read_volume(tmp_path / name)
            assert image.spacing == pytest.approx(spacing)
            assert image.unit == unit
        write_labels(tmp_path / "d.zarr", labels, image)
        again = read_volume(tmp_path / "d.zarr")
        assert again.spacing == pytest.approx(spacing)
        assert again.extra["translation"] == pytest.approx([1, 1, 1])

    def test_axes_that_cannot_be_compared_have_no_common_unit(self, tmp_path):
        own = ["furlong", "micrometer", "micrometer"]
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5", scale=SPACING, unit=own)
        image = read_volume(tmp_path / "a.zarr")
        assert (image.spacing, image.unit) == (SPACING, None)
        assert [axis["unit"] for axis in image.extra["axes"]] == own


class TestFolderOfImages:
    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
    def test_numbers_sort_as_numbers(self, tmp_path, suffix):
        for k in range(12):
            plane = np.full((6, 7), k, np.uint8)
            if suffix == "tif":
                tifffile.imwrite(tmp_path / f"s{k}.tif", plane)
            else:
                Image.fromarray(plane).save(tmp_path / f"s{k}.{suffix}")
        (tmp_path / "notes.txt").write_text("not a slice")
        image = read_volume(tmp_path)
        assert np.asarray(image.array)[:, 0, 0].tolist() == list(range(12))
        np.testing.assert_array_equal(image.array[:, 2].shape, (12, 7))

    def test_colour(self, tmp_path):
        for k in range(3):
            Image.fromarray(stack((6, 7, 3))).save(tmp_path / f"{k}.png")
        image = read_volume(tmp_path)
        assert image.channels_last
        assert image.array[1].shape == (6, 7, 3)

    @pytest.mark.parametrize(
        "names",
        [
            ["img2", "img3", "img10", "img"],  # as in napari
            ["x²1", "x²2", "x²10"],
            ["1²1", "1²2", "2²1"],
            ["frame1", "Frame2", "frame3", "Frame10"],
            ["1_left", "2_left", "10_left"],
        ],
    )
    def test_order_of_names(self, tmp_path, names):
        for k in (*range(1, len(names)), 0):
            Image.fromarray(np.full((6, 7), k, np.uint8)).save(tmp_path / f"{names[k]}.png")
        planes = np.asarray(read_volume(tmp_path).array)
        assert [names[k] for k in planes[:, 0, 0]] == names

    def test_a_palette_is_colours_of_an_image_and_ids_of_labels(self, tmp_path):
        ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
        palette = np.array([[9, 8, 7], [200, 10, 3], [0, 0, 0], [1, 2, 3], [255, 0, 9], [7, 7, 7]])
        for k in range(2):
            image = Image.fromarray(ids)
            image.putpalette(palette.astype(np.uint8).tobytes())
            image.save(tmp_path / f"{k}.png")
        Image.fromarray(palette[ids].astype(np.uint8)).save(tmp_path / "2.png")
        image = read_volume(tmp_path)
        assert image.channels_last
        np.testing.assert_array_equal(image.array[:], np.stack([palette[ids]] * 3))
        (tmp_path / "2.png").unlink()
        np.testing.assert_array_equal(read_labels(tmp_path).array[:], np.stack([ids] * 2))

    @pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
    def test_labels_are_no_jpegs(self, tmp_path, suffix):
        Image.fromarray(np.zeros((6, 7), np.uint8)).save(tmp_path / "0.png")
        Image.fromarray(np.full((6, 7), 255, np.uint8)).save(tmp_path / f"1{suffix}")
        assert read_volume(tmp_path).array.shape == (2, 6, 7)
        with pytest.raises(PromptError, match=f"1{suffix} is a JPEG, .*: save them as PNG or TIFF"):
            read_labels(tmp_path)

    def test_result_has_the_names_of_the_images(self, tmp_path, labels):
        (tmp_path / "in").mkdir()
        for k in range(4):
            Image.fromarray(stack((6, 7))).save(tmp_path / "in" / f"frame{k}.jpg")
        write_labels(tmp_path / "out", labels, read_volume(tmp_path / "in"))
        assert sorted(p.name for p in (tmp_path / "out").glob("*.*")) == [
            ".imos-slices",
            *(f"frame{k}.png" for k in range(4)),
        ]
        np.testing.assert_array_equal(read_labels(tmp_path / "out").array[:], labels)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"imagej": True, "metadata": {"axes": "ZYX"}},
            {"ome": True, "metadata": {"axes": "TYX"}},
        ],
    )
    @pytest.mark.parametrize("pages", [2, 5])
    def test_files_of_several_pages_are_no_colours(self, tmp_path, options, pages):
        for k in range(4):
            tifffile.imwrite(
                tmp_path / f"{k}.tif", stack((pages, 6, 7)), photometric="minisblack", **options
            )
        with pytest.raises(FileError, match=r"0\.tif holds more than one image"):
            read_volume(tmp_path)

    @pytest.mark.parametrize("config", ["contig", "separate"])
    def test_colours_of_a_tiff_come_last(self, tmp_path, config):
        colours = stack((6, 7, 3))
        written = colours if config == "contig" else np.moveaxis(colours, -1, 0)
        for k in range(2):
            tifffile.imwrite(tmp_path / f"{k}.tif", written, photometric="rgb", planarconfig=config)
        image = read_volume(tmp_path)
        assert image.channels_last
        np.testing.assert_array_equal(image.array[1], colours)

    def test_a_slice_as_narrow_as_a_pixel(self, tmp_path):
        for k in range(2):
            tifffile.imwrite(tmp_path / f"{k}.tif", stack((6, 1)))
        assert read_volume(tmp_path).array.shape == (2, 6, 1)

    def test_empty(self, tmp_path):
        with pytest.raises(FileError, match="no images"):
            read_volume(tmp_path)

    def test_damaged_first_image(self, tmp_path):
        (tmp_path / "0.png").write_bytes(b"no png")
        with pytest.raises(FileError, match="damaged"):
            read_volume(tmp_path)

    def test_images_of_different_sizes(self, tmp_path):
        for k in range(3):
            Image.fromarray(stack((6, 7 + k))).save(tmp_path / f"{k}.png")
        with pytest.raises(FileError, match="alike"):
            read_volume(tmp_path).array[1]

    def test_images_of_different_types(self, tmp_path):
        for k, dtype in enumerate((np.uint8, np.uint16)):
            Image.fromarray(np.ones((6, 7), dtype)).save(tmp_path / f"{k}.png")
        with pytest.raises(FileError, match=r"type uint16, but .* uint8: all must be alike"):
            read_volume(tmp_path).array[1]


class TestTimePoints:
    SHAPE = (3, 4, 6, 7)

    def write(self, folder, kind):
        """Write a series of volumes with spacing where the format has one; return its name."""
        array = stack(self.SHAPE)
        path = folder / ("series.zarr" if "zarr" in kind else f"series.{kind}")
        if kind == "tif":
            tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZYX"})
        elif kind == "ome.tif":
            tifffile.imwrite(path, array, ome=True, metadata={"axes": "TZYX"})
        elif kind in ("nii", "nii.gz"):
            image = nibabel.Nifti1Image(array.transpose(3, 2, 1, 0), np.eye(4))
            image.header.set_zooms((0.5, 0.75, 2.5, 9.0))
            nibabel.save(image, path)
        elif kind == "ome-zarr":
            write_ome_zarr(path, array, "0.5", "tzyx", scale=(9.0, *SPACING))
        elif kind == "plain-zarr":
            zarr.save_array(str(path), array)
        else:
            np.save(path, array)
        return path, array

    KINDS = ("tif", "ome.tif", "nii", "nii.gz", "ome-zarr", "plain-zarr", "npy")

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("time", [0, 2])
    def test_one_is_read(self, tmp_path, kind, time):
        path, array = self.write(tmp_path, kind)
        image = read_volume(path, time=time)
        assert not image.channels_last
        assert image.array.shape == self.SHAPE[1:]
        np.testing.assert_array_equal(np.asarray(image.array), array[time])
        np.testing.assert_array_equal(image.array[1], array[time, 1])
        if kind in ("nii", "nii.gz", "ome-zarr"):
            assert image.spacing == SPACING

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_are_read(self, tmp_path, kind):
        path, array = self.write(tmp_path, kind)
        image = read_volume(path, series=True)
        assert not image.channels_last
        np.testing.assert_array_equal(np.asarray(image.array), array)
        if kind in ("nii", "nii.gz", "ome-zarr"):
            assert (image.spacing, image.names) == (SPACING, "tzyx")
            assert image.levels == (2 if kind == "ome-zarr" else 1)

    def test_five_axes_are_too_many_for_all(self, tmp_path):
        write_ome_zarr(tmp_path / "a.zarr", stack((2, 3, 2, 6, 7)), "0.5", "tazyx")
        with pytest.raises(FileError, match=r"more than four axes .*: save one volume of it"):
            read_volume(tmp_path / "a.zarr", series=True)

    @pytest.mark.parametrize("axes", ["ztyx", "czytx"])
    @pytest.mark.parametrize("name", ["a.zarr", "a.ome.tif"])
    def test_time_is_first_wherever_it_is_stored(self, tmp_path, name, axes):
        if name == "a.ome.tif" and axes == "czytx":
            pytest.skip("OME-TIFF knows no such order")
        array = stack((2, 3, 4, 6, 7))  # c, t, z, y, x
        stored = np.einsum(f"ctzyx->{axes}", array if "c" in axes else array[:1])
        if name == "a.zarr":
            sizes = {"t": 30.0, "c": 1.0, **dict(zip("zyx", SPACING, strict=True))}
            write_ome_zarr(tmp_path / name, stored, "0.5", axes, [sizes[a] for a in axes])
        else:
            sizes = {f"PhysicalSize{a}": s for a, s in zip("ZYX", SPACING, strict=True)}
            metadata = {"axes": axes.upper(), "TimeIncrement": 30, **sizes}
            tifffile.imwrite(tmp_path / name, stored, metadata=metadata)
        wanted = np.moveaxis(array, 0, -1) if "c" in axes else array[0]
        whole = read_volume(tmp_path / name, series=True)
        np.testing.assert_array_equal(np.asarray(whole.array), wanted)
        assert (whole.spacing, whole.film, whole.interval[0]) == (SPACING, False, 30)
        for place, there in ((1, wanted[1]), ((1, 2), wanted[:, 2]), ((2, 3), wanted[:, :, 3])):
            found = read_volume(tmp_path / name, time=place)
            np.testing.assert_array_equal(np.asarray(found.array), there)
            assert found.film == (place != 1)

    @pytest.mark.parametrize(
        ("axes", "shape", "names"),
        [("TZYX", (3, 4, 6, 7), "tzyx"), ("TCYX", (3, 2, 6, 7), "tyxc"), ("QYX", (4, 6, 7), "nyx")],
    )
    def test_axes_of_tiff_have_names(self, tmp_path, axes, shape, names):
        told = {"axes": axes}
        tifffile.imwrite(tmp_path / "a.tif", stack(shape), photometric="minisblack", metadata=told)
        assert read_volume(tmp_path / "a.tif", series=True).names == names

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("axis", [1, 2, 3])
    def test_a_film_of_one_slice_is_read(self, tmp_path, kind, axis):
        path, array = self.write(tmp_path, kind)
        image = read_volume(path, time=(axis, 1))
        wanted = np.moveaxis(array, axis, 0)[1]
        np.testing.assert_array_equal(np.asarray(image.array), wanted)
        with pytest.raises(FileError, match="has slices 0 to"):
            read_volume(path, time=(axis, 99))

    @pytest.mark.parametrize("kind", KINDS)
    def test_one_that_is_not_there(self, tmp_path, kind):
        path, _ = self.write(tmp_path, kind)
        with pytest.raises(FileError, match="time points 0 to 2, not 3: choose another"):
            read_volume(path, time=3)

    @pytest.mark.parametrize("kind", ["nii", "nii.gz"])
    def test_the_result_has_the_header_of_one(self, tmp_path, kind, labels):
        path, _ = self.write(tmp_path, kind)
        write_labels(tmp_path / "out.nii.gz", labels, read_volume(path, time=1))
        again = read_volume(tmp_path / "out.nii.gz")
        assert again.spacing == SPACING
        np.testing.assert_array_equal(np.asarray(again.array), labels)

    def test_a_single_volume_has_none(self, tmp_path, labels):
        write_labels(tmp_path / "a.tif", labels)
        with pytest.raises(FileError, match="no time points beside its slices"):
            read_volume(tmp_path / "a.tif", time=0)
        (tmp_path / "slices").mkdir()
        write_labels(tmp_path / "slices", labels)
        with pytest.raises(FileError, match="folder of slices: choose no time point"):
            read_volume(tmp_path / "slices", time=0)

    def test_labels_of_one_volume_are_those_of_any(self, tmp_path, labels):
        write_labels(tmp_path / "one.tif", labels)
        np.testing.assert_array_equal(read_labels(tmp_path / "one.tif", 5).array, labels)
        path, array = self.write(tmp_path, "npy")
        np.testing.assert_array_equal(read_labels(path, 1).array, array[1])

    @pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
    def test_a_series_of_labels_is_written(self, tmp_path, labels, name):
        both = np.stack([labels, labels[::-1]])
        write_labels(tmp_path / name, both, Volume(both, SPACING))
        for time in (0, 1):
            again = read_volume(tmp_path / name, time=time)
            assert again.spacing == pytest.approx(SPACING)
            np.testing.assert_array_equal(np.asarray(again.array), both[time])
        if name == "a.tif":
            np.testing.assert_array_equal(tifffile.imread(tmp_path / name), both)

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_time_is_not_halved_in_a_pyramid(self, tmp_path, version):
        large = np.random.default_rng(0).integers(0, 9, (3, 20, 600, 310)).astype(np.uint16)
        write_ome_zarr(tmp_path / "image.zarr", large[0], version, "zyx", scale=(1.0, 2.0, 2.0))
        like = read_volume(tmp_path / "image.zarr")
        write_labels(tmp_path / "out.zarr", large, like)
        coarse = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")["labels/out/1"]
        assert coarse.shape == (3, 20, 300, 155)
        np.testing.assert_array_equal(coarse[:], large[:, :, ::2, ::2])
        assert coarse.chunks == (1, 16, 256, 155)
        again = read_volume(tmp_path / "out.zarr", time=2)
        assert again.spacing == (1.0, 2.0, 2.0)
        np.testing.assert_array_equal(np.asarray(again.array), large[2])


class TestTimeStep:
    """How long it is from one frame to the next goes along, and frames stay frames."""

    def write(self, path, array):
        """Write a film or a series, 2.5 s from one to the next; return it as read."""
        axes = "tzyx"[-array.ndim :] if array.ndim == 4 else "tyx"
        if path.suffix == ".zarr":
            told = [
                {"name": a, "type": "time", "unit": "second"}
                if a == "t"
                else {"name": a, "type": "space", "unit": "micrometer"}
                for a in axes
            ]
            scale = (2.5, *SPACING[-array.ndim + 1 :])
            write_ome_zarr(path, array, "0.5", axes, scale, axes_told=told)
        elif path.name.endswith(".ome.tif"):
            more = {"TimeIncrement": 2500, "TimeIncrementUnit": "ms"}
            tifffile.imwrite(path, array, ome=True, metadata={"axes": axes.upper(), **more})
        elif path.suffix == ".tif":
            metadata = {"axes": axes.upper(), "finterval": 2.5}
            tifffile.imwrite(path, array, imagej=True, metadata=metadata)
        else:
            image = nibabel.Nifti1Image(array.T, np.eye(4))
            image.header.set_zooms((0.5, 0.75, 2.5, 2500))
            image.header.set_xyzt_units("mm", "msec")
            nibabel.save(image, path)
        return read_volume(path, time=1 if array.ndim == 4 else None)

    @staticmethod
    def seconds(volume):
        step, unit = volume.interval
        return units.converted(step, unit, "second")

    FILMS = ("a.tif", "a.ome.tif", "a.zarr")

    @pytest.mark.parametrize("name", FILMS)
    @pytest.mark.parametrize("out", ["b.tif", "b.ome.tif", "b.zarr", "b.nii.gz"])
    def test_a_film_stays_one(self, tmp_path, labels, name, out):
        image = self.write(tmp_path / name, stack())
        assert image.film
        write_labels(tmp_path / out, labels, image)
        again = read_volume(tmp_path / out)
        assert again.film
        assert self.seconds(again) == pytest.approx(2.5)
        np.testing.assert_array_equal(np.asarray(again.array), labels)
        if out.endswith("tif"):
            with tifffile.TiffFile(tmp_path / out) as tif:
                assert tif.series[0].axes == "TYX"
        if name == "a.zarr":
            scale = units.converted(1.0, again.unit, image.unit)
            assert np.multiply(again.spacing[1:], scale) == pytest.approx(SPACING[1:])

    @pytest.mark.parametrize("name", [*FILMS, "a.nii.gz"])
    @pytest.mark.parametrize("out", ["b.tif", "b.ome.tif", "b.zarr"])
    def test_a_series_keeps_its_step(self, tmp_path, labels, name, out):
        image = self.write(tmp_path / name, stack((3, 4, 6, 7)))
        assert not image.film
        assert self.seconds(image) == pytest.approx(2.5)
        write_labels(tmp_path / out, np.stack([labels] * 3), image)
        again = read_volume(tmp_path / out, time=0)
        assert self.seconds(again) == pytest.approx(2.5)
        if out == "b.zarr":
            told = zarr.open_group(str(tmp_path / out), mode="r").attrs["ome"]["multiscales"][0]
            assert told["axes"][0]["type"] == "time"

    @pytest.mark.parametrize("name", [*FILMS, "a.nii.gz"])
    @pytest.mark.parametrize("out", ["b.tif", "b.ome.tif", "b.zarr", "b.nii.gz"])
    def test_another_spacing_says_nothing_of_time(self, tmp_path, labels, name, out):
        """As that of a layer, which counts it in steps."""
        if name == "a.nii.gz":
            image = nibabel.Nifti1Image(stack().T[:, :, None], np.diag((0.5, 0.75, 1, 1)))
            image.header.set_zooms((0.5, 0.75, 1, 2.5))
            image.header.set_xyzt_units("mm", "sec")
            nibabel.save(image, tmp_path / name)
            image = read_volume(tmp_path / name)
        else:
            image = self.write(tmp_path / name, stack())
        image = replace(image, spacing=(1.0, 0.2, 0.4), unit=image.unit or "micrometer")
        write_labels(tmp_path / out, labels, image)
        again = read_volume(tmp_path / out)
        assert again.film
        assert self.seconds(again) == pytest.approx(2.5)
        scale = units.converted(1.0, again.unit, image.unit)
        assert np.multiply(again.spacing[1:], scale) == pytest.approx((0.2, 0.4))
        if name == "a.nii.gz" and out == "b.nii.gz":
            np.testing.assert_allclose(abs(again.extra["affine"][:3, :3]).max(0), (0.4, 0.2, 1))

    @pytest.mark.parametrize("step", [0, np.nan])
    @pytest.mark.parametrize("out", ["b.tif", "b.zarr", "b.nii.gz"])
    def test_a_film_that_says_no_time_keeps_the_size_of_its_pixels(
        self, tmp_path, labels, out, step
    ):
        image = nibabel.Nifti1Image(stack().T[:, :, None], np.diag((0.5, 0.75, 1, 1)))
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = step
        nibabel.save(image, tmp_path / "a.nii.gz")
        film = read_volume(tmp_path / "a.nii.gz")
        write_labels(tmp_path / out, labels, film)
        for found in (film, read_volume(tmp_path / out)):
            assert found.spacing[1:] == (0.75, 0.5)
            assert (found.unit, found.film) == ("millimeter", True)
            assert found.interval in (None, (1.0, None))  # a step of OME-Zarr, without a unit

    @pytest.mark.parametrize("depth", [{}, {"PhysicalSizeZ": 2.0}])
    @pytest.mark.parametrize("out", ["b.tif", "b.ome.tif"])
    def test_a_film_has_the_depth_that_its_file_says(self, tmp_path, labels, out, depth):
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.75, **depth}
        metadata = {"axes": "TYX", "TimeIncrement": 2.5, **sizes}
        tifffile.imwrite(tmp_path / "a.ome.tif", stack(), metadata=metadata)
        image = read_volume(tmp_path / "a.ome.tif")
        image = replace(image, extra={**image.extra, "kind": "ome" if "ome" in out else "imagej"})
        write_labels(tmp_path / out, labels, image)
        with tifffile.TiffFile(tmp_path / out) as tif:
            told = "PhysicalSizeZ=" in (tif.ome_metadata or "") or "spacing" in (
                tif.imagej_metadata or {}
            )
        assert told == bool(depth)
        again = read_volume(tmp_path / out)
        assert again.spacing == pytest.approx((2.0 if depth else 0.75, 0.75, 0.5))
        assert self.seconds(again) == pytest.approx(2.5)

    def test_without_a_unit_it_is_not_called_seconds(self, tmp_path, labels):
        write_ome_zarr(tmp_path / "a.zarr", stack(), "0.5", "tyx", (9.0, 1.0, 1.0))
        image = read_volume(tmp_path / "a.zarr")
        for name in ("b.tif", "b.ome.tif", "b.nii.gz"):
            write_labels(tmp_path / name, labels, image)
            again = read_volume(tmp_path / name)
            assert (again.film, again.interval) == (True, None)

    def test_slices_of_every_step_are_put_back_as_they_were(self, tmp_path, labels):
        path = tmp_path / "a.zarr"
        write_ome_zarr(path, stack((3, 4, 6, 7)), "0.5", "tzyx", (9.0, *SPACING))
        image = read_volume(path, time=(1, 0))
        write_labels(tmp_path / "b.zarr", np.stack([labels] * 3), image)
        told = zarr.open_group(str(tmp_path / "b.zarr"), mode="r").attrs["ome"]["multiscales"][0]
        assert [axis["name"] for axis in told["axes"]] == list("tzyx")
        assert read_volume(tmp_path / "b.zarr", time=0).spacing == SPACING


class TestRefusals:
    @pytest.mark.parametrize("name", ["a.tif", "a.nii.gz", "a.zarr", "a.npy", "a"])
    def test_missing(self, tmp_path, name):
        with pytest.raises(FileError, match="does not exist"):
            read_volume(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.nii", "a.nii.gz", "a.npy"])
    @pytest.mark.parametrize("content", [b"", b"this is text, whatever its name says\n" * 20])
    def test_wrong_content(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match="cannot be read"):
            read_volume(tmp_path / name)

    def test_gzip_of_something_else(self, tmp_path):
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"text" * 400))
        with pytest.raises(FileError, match="cannot be read"):
            read_volume(tmp_path / "a.nii.gz")

    def test_unknown_type(self, tmp_path):
        (tmp_path / "a.docx").write_bytes(b"PK")
        with pytest.raises(FileError, match="no known type"):
            read_volume(tmp_path / "a.docx")

    @pytest.mark.parametrize("name", ["series", "slice.dcm", "series/IM0001"])
    def test_dicom_says_how_to_get_on(self, tmp_path, name):
        (tmp_path / "series").mkdir()
        for file in ("series/IM0001", "series/IM0002", "slice.dcm"):
            (tmp_path / file).write_bytes(bytes(128) + b"DICM" + bytes(50))
        with pytest.raises(FileError, match=r"is DICOM.*convert the series to NIfTI"):
            read_volume(tmp_path / name)

    def test_npy_cut_short(self, tmp_path):
        np.save(tmp_path / "a.npy", stack())
        content = (tmp_path / "a.npy").read_bytes()
        (tmp_path / "a.npy").write_bytes(content[:-20])
        with pytest.raises(FileError, match="cut short"):
            read_volume(tmp_path / "a.npy")

    def test_npy_of_objects(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{}, {}]), allow_pickle=True)
        with pytest.raises(FileError):
            read_volume(tmp_path / "a.npy")

    def test_npy_of_words(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([["a", "b"]]))
        with pytest.raises(FileError, match="holds no image"):
            read_volume(tmp_path / "a.npy")

    @pytest.mark.parametrize(("name", "module"), [("a.nii", "nibabel"), ("a.zarr", "zarr")])
    def test_missing_extra(self, tmp_path, monkeypatch, labels, name, module):
        write_labels(tmp_path / name, labels)
        real = builtins.__import__

        def without(wanted, *args, **kwargs):
            if wanted.split(".")[0] == module:
                raise ImportError(wanted)
            return real(wanted, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(FileError, match=r'pip install "napari-imos\[files\]"'):
            read_volume(tmp_path / name)


class TestLabels:
    def test_whole_floats_are_labels(self, tmp_path, labels):
        nibabel.save(
            nibabel.Nifti1Image(labels.astype(np.float64).T, np.eye(4)), tmp_path / "a.nii.gz"
        )
        found = read_labels(tmp_path / "a.nii.gz").array
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, labels)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_integers_with_a_scale_factor_are_labels(self, tmp_path, labels, name):
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape(labels.T.shape)
        header["scl_slope"], header["vox_offset"], header["magic"] = 0.5, 352, b"n+1"
        pixels = (labels.T * 2).astype(np.int16).tobytes(order="F")
        content = header.binaryblock + bytes(4) + pixels
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert read_volume(tmp_path / name).array.dtype.kind == "f"
        found = read_labels(tmp_path / name).array
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, labels)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize(("stored", "highest"), [("u1", 3), ("u1", 50), ("i2", 4000)])
    def test_floats_that_a_scale_factor_has_rounded(self, tmp_path, labels, name, stored, highest):
        labels = labels.astype(np.uint16)
        labels[0, 0, :4] = (0, 1, 2, highest)
        image = nibabel.Nifti1Image(labels.T.astype(float), np.eye(4))
        image.header.set_data_dtype(stored)
        nibabel.save(image, tmp_path / name)
        assert (np.asarray(read_volume(tmp_path / name).array) % 1).any()
        np.testing.assert_array_equal(read_labels(tmp_path / name).array, labels)

    @pytest.mark.parametrize("slope", [1 / 255, 0.3, 0.9])
    def test_what_was_scaled_and_is_no_labels(self, tmp_path, slope):
        image = nibabel.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
        image.header.set_data_dtype(np.uint8)
        image.header.set_slope_inter(slope, 0)
        nibabel.save(image, tmp_path / "a.nii")
        with pytest.raises(PromptError, match="whole numbers"):
            read_labels(tmp_path / "a.nii")

    @pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, -1.0])
    def test_other_floats_are_not(self, tmp_path, labels, bad):
        values = labels.astype(np.float32)
        values[1, 2, 3] = bad
        nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), tmp_path / "a.nii")
        with pytest.raises(PromptError, match="whole numbers"):
            read_labels(tmp_path / "a.nii")

    def test_floats_from_elsewhere_are_not(self, tmp_path, labels):
        np.save(tmp_path / "a.npy", labels.astype(np.float32))
        with pytest.raises(PromptError, match="to integers"):
            read_labels(tmp_path / "a.npy")

    def test_colours_are_not(self, tmp_path):
        np.save(tmp_path / "a.npy", stack((4, 6, 7, 3)))
        with pytest.raises(PromptError, match="colours"):
            read_labels(tmp_path / "a.npy")


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
class TestAtomic:
    def test_an_older_result_is_replaced(self, tmp_path, labels, name):
        write_labels(tmp_path / name, labels)
        write_labels(tmp_path / name, labels + 1)
        np.testing.assert_array_equal(np.asarray(read_volume(tmp_path / name).array), labels + 1)
        assert [p.name for p in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize(
        ("failure", "seen"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), FileError),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ],
    )
    def test_failing_half_way_leaves_the_older_result(
        self, tmp_path, monkeypatch, labels, name, failure, seen
    ):
        write_labels(tmp_path / name, labels)
        before = tree(tmp_path)
        kind = io._kind_of_name(tmp_path / name) or "images"
        write = io._WRITERS[kind]

        def half(path, array, like, *name):
            write(path, array, like, *name)
            raise failure

        monkeypatch.setitem(io._WRITERS, kind, half)
        with pytest.raises(seen):
            write_labels(tmp_path / name, labels + 1)
        assert tree(tmp_path) == before

    def test_failing_to_swap_leaves_the_older_result(self, tmp_path, monkeypatch, labels, name):
        write_labels(tmp_path / name, labels)
        before = tree(tmp_path)
        rename = os.rename

        def refuse(source, target):
            if str(target) == str(tmp_path / name) and not str(source).endswith("old"):
                raise OSError(errno.EIO, "Input/output error")
            rename(source, target)

        monkeypatch.setattr(os, "rename", refuse)
        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(FileError, match="input/output error"):
            write_labels(tmp_path / name, labels + 1)
        assert tree(tmp_path) == before

    def test_no_such_folder(self, tmp_path, labels, name):
        with pytest.raises(FileError, match="does not exist"):
            write_labels(tmp_path / "missing" / name, labels)


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a"])
def test_what_is_no_earlier_result_is_not_replaced(tmp_path, labels, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError, match="choose another name"):
        write_labels(tmp_path / name, labels)
    assert (tmp_path / name / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize(
    "added", ["notes.txt", "labels/handmade", "0/notes.txt", "labels/a/mine", "labels/a/0/x.csv"]
)
def test_a_zarr_result_with_additions_is_not_replaced(tmp_path, labels, version, dtype, added):
    path = tmp_path / "a.zarr"
    like = Volume(labels, format="zarr", extra={"zarr_format": version})
    large = np.ones((4, 600, 7), dtype)  # with a pyramid
    for _ in range(2):
        write_labels(path, large, like)  # an earlier result alone is replaced
    file = path / added
    if "handmade" in added:
        zarr.open_group(str(path), mode="r+").create_group(added).create_array("0", data=labels)
    else:
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("work of a day")
    with pytest.raises(FileError, match="choose another name"):
        write_labels(path, large, like)
    assert file.exists()


@pytest.mark.parametrize("code", ["L", "Q", "l", "q"])
def test_labels_of_any_eight_bytes_are_written_to_zarr(tmp_path, labels, code):
    """NumPy has several that are equal: tifffile gives other ones than Zarr knows."""
    large = labels.astype(code)
    large[0, 0, 0] = 2**40
    write_labels(tmp_path / "a.zarr", large)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.zarr").array[:], large)


@pytest.mark.parametrize("name", ["a.Nii", "a.Nii.Gz"])
def test_a_suffix_that_nibabel_would_spell_otherwise(tmp_path, labels, name):
    with pytest.raises(FileError, match=r"spell it \.nii"):
        check_output(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(FileError, match=r"spell it \.nii"):
        read_volume(tmp_path / name)
    write_labels(tmp_path / "a.NII.Gz", labels)
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "a.NII.Gz").array), labels)


def test_a_link_into_a_missing_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "a.tif").symlink_to(tmp_path / "gone" / "a.tif")
    with pytest.raises(FileError, match=r"gone does not exist: make it first"):
        check_output(tmp_path / "a.tif")


def test_unknown_output(tmp_path, labels):
    with pytest.raises(FileError, match="no known type"):
        write_labels(tmp_path / "a.mp4", labels)


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_link_stays_and_leads_to_the_result(tmp_path, labels, name, earlier):
    store, home = tmp_path / "store", tmp_path / "home"
    store.mkdir()
    home.mkdir()
    if earlier:
        write_labels(store / name, np.zeros_like(labels))
    (home / name).symlink_to(store / name)
    write_labels(home / name, labels)
    assert (home / name).is_symlink()
    np.testing.assert_array_equal(read_labels(store / name).array[...], labels)
    assert [p.name for p in (*store.iterdir(), *home.iterdir())] == [name, name]


def test_two_files_or_none(tmp_path, monkeypatch, labels):
    def full(path, array, like):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(io._WRITERS, "npy", full)
    with pytest.raises(FileError, match="no space left"):
        io.write_all([(tmp_path / "a.tif", labels), (tmp_path / "b.npy", labels)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "Input/output error"), "input/output error"),
        (
            OSError("4096 requested and 0 written"),
            "the disk is full (4096 requested and 0 written)",
        ),
        (OSError("unexpected end of data"), "unexpected end of data"),
        (OSError(), "OSError"),
    ],
)
def test_only_a_full_disk_is_called_full(tmp_path, monkeypatch, error, words):
    def fail(path, array, like):
        raise error

    monkeypatch.setitem(io._WRITERS, "npy", fail)
    with pytest.raises(FileError) as caught:
        write_labels(tmp_path / "out.npy", np.ones((2, 4, 4), np.uint8))
    assert str(caught.value) == f"{tmp_path / 'out.npy'} cannot be written: {words}."
