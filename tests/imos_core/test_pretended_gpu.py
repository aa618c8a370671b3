"""Nothing is made or left on the wrong device: where there is no GPU, one is pretended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.utils.backend_registration

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this version of torch knows no device in Python",
)
def test_the_engine_keeps_to_its_device_and_waits_for_it_no_more_often_for_many_objects():
    # it changes how torch works
    done = subprocess.run(
        [sys.executable, str(HERE / "pretended_gpu.py")],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.split(": ") for line in done.stdout.splitlines())
    ahead, few, many = map(int, said.pop("transfers with 4, 5 and 12 objects").split())
    assert 0 < few == many, "a GPU is not waited for once for each object"
    assert ahead <= few, "nor more often where slices are seen ahead"
    assert len(said) == 8
    assert all(float(same) > 0.99 for same in said.values()), said
