"""The engine is imported behind the person's back, once."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from napari_imos._warm_up import warm_up
assert "torch" not in sys.modules
warm_up().join()
assert "torch" in sys.modules
assert warm_up() is None
"""


def test_torch_is_there_before_anybody_asks():
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=120)
