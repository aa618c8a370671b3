"""Fixtures shared by all tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def strict_qt():
    """Let napari complain about every widget that a test leaves behind."""
    os.environ["NAPARI_STRICT_QT"] = "1"


@pytest.fixture
def patience_asked(monkeypatch):
    """Note the patience that every call of `imos_core.propagate` is given; None: not said."""
    import imos_core

    asked = []
    real = imos_core.propagate

    def noted(*args, **options):
        asked.append(options.get("patience"))
        return real(*args, **options)

    monkeypatch.setattr(imos_core, "propagate", noted)
    return asked
