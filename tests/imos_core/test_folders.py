"""Folders of images and labels: layouts, formats, what is kept in memory, and what is refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from tiny import disc_volume

from imos_core.data.batches import ClipBatches
from imos_core.data.clips import ClipConfig
from imos_core.data.folders import FolderSource, find_pairs, read_pair
from imos_core.errors import FileError, ImosError, PromptError
from imos_core.training.config import TrainConfig, read_config
from imos_core.training.phases import sources_of


def halves(root, images="images", labels="labels"):
    (root / images).mkdir(parents=True)
    (root / labels).mkdir(parents=True)
    return root / images, root / labels


def save(path, array):
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, photometric="minisblack")
    elif path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".zarr":
        group = zarr.open_group(str(path), mode="w", zarr_format=2)
        group.create_array("0", data=array, chunks=array.shape)
        axes = [{"name": n, "type": "space"} for n in "zyx"]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    else:
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), path)


def video(folder, planes, suffix, keep=None):
    folder.mkdir(parents=True)
    for k, plane in enumerate(planes):
        if keep is None or k in keep:
            Image.fromarray(plane).save(folder / f"{k:05d}{suffix}", quality=95)


def one(folder, **settings):
    """The volume that a folder of one pair holds."""
    return FolderSource([folder], **settings).draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("suffix", "other"),
    [(".tif", ".tif"), (".npy", ".tif"), (".nii.gz", ".nii"), (".zarr", ".npy")],
)
def test_volumes_of_all_formats_are_paired_by_name(tmp_path, suffix, other):
    image, labels = disc_volume(5, 24)
    images, truths = halves(tmp_path)
    save(images / f"Case.1{suffix}", image)
    save(truths / f"case.1{other}", labels)
    (images / "notes.txt").write_text("no image")
    (truths / ".DS_Store").write_text("no label")
    volume = one(tmp_path)
    np.testing.assert_array_equal(volume.image, image)
    np.testing.assert_array_equal(volume.labels, labels)
    assert volume.labels.dtype == np.uint8


def test_both_contrasts_of_an_nnunet_case_have_its_labels(tmp_path):
    image, labels = disc_volume(5, 24)
    images, truths = halves(tmp_path, "imagesTr", "labelsTr")
    for case in ("a_0001", "b"):
        save(truths / f"{case}.nii.gz", labels)
        save(images / f"{case}_0000.nii.gz", image.astype(np.int16))
    save(images / "b_0001.nii.gz", (255 - image).astype(np.int16))
    pairs = [(p.image.name, p.labels.name) for p in find_pairs(tmp_path)]
    assert pairs == [
        ("a_0001_0000.nii.gz", "a_0001.nii.gz"),
        ("b_0000.nii.gz", "b.nii.gz"),
        ("b_0001.nii.gz", "b.nii.gz"),
    ]
    source = FolderSource([tmp_path])
    rng = np.random.default_rng(0)
    looks = {int(source.draw(rng).image[0, 0, 0]) > 128 for _ in range(20)}
    assert looks == {False, True}


@pytest.mark.parametrize("between", ["", "480p/"])
def test_videos_consist_of_their_labelled_frames(tmp_path, between):
    image, labels = disc_volume(6, 24)
    colour = np.stack([image, image // 2, image // 3], -1)
    video(tmp_path / f"JPEGImages/{between}bear", colour, ".jpg")
    video(tmp_path / f"Annotations/{between}bear", labels.astype(np.uint8), ".png", keep=(0, 2, 5))
    volume = one(tmp_path)
    assert volume.image.shape == (3, 24, 24, 3)
    np.testing.assert_array_equal(volume.labels, labels[[0, 2, 5]])
    assert np.abs(volume.image[1, ..., 0].astype(int) - image[2]).mean() < 20
    assert not volume.isotropic


def test_single_pictures_are_volumes_of_one_slice(tmp_path):
    image, labels = disc_volume(1, 24)
    images, truths = halves(tmp_path)
    Image.fromarray(image[0]).save(images / "a.png")
    Image.fromarray(labels[0].astype(np.uint8)).save(truths / "a.png")
    tifffile.imwrite(images / "b.tif", image[0])
    Image.fromarray(labels[0].astype(np.uint8)).save(truths / "b.png")
    for pair in find_pairs(tmp_path):
        volume, is_tile = read_pair(pair, np.random.default_rng(0))
        np.testing.assert_array_equal(volume.image, image)
        np.testing.assert_array_equal(volume.labels, labels)
        assert not is_tile


@pytest.mark.parametrize("frames", [0, 2])
def test_palettes_are_colours_of_images_and_ids_of_labels(tmp_path, frames):
    _, labels = disc_volume(3, 24)
    images, truths = halves(tmp_path)
    files = [f"a/{k}.png" for k in range(3)] if frames else ["a.png"]
    for half, left in ((images, 0), (truths, 3 - frames)):  # of a video, not all are labelled
        for k, name in enumerate(files[: len(files) - left if frames else 1]):
            picture = Image.fromarray(labels[k].astype(np.uint8))
            picture.putpalette([200, 100, 50] * 256)
            (half / name).parent.mkdir(exist_ok=True)
            picture.save(half / name)
    (pair,) = find_pairs(tmp_path)
    volume, _ = read_pair(pair, np.random.default_rng(0))
    assert volume.image.shape == (frames or 1, 24, 24, 3)
    assert (volume.image == (200, 100, 50)).all()
    np.testing.assert_array_equal(volume.labels, labels[: frames or 1])


def test_labels_are_no_jpegs(tmp_path):
    image, labels = disc_volume(1, 24)
    images, truths = halves(tmp_path)
    for half, planes in ((images, image), (truths, labels)):
        Image.fromarray(planes[0].astype(np.uint8)).save(half / "a.jpg")
    (pair,) = find_pairs(tmp_path)
    with pytest.raises(PromptError, match=r"a\.jpg is a JPEG"):
        read_pair(pair, np.random.default_rng(0))


def test_other_types_are_stretched_to_bytes_and_odd_labels_tamed(tmp_path):
    image, labels = disc_volume(5, 24)
    images, truths = halves(tmp_path)
    raw = image.astype(np.float32) * 10 - 1000
    raw[0, 0, 0] = np.nan
    np.save(images / "a.npy", raw)
    odd = labels.astype(np.int64) * 10**12
    odd[:, 0, 0] = -1
    odd[:, 0, 1] = 7
    np.save(truths / "a.npy", odd)
    volume = one(tmp_path)
    assert volume.image.dtype == volume.labels.dtype == np.uint8
    assert (int(volume.image.min()), int(volume.image.max())) == (0, 255)
    inside = labels > 0
    assert np.corrcoef(volume.image[inside], image[inside])[0, 1] > 0.99
    np.testing.assert_array_equal(volume.labels == 2, inside)
    np.testing.assert_array_equal(volume.labels[:, 0, :3], [[0, 1, 0]] * 5)


def test_even_spacing_lets_a_volume_be_cut_along_any_axis(tmp_path):
    images, truths = halves(tmp_path)
    _, labels = disc_volume(24, 30)
    save(images / "a.nii", labels.astype(np.int16))
    save(truths / "a.nii", labels)
    assert one(tmp_path).isotropic
    save(images / "a.nii", labels[:20].astype(np.int16))
    save(truths / "a.nii", labels[:20])
    assert not one(tmp_path).isotropic


def test_films_are_not_cut_across_time(tmp_path):
    images, truths = halves(tmp_path)
    _, labels = disc_volume(24, 30)
    for folder in (images, truths):
        tifffile.imwrite(
            folder / "a.ome.tif",
            labels.astype(np.uint16),
            metadata={"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
        )
    assert not one(tmp_path).isotropic


def test_labels_that_lie_elsewhere(tmp_path):
    image, labels = disc_volume(8, 30)
    images, truths = halves(tmp_path)
    save(images / "a.nii", image)
    mirrored = np.diag([-1.0, 1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), mirrored), truths / "a.nii")
    with pytest.raises(FileError, match="does not lie where"):
        one(tmp_path)


def test_what_does_not_fit_gives_way_and_is_read_again(tmp_path, monkeypatch):
    image, labels = disc_volume(10, 200)
    images, truths = halves(tmp_path)
    for k in range(5):
        np.save(images / f"{k}.npy", image // 5 + k * 40)
        np.save(truths / f"{k}.npy", labels.astype(np.uint8))
    read = []

    def counted(pair, *rest):
        read.append(pair.image.stem)
        return read_pair(pair, *rest)

    monkeypatch.setattr("imos_core.data.folders.read_pair", counted)
    rng = np.random.default_rng(0)
    roomy = FolderSource([tmp_path], keep_mb=100)
    for _ in range(60):
        roomy.draw(rng)
    assert sorted(read) == ["0", "1", "2", "3", "4"]  # each of them once
    read.clear()
    tight = FolderSource([tmp_path], keep_mb=2, reuse=4)  # two and a half volumes
    seen = {int(tight.draw(rng).image[0, 0, 0]) // 40 for _ in range(100)}
    assert seen == {0, 1, 2, 3, 4}
    assert 5 < len(read) < 50
    assert sum(v.image.nbytes + v.labels.nbytes for v, _ in tight._kept.values()) <= 2e6


@pytest.mark.parametrize(("slices", "largest"), [(40, 16 * 32 * 32), (4, 2 * 32 * 32)])
def test_large_volumes_are_drawn_in_tiles(tmp_path, slices, largest):
    images, truths = halves(tmp_path)
    place = np.arange(slices * 32 * 32, dtype=np.uint16).reshape(slices, 32, 32)
    np.save(images / "a.npy", place)
    np.save(truths / "a.npy", place // 64 + np.uint16(1))
    source = FolderSource([tmp_path], largest=largest, reuse=2)
    rng = np.random.default_rng(0)
    volumes = [source.draw(rng) for _ in range(30)]
    assert all(v.labels.size <= largest for v in volumes)
    assert len({int(v.labels.min()) for v in volumes}) > 3
    assert len(volumes[0].labels) == min(slices, 16)
    # image and labels are cut in the same place
    assert all(np.corrcoef(v.image.ravel(), v.labels.ravel())[0, 1] > 0.99 for v in volumes)


def test_clips_are_cut_from_folders_that_a_phase_names(tmp_path):
    image, labels = disc_volume(8, 48)
    images, truths = halves(tmp_path)
    save(images / "a.tif", image)
    save(truths / "a.tif", labels)
    save(images / "empty.tif", image)
    save(truths / "empty.tif", labels * 0)
    phase = tmp_path / "phase.toml"
    phase.write_text(f'folders = ["{tmp_path}"]\nweights = {{ folders = 1.0 }}\n')
    sources = sources_of(read_config(phase))
    assert [type(s) for s, _ in sources] == [FolderSource]
    batch = next(iter(ClipBatches(sources, ClipConfig(3, 32), 2, seed=1)))
    assert batch.frames.shape == (2, 3, 3, 32, 32)
    assert batch.mask[:, 0].any((-2, -1)).all()
    phase.write_text(f'folders = "{tmp_path}"\n')
    with pytest.raises(FileError, match="folders is a list"):
        read_config(phase)
    with pytest.raises(FileError, match="sequences or folders"):
        sources_of(TrainConfig(folders=(str(tmp_path),), weights={"folders": 0.0}))


def test_a_series_of_volumes_is_named(tmp_path):
    image, labels = disc_volume(8, 48)
    images, truths = halves(tmp_path)
    tifffile.imwrite(images / "a.tif", np.stack([image, image]), metadata={"axes": "TZYX"})
    save(truths / "a.tif", labels)
    with pytest.raises(FileError, match=r"images/a\.tif holds more than one volume") as caught:
        FolderSource([tmp_path])
    assert "--time" not in str(caught.value)


def test_what_does_not_match_is_said_in_one_sentence(tmp_path):
    image, labels = disc_volume(5, 24)
    with pytest.raises(FileError, match=r"holds no pairs .*\(images/ and labels/"):
        FolderSource([tmp_path])
    with pytest.raises(FileError, match="holds no pairs"):
        FolderSource([tmp_path / "missing"])
    with pytest.raises(FileError, match="No folder"):
        FolderSource([])
    images, truths = halves(tmp_path)
    with pytest.raises(FileError, match="holds no pairs"):
        FolderSource([tmp_path])
    save(images / "a.tif", image)
    with pytest.raises(FileError, match=r"a\.tif has no labels: .*labels needs a file of the same"):
        FolderSource([tmp_path])
    save(truths / "a.tif", labels[:4])
    with pytest.raises(FileError, match=r"a\.tif has shape \(5, 24, 24\), but .*\(4, 24, 24\)"):
        FolderSource([tmp_path])
    save(truths / "a.tif", labels.astype(np.float32))
    with pytest.raises(ImosError, match="labels are whole numbers"):
        FolderSource([tmp_path])
    save(truths / "a.tif", labels * 0)
    with pytest.raises(FileError, match="met no label above 0"):
        one(tmp_path)


def test_frames_named_otherwise_than_their_labels_are_refused(tmp_path):
    image, labels = disc_volume(3, 24)
    video(tmp_path / "JPEGImages/a", image, ".jpg", keep=(0, 1))
    video(tmp_path / "Annotations/a", labels.astype(np.uint8), ".png", keep=(2,))
    with pytest.raises(FileError, match=r"No image in .* is named like one in"):
        FolderSource([tmp_path])
    Image.fromarray(np.dstack([image[0]] * 3)).save(tmp_path / "Annotations/a/00002.png")
    with pytest.raises(ImosError, match="holds colours"):
        FolderSource([tmp_path])
