"""Peak memory over volume size: synthetic OME-Zarr volumes through `imos propagate`.

    python benchmarks/out_of_core.py FOLDER [--sizes 64 1000 8000] [--model M] [--axis 0]

Every volume has slices of 1024 x 1024 pixels of 8 bits and chunks of 16 x 256 x 256; what grows is
their number. A disc is drawn around the object's path, the rest is the fill value, so that 8 GB
take little disk. Each run is a process of its own, whose peak resident memory is what the system
reports; labels are painted on one slice in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
import zarr

SIDE = 1024
CHUNKS = (16, 256, 256)


def make(folder: Path, megabytes: int) -> tuple[Path, int]:
    """Write a volume of so many megabytes; return its path and number of slices."""
    slices = megabytes * 10**6 // SIDE**2
    slices += -slices % CHUNKS[0]
    path = folder / f"volume-{megabytes}.zarr"
    if path.exists():
        return path, slices
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = group.create_array(
        "0", shape=(slices, SIDE, SIDE), dtype="u1", chunks=CHUNKS, fill_value=0
    )
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    multiscale = {"name": "volume", "axes": axes, "datasets": levels}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [multiscale]}})
    noise = np.random.default_rng(0)
    for start in range(0, slices, CHUNKS[0]):
        array[start : start + CHUNKS[0], 384:640, 384:640] = slab(start, noise)
    return path, slices


def slab(start: int, noise: np.random.Generator) -> np.ndarray:
    """Draw a disc that swings around the middle, `(16, 256, 256)`."""
    t = start + np.arange(CHUNKS[0])[:, None, None]
    y, x = np.ogrid[:256, :256]
    disc = (y - 128) ** 2 + (x - 128 - 30 * np.sin(t / 60)) ** 2 < 40**2
    return np.clip(60 + 100 * disc + noise.normal(0, 8, disc.shape), 1, 255).astype(np.uint8)


def prompt(folder: Path, slices: int) -> tuple[Path, int]:
    """Paint the disc on the slice in the middle, as an image of that slice alone."""
    k = slices // 2
    y, x = np.ogrid[:SIDE, :SIDE]
    disc = (y - 512) ** 2 + (x - 512 - 30 * np.sin(k / 60)) ** 2 < 40**2
    path = folder / f"prompt-{slices}.tif"
    tifffile.imwrite(path, disc.astype(np.uint8), compression="zlib")
    return path, k


def measure(folder: Path, megabytes: int, options: list[str]) -> dict[str, float]:
    """Propagate one volume; peak memory in MB, seconds and slices."""
    volume, slices = make(folder, megabytes)
    painted, k = prompt(folder, slices)
    started = time.perf_counter()
    command = [
        sys.executable, "-m", "imos_core.cli", "propagate", str(volume), str(painted),
        "-o", str(folder / f"labels-{megabytes}.zarr"), "--anchors", str(k), "--restart", "--quiet",
        *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    seconds = time.perf_counter() - started
    return {
        "megabytes": slices * SIDE**2 / 1e6,
        "slices": slices,
        "peak_rss_mb": round(usage.ru_maxrss * (1024 if sys.platform == "linux" else 1) / 1e6),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure every size, and say how far the peaks are apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1000, 8000])
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    more = ["--model", options.model, "--device", options.device]
    peaks = []
    for size in options.sizes:
        found = measure(options.folder, size, more)
        peaks.append(found["peak_rss_mb"])
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    spread = (max(peaks) - min(peaks)) / min(peaks)
    sys.stdout.write(f"peaks are {100 * spread:.1f} % apart\n")


if __name__ == "__main__":
    main()
