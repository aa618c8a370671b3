"""Pack training material under a limit: ``python -m imos_core.data.pack STATIC SEQUENCES -o PACK``.

What travels to a rented GPU has to be small. Sequences are cropped to their objects, stored as
bytes and compressed; then the longest lose slices and the largest origins pictures, until
everything fits. The pack has the layout of its sources, so that a phase may point to it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from imos_core.data.arrays import as_image, as_labels
from imos_core.data.manifest import sequence_entries
from imos_core.data.sources import refuse_empty_choice
from imos_core.errors import FileError, ImosError
from imos_core.formats.left_behind import visible
from imos_core.sequence_files import open_sequence, sequence_arrays
from imos_core.whole_files import swapped_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

_REACH = 0.75  # of an object's extent on every side: windows are 2.2 times as large, as a rule
_LEAST_REACH = 32
_SLICES_BEYOND = 24  # clips run across the ends of objects
_FEWEST_SLICES = 4
_SMALL = 0.02  # groups below this share of the limit are not cut
_PER_ENTRY = 140  # what a zip file needs to remember a file


@dataclass(frozen=True)
class PackedSequence:
    """A sequence, cropped, and the file that holds it."""

    modality: str
    """Its group."""
    name: str
    """Name of its file, without suffix."""
    image: npt.NDArray[np.uint8]
    """`(T, H, W)` or `(T, H, W, 3)`."""
    labels: npt.NDArray[np.integer]
    """`(T, H, W)`, 0 is background."""
    rest: Mapping[str, npt.NDArray[Any]]
    """The other arrays of the file: spacing, meta."""
    data: bytes = b""
    """The file."""


def pack(
    static: Path,
    sequences: Path,
    output: Path,
    *,
    limit: int = 60 * 10**6,
    licences: Sequence[str] = ("open",),
) -> dict[str, tuple[int, int]]:
    """Write the pack.

    Parameters
    ----------
    static : Path
        Folder of ``<origin>/<id>.jpg`` with label maps ``<id>.png``.
    sequences : Path
        Folder of ``<modality>/<name>.npz``; ``manifest.json``, if any, is one level up.
    output : Path
        Folder to make, or ``.zip`` file of one; in it are ``static/``, ``sequences/manifest.json``
        and ``sequences/<name of the folder>/``.
    limit : int
        Most bytes of all files.
    licences : sequence of str
        Classes of sequences that may go in, where there is a manifest.

    Returns
    -------
    dict
        Bytes of each origin and modality, cropped and compressed but whole, and as packed.

    Raises
    ------
    FileError
        If there are no sequences or nothing is labelled, it cannot fit, or the output exists.
    """
    if output.exists():
        raise FileError(f"{output} exists: remove it, or choose another name.")
    for folder in (static, sequences):
        if not folder.is_dir():
            raise FileError(f"The folder {folder} does not exist: check the name.")
    pictures = _pictures(static)
    entries = _chosen(sequences, licences)
    refuse_empty_choice(sequences, set(entries), tuple(licences))
    if not entries:
        raise FileError(f"No sequences were found in {sequences}: give another folder.")
    cropped: dict[str, list[PackedSequence]] = {}
    for path in tqdm([sequences / f"{name}.npz" for name in entries], unit="sequence"):
        sequence = _read(path)
        if sequence is not None:
            cropped.setdefault(sequence.modality, []).append(sequence)
    whole = {f"static/{k}": sum(map(_size_of, v)) for k, v in pictures.items()}
    whole |= {k: sum(len(s.data) for s in v) for k, v in cropped.items()}
    if not sum(whole.values()):
        raise FileError(f"Neither {static} nor {sequences} holds labelled material to pack.")

    single = output.suffix == ".zip"
    count = 1 + 2 * sum(map(len, pictures.values())) + len(entries)
    overhead = len(_manifest(entries, cropped)) + 100 + (count * _PER_ENTRY if single else 0)
    room = allot(whole, limit - overhead)
    files: dict[str, bytes | Path] = {}
    packed: dict[str, int] = {}
    for origin, group in pictures.items():
        thinned = _thinned(group, room[f"static/{origin}"])
        packed[f"static/{origin}"] = sum(map(_size_of, thinned))
        for path in thinned:
            files[f"static/{origin}/{path.name}"] = path
            files[f"static/{origin}/{path.stem}.png"] = path.with_suffix(".png")
    kept = {modality: shortened(group, room[modality]) for modality, group in cropped.items()}
    for modality, chosen in kept.items():
        packed[modality] = sum(len(s.data) for s in chosen)
        for s in chosen:
            files[f"sequences/{sequences.name}/{modality}/{s.name}.npz"] = s.data
    used = sum(packed.values())
    if any(entries.values()):
        files["sequences/manifest.json"] = manifest = _manifest(entries, kept)
        used += len(manifest)
    if single:
        used += len(files) * _PER_ENTRY
    if used > limit or not any(packed.values()):
        raise FileError(f"The material does not fit into {limit / 1e6:g} MB: raise the limit.")
    _write(files, output, single)
    return {name: (whole[name], packed[name]) for name in whole}


def allot(sizes: Mapping[str, int], room: float) -> dict[str, float]:
    """Share room out in proportion to sizes; small groups are kept whole as long as that goes."""
    total = sum(sizes.values())
    if total <= room:
        return {name: float(size) for name, size in sizes.items()}
    small = {name for name, size in sizes.items() if size <= _SMALL * room}
    held = sum(sizes[name] for name in small)
    if held > room / 2:
        small, held = set(), 0
    share = max(room - held, 0) / (total - held)
    return {name: size * (1 if name in small else share) for name, size in sizes.items()}


def shortened(group: Sequence[PackedSequence], room: float) -> list[PackedSequence]:
    """Take slices from the largest sequences until all of them fit.

    Parameters
    ----------
    group : sequence of PackedSequence
        Sequences of a modality.
    room : float
        Bytes for all of them.

    Returns
    -------
    list of PackedSequence
        Those that are left; what is too large even with few slices is dropped.
    """
    # the size to which all larger ones are cut, found from the smallest on
    cap, left = 0.0, room
    ordered = sorted(group, key=lambda s: len(s.data))
    for k, sequence in enumerate(ordered):
        cap = left / (len(ordered) - k)
        if len(sequence.data) > cap:
            break
        left -= len(sequence.data)
        cap = float(len(sequence.data))
    cut = [s if len(s.data) <= cap else _cut(s, cap) for s in group]
    if None in cut:  # all would be too short; without the largest there is more for the others
        largest = ordered[-1]
        return shortened([s for s in group if s is not largest], room)
    return [s for s in cut if s is not None]


def crop_box(labels: npt.NDArray[np.integer]) -> tuple[slice, slice, slice]:
    """Where the objects of `(T, H, W)` are, with what windows around them would show."""
    boxes = [b for b in ndimage.find_objects(labels.astype(np.int32, copy=False)) if b]
    first, last = np.array(labels.shape), np.zeros(3, int)
    for box in boxes:
        extent = max(box[1].stop - box[1].start, box[2].stop - box[2].start)
        reach = max(round(_REACH * extent), _LEAST_REACH)
        beyond = np.array([_SLICES_BEYOND, reach, reach])
        first = np.minimum(first, [b.start for b in box] - beyond)
        last = np.maximum(last, [b.stop for b in box] + beyond)
    first, last = first.clip(0), last.clip(0, labels.shape)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return z, y, x


def _pictures(static: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in visible(static, "*/*.jpg"):
        if path.with_suffix(".png").exists():
            groups.setdefault(path.parent.name, []).append(path)
    return groups


def _chosen(sequences: Path, licences: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Manifest entries of the sequences that may go in, by name; empty ones without manifest."""
    names = [f"{p.parent.name}/{p.stem}" for p in visible(sequences, "*/*.npz")]
    entries = sequence_entries(sequences)
    if entries is None:
        return {name: {} for name in names}
    allowed = {name for name, e in entries.items() if e["use"] in licences}
    if unknown := [name for name in names if name not in entries]:
        raise FileError(
            f"{sequences.parent / 'manifest.json'} lacks {len(unknown)} of {len(names)} sequences "
            f"({unknown[0]}): add entries that say under which licence they are, or move them away."
        )
    return {name: entries[name] for name in names if name in allowed}


def _read(path: Path) -> PackedSequence | None:
    """Read a sequence, cropped; None if nothing is labelled."""
    with open_sequence(path) as file:
        found = sequence_arrays(file)
        rest = {name: file[name] for name in file if name not in ("image", "labels")}
    labels = as_labels(found.labels)
    if not labels.any():
        return None
    image = as_image(found.image, labels, colours=found.image.ndim == 4)
    return _stored(PackedSequence(path.parent.name, path.stem, image, labels, rest))


def _stored(sequence: PackedSequence) -> PackedSequence:
    """Crop a sequence and make its file."""
    box = crop_box(sequence.labels)
    image, labels = (np.ascontiguousarray(a[box]) for a in (sequence.image, sequence.labels))
    stream = io.BytesIO()
    # bzip2 makes these images a fifth smaller than deflate, and numpy reads it all the same
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:
        for name, array in {"image": image, "labels": labels, **sequence.rest}.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            # without a date the same material makes the same file
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_BZIP2, 9
            )
    return replace(sequence, image=image, labels=labels, data=stream.getvalue())


def _cut(sequence: PackedSequence, room: float) -> PackedSequence | None:
    """Keep a run of slices, that with the most objects, which fits."""
    objects = np.array([len(np.unique(plane[plane > 0])) for plane in sequence.labels])
    total = np.concatenate([[0], np.cumsum(objects)])
    length = int(len(objects) * room / len(sequence.data))
    while length >= _FEWEST_SLICES:
        start = int(np.argmax(total[length:] - total[:-length]))
        run = slice(start, start + length)
        if not objects[run].any():
            return None
        part = _stored(replace(sequence, image=sequence.image[run], labels=sequence.labels[run]))
        if len(part.data) <= room:
            return part
        length = min(length - 1, int(length * room / len(part.data)))
    return None


def _thinned(paths: list[Path], room: float) -> list[Path]:
    """Pictures at even distances that fit."""
    total = sum(map(_size_of, paths))
    count = min(int(len(paths) * room / max(total, 1)), len(paths))
    while count:
        chosen = [paths[i * len(paths) // count] for i in range(count)]
        if sum(map(_size_of, chosen)) <= room:
            return chosen
        count -= 1
    return []


def _manifest(
    entries: Mapping[str, dict[str, Any]], groups: Mapping[str, Sequence[PackedSequence]]
) -> bytes:
    kept = [s for group in groups.values() for s in group]
    listed = [
        {
            **entries[f"{s.modality}/{s.name}"],
            "name": f"{s.modality}/{s.name}",
            "shape": list(s.image.shape),
        }
        for s in kept
    ]
    return json.dumps(listed).encode()


def _size_of(picture: Path) -> int:
    return picture.stat().st_size + picture.with_suffix(".png").stat().st_size


def _write(files: Mapping[str, bytes | Path], output: Path, single: bool) -> None:
    with swapped_in(output) as partial:
        if single:
            with zipfile.ZipFile(partial, "w") as archive:
                for name, content in files.items():
                    data = content if isinstance(content, bytes) else content.read_bytes()
                    # without a date, as in `_stored`
                    archive.writestr(zipfile.ZipInfo(name), data)
            return
        for name, content in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def main(argv: list[str] | None = None) -> int:
    """Pack, and say how much of what is in; exit with 2 if something does not serve."""
    parser = argparse.ArgumentParser(
        prog="python -m imos_core.data.pack",
        description="Pack training material so small that it travels to a GPU machine.",
    )
    parser.add_argument("static", type=Path, help="folder of pictures")
    parser.add_argument("sequences", type=Path, help="folder of sequences")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder, or .zip file")
    parser.add_argument("--limit-mb", type=float, default=60, help="most megabytes (60)")
    parser.add_argument(
        "--licences", nargs="+", default=["open"], help="classes of sequences (open)"
    )
    options = parser.parse_args(argv)
    try:
        sizes = pack(
            options.static,
            options.sequences,
            options.output,
            limit=round(options.limit_mb * 10**6),
            licences=options.licences,
        )
    except ImosError as error:
        sys.stderr.write(f"pack: {error}\n")
        return 2
    lines = ["| material | whole, MB | packed, MB |", "|---|---:|---:|"]
    sizes["all"] = (sum(a for a, _ in sizes.values()), sum(b for _, b in sizes.values()))
    lines += [f"| {name} | {a / 1e6:.2f} | {b / 1e6:.2f} |" for name, (a, b) in sizes.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
