"""The README keeps its word: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from imos_core.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_script_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scripts = [b for b in blocks if "viewer" not in b]
    assert len(scripts) == 2
    space: dict[str, object] = {}
    for block in scripts:
        exec(block, space)
    labels, painted = space["labels"], space["painted"]
    assert isinstance(labels, np.ndarray)
    assert isinstance(painted, np.ndarray)
    k = space["sample"].prompt_slice
    np.testing.assert_array_equal(labels[k], painted[k])
    assert labels[k + 1].any()


def test_every_command_exists():
    for command in re.findall(r"^imos (\w+)", README, re.MULTILINE):
        assert main([command, "--help"]) == 0, command


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_stands_for_make_on_windows_is_what_make_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    script, command = re.findall(r"^py (\S+) demo\n\.venv\\Scripts\\(.*)$", README, re.MULTILINE)[0]
    assert f"{script} $*".replace("\\", "/") in makefile
    assert command in makefile.replace("$(DEMO_FOLDER)", "demo")


@pytest.mark.parametrize("document", ["README.md", *sorted(p.name for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(document):
    path = ROOT / document if (ROOT / document).exists() else ROOT / "docs" / document
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def anchors(path: Path) -> set[str]:
    """Return what the headings of a document are called in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", ["README.md", *sorted(p.name for p in ROOT.glob("docs/*.md"))])
def test_links_to_headings_lead_somewhere(document):
    path = ROOT / document if (ROOT / document).exists() else ROOT / "docs" / document
    found = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8"))
    for file, heading in found:
        target = path.parent / file if file else path
        assert heading in anchors(target), f"{path.name}: {file}#{heading}"
