"""The CholecSeg8k reader, on a copy in the native layout with the mistakes that copies have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imos_core.errors import FileError
from imos_core.prepare.run import prepare

HEIGHT, WIDTH = 24, 40
# class: (value in the watershed mask, colour)
CODES = {
    "background": (50, (127, 127, 127)),
    "abdominal wall": (11, (210, 140, 140)),
    "liver": (21, (255, 114, 114)),
    "gastrointestinal tract": (13, (231, 70, 156)),
    "fat": (12, (186, 183, 75)),
    "grasper": (31, (170, 255, 0)),
    "connective tissue": (23, (255, 85, 0)),
    "blood": (24, (255, 0, 0)),
    "cystic duct": (25, (255, 255, 0)),
    "l-hook electrocautery": (32, (169, 255, 184)),
    "gallbladder": (22, (255, 160, 165)),
    "hepatic vein": (33, (0, 50, 128)),
    "liver ligament": (5, (111, 74, 0)),
}
NAMES = list(CODES)


def classes(k):
    """Class of every pixel of frame k: four in quarters; a grasper in frames 2 to 5 of a clip."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[:12, :20], truth[:12, 20:] = NAMES.index("liver"), NAMES.index("fat")
    truth[12:, :20] = NAMES.index("gallbladder")
    if 2 <= k <= 5:
        truth[14:22, 24 + k : 30 + k] = NAMES.index("grasper")
    return truth


def picture(k):
    return np.random.default_rng(k).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def save_frame(folder, number, truth, image):
    """All four files of a frame; masks have a white line around and unlabelled pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.array([CODES[name][0] for name in NAMES], np.uint8)[truth]
    colour = np.array([CODES[name][1] for name in NAMES], np.uint8)[truth]
    for mask, hole in ((grey, 0), (colour, 255)):
        mask[0], mask[-1], mask[:, 0], mask[:, -1] = 255, 255, 255, 255
        mask[3, 3] = hole
    sparse = np.where(truth == NAMES.index("liver"), grey, 0)
    stem = folder / f"frame_{number}_endo"
    Image.fromarray(image).save(f"{stem}.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(f"{stem}_watershed_mask.png")
    Image.fromarray(colour).save(f"{stem}_color_mask.png")
    alpha = np.full_like(grey, 255)
    Image.fromarray(np.stack([sparse] * 3 + [alpha], -1)).save(f"{stem}_mask.png")


def save_clip(source, video, start, count=80):
    folder = source / video / f"{video}_{start:05d}"
    for k in range(count):
        save_frame(folder, start + k, classes(k), picture(k))
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    source = tmp_path_factory.mktemp("cholec") / "archive"
    save_clip(source, "video01", 80)
    return source


@pytest.fixture
def clip(tmp_path):
    """One small clip, whose frames need not be 80, since they are numbered from 0."""
    return save_clip(tmp_path / "small", "video09", 100, 8)


def run(source, tmp_path, size=0):
    warnings = []
    entries = prepare("cholecseg8k", source, tmp_path / "out", size=size, warn=warnings.append)
    return entries, warnings


def arrays_of(tmp_path, entries, category):
    (entry,) = [e for e in entries if e["category"] == category]
    with np.load(tmp_path / "out" / entry["file"]) as file:
        return entry, {key: file[key] for key in file.files}


def test_a_whole_clip(original, tmp_path):
    entries, warnings = run(original, tmp_path)
    assert warnings == []
    assert {e["category"] for e in entries} == {"liver", "fat", "gallbladder", "grasper"}
    assert all(e["seen"] and e["patient"] == "video01" for e in entries)
    entry, arrays = arrays_of(tmp_path, entries, "grasper")
    assert (entry["first"], entry["last"], entry["name"]) == (2, 5, "endo/video01_00080_grasper")
    truth = np.stack([classes(k) for k in range(2, 6)])
    np.testing.assert_array_equal(arrays["labels"], truth == NAMES.index("grasper"))
    np.testing.assert_array_equal(arrays["image"], np.stack([picture(k) for k in range(2, 6)]))
    entry, _ = arrays_of(tmp_path, entries, "liver")
    assert entry["shape"] == [80, HEIGHT, WIDTH, 3]


def test_size(original, tmp_path):
    entries, _ = run(original, tmp_path, size=48)
    _, arrays = arrays_of(tmp_path, entries, "grasper")
    assert arrays["image"].shape == (4, 48, 48, 3)
    assert arrays["labels"].shape == (4, 48, 48)
    # the shape of a pixel is known, its size is not
    np.testing.assert_allclose(arrays["spacing"], (1, HEIGHT / 48, WIDTH / 48), rtol=1e-5)


def test_all_thirteen_classes(tmp_path):
    folder = tmp_path / "data" / "video12" / "video12_00000"
    truth = np.arange(13, dtype=np.uint8).repeat(2)[None].repeat(6, 0)
    truth = np.pad(truth, 1)
    for k in range(80):
        save_frame(folder, k, truth, np.zeros((*truth.shape, 3), np.uint8))
    entries, warnings = run(tmp_path / "data", tmp_path)
    assert warnings == []
    assert {e["category"] for e in entries} == set(NAMES[1:])
    for entry in entries:
        with np.load(tmp_path / "out" / entry["file"]) as file:
            found = file["labels"][0]
        wanted = truth == NAMES.index(entry["category"])
        wanted[3, 3] = False  # nobody labelled it
        np.testing.assert_array_equal(found, wanted)


def test_masks_in_order_of_preference(clip, tmp_path):
    """Without the watershed mask the colours say the same; the annotation mask is the last."""
    entries, _ = run(clip, tmp_path)
    _, first = arrays_of(tmp_path, entries, "gallbladder")
    for path in clip.glob("*_watershed_mask.png"):
        path.unlink()
    entries, _ = run(clip, tmp_path)
    _, second = arrays_of(tmp_path, entries, "gallbladder")
    np.testing.assert_array_equal(first["labels"], second["labels"])
    for path in clip.glob("*_color_mask.png"):
        path.unlink()
    entries, _ = run(clip, tmp_path)
    assert {e["category"] for e in entries} == {"liver"}


def test_missing_frames(original, tmp_path, clip):
    (clip / "frame_103_endo.png").unlink()
    for path in clip.glob("frame_101_endo_*mask.png"):
        path.unlink()
    entries, warnings = run(clip.parent, tmp_path)
    assert warnings == [
        "video09_00100: 74 of 80 frames lack their image or mask "
        "(101, 103, 108, 109, 110, 111 and 68 more); the others are used."
    ]
    entry, arrays = arrays_of(tmp_path, entries, "grasper")
    kept = [0, 2, 4, 5, 6, 7]
    assert (entry["first"], entry["last"]) == (1, 3)
    np.testing.assert_array_equal(arrays["image"], np.stack([picture(k) for k in kept[1:4]]))


def test_frames_are_in_order_of_their_numbers(tmp_path):
    """Not of their names: frame 9 comes before frame 10."""
    folder = save_clip(tmp_path / "data", "video01", 5, 8)
    entries, _ = run(folder.parent, tmp_path)
    _, arrays = arrays_of(tmp_path, entries, "fat")
    np.testing.assert_array_equal(arrays["image"], np.stack([picture(k) for k in range(8)]))


def test_letter_case(clip, tmp_path):
    before, _ = run(clip, tmp_path)
    for path in clip.iterdir():
        path.rename(path.with_name(path.name.replace("_endo", "_Endo").replace(".png", ".PNG")))
    clip.parent.rename(clip.parent.with_name("Video09"))
    upper = clip.parent.with_name("Video09")
    (upper / clip.name).rename(upper / "VIDEO09_00100")
    after, _ = run(upper, tmp_path)
    assert after == before


def test_unknown_values(clip, tmp_path):
    path = clip / "frame_102_endo_watershed_mask.png"
    mask = np.array(Image.open(path))
    mask[20:22, 20:22] = 99
    Image.fromarray(mask).save(path)
    entries, warnings = run(clip, tmp_path)
    assert warnings[1:] == ["video09_00100: unknown label value 99, taken as background."]
    assert len(entries) == 4


def test_unknown_colours(clip, tmp_path):
    (clip / "frame_102_endo_watershed_mask.png").unlink()
    path = clip / "frame_102_endo_color_mask.png"
    mask = np.array(Image.open(path))
    mask[20:22, 20:22] = (1, 2, 3)
    Image.fromarray(mask).save(path)
    _, warnings = run(clip, tmp_path)
    assert warnings[1:] == ["video09_00100: unknown label value #010203, taken as background."]


def test_values_that_were_read_as_hexadecimal(clip, tmp_path):
    entries, _ = run(clip, tmp_path)
    _, before = arrays_of(tmp_path, entries, "liver")
    for path in clip.glob("*_watershed_mask.png"):
        mask = np.array(Image.open(path))
        table = np.arange(256, dtype=np.uint8)
        for grey, _ in CODES.values():
            table[grey] = int(str(grey), 16)
        Image.fromarray(table[mask]).save(path)
    entries, warnings = run(clip, tmp_path)
    assert "hexadecimal" in warnings[1]
    assert {e["category"] for e in entries} == {"liver", "fat", "gallbladder", "grasper"}
    _, after = arrays_of(tmp_path, entries, "liver")
    np.testing.assert_array_equal(after["labels"], before["labels"])


@pytest.mark.parametrize("mistake", ["cut short", "another size", "no picture"])
def test_a_frame_that_cannot_be_used(clip, tmp_path, mistake):
    path = clip / "frame_103_endo.png"
    if mistake == "cut short":
        path.write_bytes(path.read_bytes()[:300])
    elif mistake == "no picture":
        path.write_text("not found")
    else:
        Image.fromarray(picture(0)[:-2]).save(path)
    entries, warnings = run(clip, tmp_path)
    assert len(warnings) == 2
    assert warnings[1].startswith("video09_00100: frame 103 cannot be read")
    entry, _ = arrays_of(tmp_path, entries, "fat")
    assert entry["shape"][0] == 7


def test_a_clip_without_masks(clip, tmp_path):
    other = save_clip(clip.parents[1], "video10", 0, 3)
    for path in other.glob("*mask.png"):
        path.unlink()
    entries, warnings = run(clip.parents[1], tmp_path)
    assert {e["recording"] for e in entries} == {"video09_00100"}
    assert any(w.startswith("video10_00000 is left out: none of its frames") for w in warnings)


def test_clips_of_a_video_are_in_one_split(tmp_path):
    for video in range(1, 6):
        for start in (0, 80):
            save_clip(tmp_path / "data", f"video{video:02d}", start, 3)
    entries, _ = run(tmp_path / "data", tmp_path)
    splits = {}
    for entry in entries:
        splits.setdefault(entry["patient"], set()).add(entry["split"])
    assert len({e["recording"] for e in entries}) == 10
    assert sorted(s for (s,) in splits.values()) == ["test", "train", "train", "train", "val"]


def test_a_clip_that_is_there_twice(clip, tmp_path):
    copy = save_clip(clip.parents[1] / "backup", "video09", 100, 8)
    entries, warnings = run(clip.parents[1], tmp_path)
    assert len(entries) == 4
    assert warnings[0] == f"{clip} is left out: {copy} is the same clip."


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no CholecSeg8k clips"):
        run(tmp_path / "empty", tmp_path)
