"""Fixtures shared by all tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def strict_qt():
    """Let napari complain about every widget that a test leaves behind."""
    os.environ["NAPARI_STRICT_QT"] = "1"
