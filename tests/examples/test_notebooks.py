"""Every notebook of the examples runs from top to bottom, and shows what it promises."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel of the interpreter that runs the tests, whatever else is installed."""
    folder = tmp_path / "kernels" / "here"
    folder.mkdir(parents=True)
    argv = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (folder / "kernel.json").write_text(
        f'{{"argv": {argv}, "display_name": "here", "language": "python"}}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    return "here"


def shown(cell, kind):
    return [o.data[kind] for o in cell.outputs if o.get("data", {}).get(kind)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_correct_and_go_on(kernel, tmp_path):
    notebook = nbformat.read(EXAMPLES / "correct_and_go_on.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    NotebookClient(
        notebook, timeout=240, kernel_name=kernel, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (scores,) = [line for line in shown(code[-2], "text/plain") if "->" in line]
    before, after = (float(x) for x in scores.strip("'").split(": ")[1].split(" -> "))
    assert after >= before - 0.01
    assert after > 0.7
    assert shown(code[-1], "image/png"), "a contact sheet"
    bars = "".join(o.text for o in code[2].outputs if o.output_type == "stream")
    assert "iMOS" in bars, "a progress bar"
