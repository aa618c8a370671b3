"""Make ``tests/data/golden_subset.npz``: the golden numbers that the project's own tests hold.

Run ``python benchmarks/golden_subset.py FOLDER`` with the folder of ``benchmarks/golden.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "imos_core"))

import golden_recipe  # noqa: E402

_EVERY = {
    "mod_key_1": np.s_[:, ::8],
    "mod_readout": np.s_[:, :, ::64],
    "mod_hidden_normal": np.s_[:, :, ::16],
    "mod_decoder_logits": np.s_[..., ::8, ::8],
    "B_long_key": np.s_[:, ::8],
    "B_long_value": np.s_[:, ::64],
    "B_long_shrinkage": np.s_[:],
    "B_long_usage": np.s_[:],
    "B_work_usage": np.s_[:],
}
"""Which entries of an array are kept."""


def main() -> int:
    """Write the subset; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the golden files")
    folder = parser.parse_args().folder
    subset: dict[str, np.ndarray] = {}
    for network in ("xmem", "imos"):
        with np.load(folder / f"{network}_golden.npz") as archive:
            golden = dict(archive)
        subset[f"{network}_checksum"] = golden["weights_crc32"]
        for letter, scenario in golden_recipe.SCENARIOS.items():
            frames = slice(0, min(scenario.frames, scenario.aligned))
            name = f"{network}_{letter}"
            subset[f"{name}_mask"] = golden[f"{letter}_mask"][frames]
            subset[f"{name}_sizes"] = golden[f"{letter}_sizes"][frames].astype(np.int16)
            subset[f"{name}_prob"] = golden[f"{letter}_prob"][frames, :, 4::14, 4::14]
        subset |= {f"{network}_{k}": golden[k][entries] for k, entries in _EVERY.items()}
    subset |= {k: v for k, v in golden.items() if k.startswith(("unit_", "adapter_value_block"))}
    subset["labels_0"], subset["labels_5"] = golden["labels"][[0, 5]]
    subset["video"] = golden_recipe.pack_video(golden["video"])
    golden_recipe.SUBSET.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(golden_recipe.SUBSET, **subset)
    sys.stdout.write(f"{golden_recipe.SUBSET}: {golden_recipe.SUBSET.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
