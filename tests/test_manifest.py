"""The manifest: valid, one file, and every command resolves."""

from __future__ import annotations

from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_the_package_holds_the_file_at_the_root():
    inside = ROOT / "src" / "napari_imos" / "napari.yaml"
    assert inside.is_symlink()
    assert inside.resolve() == (ROOT / "napari.yaml").resolve()


def test_is_valid_and_named_as_the_distribution(manifest):
    manifest.validate_imports()
    assert manifest.name == "napari-imos"
    assert manifest.display_name == "iMOS"


def test_every_command_resolves(manifest):
    for command in manifest.contributions.commands:
        assert callable(command.python_name and _resolve(command.python_name)), command.id


def test_every_sample_of_the_engine_is_offered(manifest):
    from imos_core.samples import sample_names

    assert tuple(s.key for s in manifest.contributions.sample_data) == sample_names()


def test_files_that_the_plugin_reads(manifest):
    (reader,) = manifest.contributions.readers
    assert reader.filename_patterns == ["*.nii", "*.nii.gz", "*.zarr"]
    assert reader.accepts_directories, "a Zarr is a folder"
    (command,) = [c for c in manifest.contributions.commands if c.id == reader.command]
    get_reader = _resolve(command.python_name)
    for pattern in reader.filename_patterns:
        assert callable(get_reader(pattern.replace("*", "a")))
    assert get_reader("a.tif") is None


def test_menu_entries_are_where_napari_allows_them(manifest):
    from napari._app_model.constants import MenuId

    assert set(manifest.contributions.menus) <= set(MenuId.contributables())


def _resolve(python_name: str):
    from importlib import import_module

    module, name = python_name.split(":")
    return getattr(import_module(module), name)
