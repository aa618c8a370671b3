"""Who may import whom, read from the source, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
GUI = {"napari", "napari_imos", "magicgui", "qtpy", "superqt", "PySide6", "PyQt6", "vispy"}
MODULES = sorted(SOURCE.rglob("*.py"))

# module or package of imos_core -> modules and packages of imos_core that it may import; the
# closest entry holds, and whoever has none may import everything
ALLOWED = {
    "errors": set(),
    "boxes": {"label_ids"},
    "config": {"errors"},
    "whole_numbers": {"errors"},
    "intensity": {"boxes", "errors", "label_ids"},
    "label_ids": set(),
    "sampling": set(),
    "precision": set(),
    "paths": {"errors"},
    "locks": set(),
    "file_identity": set(),
    "moving": set(),
    "whole_files": {"errors", "locks", "moving"},
    "affinity": {"config", "errors"},
    "arrays": {"arrays", "errors", "intensity", "label_ids", "whole_numbers"},
    "sweep": {"arrays.slabs", "config", "errors", "intensity", "whole_numbers"},
    "preprocess": {"config", "errors", "intensity", "sweep"},
    "prompt": {"errors", "through", "whole_numbers"},
    "through": {"errors", "label_ids", "whole_numbers"},
    "windows": {"boxes"},
    "cutting": {"sampling"},
    "anchors": {"boxes", "config", "errors"},
    "device": {"config", "errors"},
    "synthetic": {"errors", "synthetic"},
    "samples": {"errors", "synthetic"},
    "metrics": {"boxes", "errors", "whole_numbers"},
    "model": {"config", "errors", "model", "precision", "sampling"},
    "memory": {"affinity", "config", "errors", "memory", "precision"},
    "propagator": {"config", "errors", "memory", "model", "affinity"},
    "walking": {
        "anchors",
        "boxes",
        "config",
        "cutting",
        "errors",
        "intensity",
        "label_ids",
        "memory",
        "model",
        "moving",
        "precision",
        "preprocess",
        "prompt",
        "propagator",
        "segmented",
        "sweep",
        "walking",
        "whole_files",
        "whole_numbers",
        "windows",
    },
    "walking.checkpoint": {"errors", "moving", "whole_files", "whole_numbers"},
    "walking.damage": set(),
    "walking.growth": set(),
    "walking.parts": {"windows"},
    "walking.planes": {"cutting", "intensity", "preprocess", "walking.transfers"},
    "walking.pursuit": set(),
    "walking.sight": {
        "anchors",
        "boxes",
        "cutting",
        "errors",
        "preprocess",
        "walking.damage",
        "walking.pursuit",
        "walking.thin_prompts",
        "walking.transfers",
        "windows",
    },
    "walking.starts": {"boxes", "walking.parts", "windows"},
    "walking.transfers": set(),
    "segmented": {"anchors", "errors"},
    "series": {
        "arrays",
        "errors",
        "formats",
        "label_ids",
        "prompt",
        "segmented",
        "series",
        "through",
        "walking",
        "weights",
    },
    "tensor_files": {"errors"},
    "adapter_headers": {"errors"},
    "weights": {
        "adapter_headers",
        "config",
        "device",
        "errors",
        "model",
        "paths",
        "published",
        "reference_states",
        "tensor_files",
        "whole_files",
    },
    "reference_states": {"config", "errors", "model"},
    "published": {"errors", "weights", "whole_files"},
    "formats": {"arrays", "errors", "formats"},
    "io": {"arrays", "errors", "formats", "paths", "whole_files"},
    "files": {
        "arguments",
        "arrays",
        "byte_sizes",
        "errors",
        "file_identity",
        "files",
        "formats",
        "heap",
        "io",
        "label_ids",
        "moving",
        "own_warnings",
        "paths",
        "prompt",
        "propagation",
        "segmented",
        "series",
        "through",
        "walking",
        "weights",
        "whole_files",
        "whole_numbers",
    },
    "files.one_run": {"errors", "locks", "whole_files"},
    "files.outdated": {"whole_files"},
    "files.unchanged": {"errors", "io"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, deferred: bool) -> set[str]:
    """Modules that a file imports, for types only left out; inside functions if `deferred`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not deferred:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.update({f"{node.module}.{alias.name}" for alias in node.names})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_file_opens_with_a_sentence(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize("path", [p for p in MODULES if "imos_core" in p.parts], ids=name_of)
def test_the_engine_knows_no_gui(path):
    assert not {name.split(".")[0] for name in imports(path, deferred=True)} & GUI


@pytest.mark.parametrize("path", [p for p in MODULES if "napari_imos" in p.parts], ids=name_of)
def test_the_plugin_imports_no_torch(path):
    assert "torch" not in {name.split(".")[0] for name in imports(path, deferred=True)}


def closest(module: str) -> set[str] | None:
    """What the entry for a module, or else for the package around it, allows."""
    while module not in ALLOWED and "." in module:
        module = module.rpartition(".")[0]
    return ALLOWED.get(module)


@pytest.mark.parametrize("path", [p for p in MODULES if "imos_core" in p.parts], ids=name_of)
def test_the_layers_of_the_engine(path):
    allowed = closest(name_of(path).removeprefix("imos_core."))
    if allowed is None:
        return
    used = {n.removeprefix("imos_core.") for n in imports(path, deferred=True) if "imos_core." in n}
    assert not {n for n in used if not any(f"{n}.".startswith(f"{a}.") for a in allowed)}


@pytest.mark.parametrize("package", ["imos_core", "napari_imos"])
@pytest.mark.parametrize("level", [2, 9], ids=["packages", "modules"])
def test_nothing_imports_itself_by_a_detour(package, level):
    paths = {name_of(path): path for path in MODULES if package in path.parts}
    del paths[package]  # brings everything else by name, when it is asked for
    graph = {}
    for module, path in paths.items():
        node = ".".join(module.split(".")[:level])
        for name in imports(path, deferred=True):
            while name and name not in paths:
                name = name.rpartition(".")[0]
            graph.setdefault(node, set()).add(".".join(name.split(".")[:level]))
    for node, used in graph.items():
        used -= {node, ""}
    assert list(TopologicalSorter(graph).static_order())


def test_rules_are_about_modules_that_there_are():
    modules = {name_of(path).removeprefix("imos_core.") for path in MODULES}
    assert {*ALLOWED, *(name for allowed in ALLOWED.values() for name in allowed)} <= modules


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("imos_core", {"torch", "napari"}),
        ("imos_core.prompt", {"torch", "napari"}),
        ("napari_imos", {"torch", "napari", "qtpy"}),
        ("napari_imos.api", {"torch", "qtpy"}),
        ("napari_imos._reader", {"torch", "napari", "qtpy", "zarr", "nibabel", "dask"}),
        ("napari_imos._sample_data", {"torch", "qtpy"}),
        ("napari_imos._stream", {"torch", "qtpy"}),
    ],
)
def test_importing_is_cheap(module, absent):
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import {module}; "
        f"sys.exit(' '.join(sorted({absent!r} & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_run_needs_no_compiler():
    # what PyTorch compiles programs with takes a second to import, 70 MB, and sets a variable
    code = f"""
import sys; sys.path.insert(0, {str(SOURCE)!r})
import os
before = dict(os.environ)
import numpy as np
import imos_core
from imos_core.weights import list_models
model = imos_core.load_model("imos-compact")
labels = np.zeros((32, 32), np.uint8)
labels[8:16, 8:16] = 1
image = np.random.default_rng(0).random((2, 32, 32), np.float32)
assert len(list(imos_core.propagate(image, {{0: labels}}, model=model))) == 2
assert list_models()[0].parameters > 1_000_000
assert dict(os.environ) == before, set(os.environ) - set(before)
sys.exit(" ".join({{"torch._dynamo", "torch._inductor", "sympy"}} & set(sys.modules)) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_click_on_propagate_waits_for_no_torch():
    # it is brought in by the thread that computes, or while the window idles
    code = f"""
import sys; sys.path.insert(0, {str(SOURCE)!r})
import numpy as np
from napari.components import ViewerModel
from napari_imos._opening import open_stream
viewer = ViewerModel()
image = viewer.add_image(np.random.default_rng(0).random((4, 20, 20)))
labels = viewer.add_labels(np.zeros((4, 20, 20), np.uint8))
labels.data[2, 3:6, 3:6] = 1
viewer.dims.set_point(0, 2)
open_stream(image, labels, 0, None, {{}}, viewer)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_licence_in_the_package_is_declared():
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    declared = {p for pattern in project["license-files"] for p in SOURCE.parent.glob(pattern)}
    assert {p.name for p in SOURCE.rglob("LICENSE*")} == {"LICENSE-MNI152.txt", "LICENSE-XFeat.txt"}
    assert set(SOURCE.rglob("LICENSE*")) <= declared
    assert project["license"].split(" AND ") == ["BSD-3-Clause", "Apache-2.0", "LicenseRef-MNI152"]


def test_the_public_names():
    import imos_core
    import napari_imos

    assert set(napari_imos.__all__) == {"__version__", "propagate", "start_propagation"}
    assert {"IMOS", "MemoryConfig", "ModelConfig", "Propagator", "SegmentedSlice"} <= set(
        imos_core.__all__
    )
    assert {"load_model", "metrics", "propagate"} <= set(imos_core.__all__)
    for package in (imos_core, napari_imos):
        assert set(package.__all__) <= set(dir(package)), "what is offered on Tab"
        assert package.__version__ == version("napari-imos")


def test_errors_that_docstrings_name_are_at_hand():
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import imos_core\n"
        "assert issubclass(imos_core.errors.PromptError, imos_core.ImosError)\n"
        "assert 'torch' not in sys.modules\n"
        "for error in vars(imos_core.errors).values():\n"
        "    assert not isinstance(error, type) or error.__name__ in imos_core.__all__, error"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
