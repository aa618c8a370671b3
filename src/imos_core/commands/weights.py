"""What `imos weights` does: lists models, describes one, fetches or converts weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imos_core.commands.output import say
from imos_core.errors import FileError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from imos_core.weights import ModelInfo


def weights(options: argparse.Namespace) -> None:
    """List the models, describe one, fetch published weights, or convert a file."""
    if options.action == "list":
        _list()
    elif options.action == "info":
        say("\n".join(f"{name:<12} {value}" for name, value in _facts(options.model).items()))
    elif options.action == "get":
        from imos_core.fetching import fetch

        path, found = fetch(options.name, sha256=options.sha256, quiet=options.quiet)
        say(
            f"wrote {path}\nfetched file: SHA-256 {found}\n"
            f"use it with --model {options.name} (--window full is how it was trained)"
        )
    else:
        _convert(options.file, options.output, half=options.half)


def _list() -> None:
    from imos_core.weights import list_models

    lines = [f"{'name':<16} {'parameters':>10} {'size':>11}  {'licence':<24} description"]
    for info in list_models():
        there = info.available
        count = f"{info.parameters / 1e6:.2f} M" if there else "-"
        missing = "missing" if info.embedded else "not fetched"
        size = f"{info.size_bytes / 1e6:.1f} MB" if there else missing
        lines.append(
            f"{info.name:<16} {count:>10} {size:>11}  {info.licence:<24} {info.description}"
        )
    say("\n".join(lines))


def _convert(file: Path, output: Path, *, half: bool) -> None:
    from imos_core.adapter_headers import refuse_adapter
    from imos_core.file_identity import identity
    from imos_core.io import check_folder
    from imos_core.tensor_files import read_state
    from imos_core.weights import load_model, save_weights

    if output.suffix != ".safetensors":
        raise FileError(f"{output} is no name for weights: let it end in .safetensors.")
    check_folder(output)
    read_state(file)  # says what is wrong with a damaged file
    refuse_adapter(file)
    if identity(output) == identity(file):
        raise FileError(f"{output} is the file that is converted: choose another name.")
    network = load_model(file, device="cpu")
    save_weights(network, output, {"source": file.name}, half=half)
    say(f"wrote {output}")


def _facts(model: str) -> dict[str, str]:
    """What is known of a model, by name or file."""
    from imos_core.adapter_headers import SHORT, base_of_adapter, is_adapter
    from imos_core.tensor_files import fingerprint_of, read_state
    from imos_core.weights import ModelInfo, list_models, load_model, weights_file

    path = weights_file(model)
    named = [i for i in list_models() if i.path == path]
    info: ModelInfo = named[0] if named else ModelInfo(path.stem, "", "", path)
    state = read_state(info.path)  # says what is wrong with a damaged file
    if is_adapter(info.path):
        facts = {
            "name": info.name,
            "kind": "adapter",
            "tuned for": base_of_adapter(info.metadata),
            "file": str(info.path),
            "size": f"{info.size_bytes / 1e6:.2f} MB",
            "sha256": info.sha256,
            "parameters": f"{sum(t.numel() for t in state.values()):,}",
            **{k: _one_line(v) for k, v in info.metadata.items() if not k.startswith("base")},
        }
        return {k: v for k, v in facts.items() if v}
    network = load_model(info.path, device="cpu")
    config = network.config
    facts = {
        "name": info.name,
        "description": info.description,
        "licence": info.licence,
        "file": str(info.path),
        "size": f"{info.size_bytes / 1e6:.2f} MB",
        "sha256": info.sha256,
        "fingerprint": fingerprint_of(network.state_dict())[:SHORT],
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "adapters": "yes" if config.adapters else "no",
        "dimensions": f"key {config.key_dim}, value {config.value_dim}, hidden {config.hidden_dim}",
        "stride": f"{config.memory_stride} pixels",
        "eight bits": f"{len(network.activations) or 'no'} convolutions",
    }
    if info.path.suffix == ".safetensors":
        for key, value in info.metadata.items():
            if key not in ("config", "activations"):
                facts[key] = _one_line(value)
    return {k: v for k, v in facts.items() if v}


def _one_line(text: str) -> str:
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        return " ".join(text.split())
