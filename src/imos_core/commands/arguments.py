"""Which arguments every command of `imos` takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from imos_core.arguments import (
    BASELINES,
    baselines,
    count,
    ends,
    from_zero,
    integers,
    pair,
    path,
    positive,
    seed,
    spacing,
)
from imos_core.files.columns import COLUMNS, NEEDED

DATASETS = ("amos22", "camus", "cholecseg8k", "epfl")
"""Public data sets that `imos prepare` knows."""
_FORMATS = ".tif, .tiff, .nii, .nii.gz, .zarr, .npy or a folder of images"


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos demo``."""
    parser.add_argument(
        "--out", type=path, default=Path("imos-demo"), help="folder for the result (%(default)s)"
    )
    _add_model(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_propagate(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos propagate``."""
    _add_painted(
        parser,
        output="labels of every slice",
        axis="axis to walk, in the order z, y, x, for NIfTI files too",
    )
    parser.add_argument(
        "--start",
        type=int,
        help="first slice that is written (0); the way there from the painted ones is walked, too, "
        "and takes its time",
    )
    parser.add_argument(
        "--stop",
        type=int,
        help="one past the last slice that is written (the end); likewise",
    )
    parser.add_argument(
        "--direction",
        choices=("both", "forward", "backward"),
        default="both",
        help="where to go from the painted slices (%(default)s)",
    )
    parser.add_argument(
        "--ended",
        type=ends,
        default={},
        metavar="ID:K,...",
        help="objects that have ended, each with the first slice without it, seen from where it "
        "is painted: it stays away there and beyond",
    )
    parser.add_argument(
        "--fill-anchors",
        action="store_true",
        help="an object goes through painted slices that show others only, around what is painted "
        "there; without it, painted slices come back as they are",
    )
    parser.add_argument(
        "--stop-when-gone",
        action="store_true",
        help="a label that was gone for three slices stays gone, which is faster too",
    )
    _add_model(parser)
    parser.add_argument("--adapter", metavar="FILE", help="adapter on top of the model")
    parser.add_argument(
        "--precision", default="auto", help="auto, float32, bfloat16, float16 or int8 (%(default)s)"
    )
    parser.add_argument(
        "--window",
        choices=("auto", "full"),
        default="auto",
        help="look at windows around the objects, or at whole slices (%(default)s)",
    )
    _add_voxels(parser)
    parser.add_argument(
        "--confidence", metavar="FILE", type=path, help="also write how sure every voxel is, 0 to 1"
    )
    parser.add_argument(
        "--series",
        action="store_true",
        help="follow the objects through all time points too, from those where they are painted "
        "(or from --time); --direction is that of time then",
    )
    _add_part(parser)
    _add_going_on(parser)
    _add_budget(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_painted(parser: argparse.ArgumentParser, *, output: str, axis: str) -> None:
    """An image, labels of it of which some slices are painted, and which of these count."""
    parser.add_argument("image", metavar="IMAGE", type=path, help=_FORMATS)
    parser.add_argument(
        "labels_file", metavar="LABELS", type=path, help="labels of the image's shape, some painted"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=path, required=True, help=output)
    parser.add_argument("--axis", type=int, default=0, help=f"{axis} (%(default)s)")
    parser.add_argument(
        "--anchors", type=integers, metavar="K,...", help="painted slices to use (all)"
    )
    parser.add_argument("--labels", type=integers, metavar="ID,...", help="only these ids (all)")


def _add_part(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a part of an image."""
    parser.add_argument(
        "--level",
        type=from_zero,
        default=0,
        metavar="N",
        help="level of resolution of an OME-Zarr image, which the labels must have too (0: full)",
    )
    parser.add_argument(
        "--time", type=from_zero, metavar="N", help="time point of an image that has several"
    )
    parser.add_argument(
        "--channels",
        type=integers,
        metavar="C,...",
        help="up to three channels that the model sees at once (of 3 or 4, the first three; of 2, "
        "the first)",
    )


def _add_going_on(parser: argparse.ArgumentParser) -> None:
    going_on = parser.add_mutually_exclusive_group()
    going_on.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run of the same inputs"
    )
    going_on.add_argument(
        "--restart", action="store_true", help="throw an interrupted run away and start anew"
    )


def add_rerun(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos rerun``."""
    parser.add_argument(
        "session",
        metavar="SESSION",
        type=path,
        help="labels.tif.imos.json, or the labels beside it",
    )
    parser.add_argument(
        "image", nargs="?", metavar="IMAGE", type=path, help="image (the one that was open)"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=path, required=True, help="labels of every slice"
    )
    parser.add_argument("--axis", type=int, help="axis to walk, where the session knows several")
    parser.add_argument(
        "--time", type=from_zero, metavar="N", help="time point, where the session knows several"
    )
    parser.add_argument(
        "--plane",
        type=from_zero,
        metavar="N",
        help="slice that was propagated through time, where the session knows several",
    )
    parser.add_argument("--model", metavar="M", help="another model: name or weights file")
    parser.add_argument("--adapter", metavar="FILE", help="another adapter")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument("--precision", help="auto, float32, bfloat16, float16 or int8")
    _add_going_on(parser)
    _add_budget(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_adapt(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos adapt``."""
    _add_painted(parser, output="adapter (.safetensors)", axis="axis to walk")
    parser.add_argument(
        "--seconds",
        type=positive,
        default=120.0,
        metavar="N",
        help="time it may take (%(default)g)",
    )
    parser.add_argument(
        "--minutes",
        dest="seconds",
        default=argparse.SUPPRESS,
        type=_minutes,
        metavar="N",
        help="the same in minutes",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of everything random (%(default)s)")
    _add_model(parser)
    _add_voxels(parser)
    _add_part(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _minutes(text: str) -> float:
    """Read minutes as seconds."""
    seconds = 60 * positive(text)
    if seconds == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is too long")
    return seconds


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos evaluate``."""
    parser.add_argument("prediction", nargs="?", metavar="PREDICTION", type=path, help=_FORMATS)
    parser.add_argument("truth", nargs="?", metavar="TRUTH", type=path, help="the true labels")
    parser.add_argument("--axis", type=int, help="slice axis (0)")
    parser.add_argument(
        "--time", type=from_zero, metavar="T", help="time point, where files hold several"
    )
    parser.add_argument(
        "--anchors", type=integers, metavar="K,...", help="slices that do not count"
    )
    parser.add_argument(
        "--spacing", type=spacing, metavar="Z,Y,X", help="size of a voxel (from the truth's file)"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=path, help="folder of sequences: <modality>/<name>.npz"
    )
    parser.add_argument(
        "--protocol",
        choices=("first", "last", "middle", "directions", "annotate"),
        help="with --data: what is painted (first and middle); directions: first, last and middle; "
        "annotate: how many slices a person must paint until every slice is right",
    )
    parser.add_argument("--precision", help="with --data: auto, float32, bfloat16, float16 or int8")
    parser.add_argument(
        "--by-hand",
        action="store_true",
        help="with --data: prompts as people paint, off the true contour here and there",
    )
    parser.add_argument(
        "--ends",
        action="store_true",
        help="with --data: the models also as if somebody had said where every object ends",
    )
    parser.add_argument(
        "--model", nargs="+", metavar="M", help="with --data: models (imos-compact)"
    )
    parser.add_argument(
        "--adapter",
        nargs="+",
        metavar="FILE",
        help="with --data: each model with each of these adapters too; annotate takes one, and "
        "counts with it alone",
    )
    parser.add_argument(
        "--max-objects", type=count, metavar="N", help="with --data: objects per sequence (all)"
    )
    parser.add_argument(
        "--baseline",
        type=baselines,
        metavar="B,...",
        help=f"with --data: methods beside the models: {', '.join(BASELINES)}, or none (copy, and "
        "flow if OpenCV is installed)",
    )
    parser.add_argument(
        "--modalities",
        type=lambda text: text.split(","),
        metavar="M,...",
        help="with --data: only these folders (all)",
    )
    parser.add_argument(
        "--tolerance",
        type=positive,
        metavar="D",
        help="with --data: distance within which surfaces agree for surface Dice, in units of the "
        "spacing (two pixels of a slice)",
    )
    parser.add_argument(
        "--html",
        type=path,
        metavar="FILE",
        help="with --data: also write a report with the paper's figures; without --protocol, of "
        "all directions",
    )
    parser.add_argument("--device", help="with --data: auto, cpu, cuda or mps (auto)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--csv", action="store_true", help="with --data: print CSV")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos prepare``."""
    parser.add_argument(
        "dataset", metavar="DATASET", choices=DATASETS, help=f"one of {', '.join(DATASETS)}"
    )
    parser.add_argument(
        "source", metavar="SOURCE", type=path, help="folder that the data set was unpacked into"
    )
    parser.add_argument(
        "destination",
        metavar="DESTINATION",
        type=path,
        help="folder for <split>/<modality>/<name>.npz and manifest.json",
    )
    parser.add_argument(
        "--size",
        type=from_zero,
        default=480,
        metavar="N",
        help="height and width of the frames; 0: as they are (%(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=from_zero,
        default=0,
        metavar="N",
        help="of the split into training, validation and test (%(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos weights``."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=type(parser)
    )
    actions.add_parser("list", help="models that have a name")
    info = actions.add_parser("info", help="what is known of a model")
    info.add_argument(
        "model", metavar="MODEL", nargs="?", default="imos-compact", help="name or file"
    )
    get = actions.add_parser("get", help="fetch weights that others have published")
    get.add_argument("name", metavar="NAME", help="as in the list")
    get.add_argument("--sha256", metavar="HEX", help="checksum that the file has to have")
    get.add_argument("--quiet", action="store_true", help="no progress bar")
    convert = actions.add_parser(
        "convert", help="make a .safetensors file of a state dict (.pth, .pt)"
    )
    convert.add_argument("file", metavar="FILE", type=path, help="weights of XMem, iMOS or ours")
    convert.add_argument("-o", "--output", required=True, metavar="OUT", type=path, help="new file")
    convert.add_argument("--half", action="store_true", help="as float16: half as large")


def _add_voxels(parser: argparse.ArgumentParser) -> None:
    """What the image's voxels are, where its file does not say it or is not to be believed."""
    parser.add_argument(
        "--contrast",
        type=pair,
        metavar="LOW,HIGH",
        help="intensities shown as black and white (from the image)",
    )
    parser.add_argument(
        "--spacing", type=spacing, metavar="Z,Y,X", help="size of a voxel (from the image file)"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="imos-compact", metavar="M", help="name or weights file (%(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos batch``."""
    parser.add_argument(
        "jobs",
        metavar="JOBS.csv",
        type=path,
        help=f"columns {', '.join(NEEDED)} and any of: "
        f"{', '.join(name for name in COLUMNS if name not in NEEDED)}; files from the list's "
        "folder",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="dask scheduler that runs (workers on this machine)"
    )
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="workers on this machine (one per GPU, or by the number of cores)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave results that are there already, but for those of jobs that failed since",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="throw away what interrupted jobs have left, which go on otherwise",
    )
    _add_model(parser)
    _add_budget(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint-every",
        type=count,
        default=50,
        metavar="N",
        help="slices after which what is done is made safe (%(default)s)",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="memory to stay under, of the process or of the GPU, such as 4GB (no limit); not with "
        "--window full",
    )
    parser.add_argument(
        "--batch",
        type=count,
        metavar="N",
        help="objects that go through the network at a time (by device and --memory)",
    )
