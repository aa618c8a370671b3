"""The set-up script: an unready machine gets one clear line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", ROOT / "scripts" / "setup_venv.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_old_python_is_told_apart(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)

    with pytest.raises(setup.SetupError, match=r"Python 3\.11 or newer is needed, this is 3\.9"):
        setup.use_new_enough_python()


def test_an_old_python_hands_over_to_a_newer_one(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(setup.shutil, "which", lambda name: "/there/" + name)
    monkeypatch.setattr(setup, "succeeds", lambda command: command[0].endswith("3.12"))
    monkeypatch.setattr(setup.os, "execv", lambda path, arguments: handed.append(path))

    with pytest.raises(setup.SetupError):  # a real execv does not return
        setup.use_new_enough_python()
    assert handed == ["/there/python3.12"]


def test_a_machine_without_venv_is_told_what_to_install(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "succeeds", lambda command: False)
    monkeypatch.setattr(setup, "apt_install", lambda packages: False)
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)

    with pytest.raises(setup.SetupError, match=r"apt-get install python3\.\d+-venv"):
        setup.make_venv()


@pytest.mark.parametrize("cuda", ["0", "1"])
def test_cuda_comes_only_when_asked_for(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, cuda: str
) -> None:
    report = '{"install": [{"metadata": {"name": "nvidia-cublas"}}]}'
    monkeypatch.setenv("CUDA", cuda)
    monkeypatch.setattr(setup, "succeeds", lambda command: False)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=report))

    if cuda == "1":
        setup.refuse_cuda()
    else:
        with pytest.raises(setup.SetupError, match=r"torch==.* CPU build"):
            setup.refuse_cuda()


def test_missing_display_libraries_are_named(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "is_there", lambda name: name not in ("Xvfb", "libEGL.so.1"))
    monkeypatch.setattr(setup, "apt_install", lambda packages: False)

    with pytest.raises(setup.SetupError, match="apt-get install xvfb libegl1'"):
        setup.install_display_libraries()
