"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import settings

# the same examples in every run, so that a failure is one of the change at hand;
# --hypothesis-profile=search looks for others
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile("same")


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


@pytest.fixture
def spell_anew():
    """Makes another spelling of a file's name lead to it, as on systems that ignore case."""

    def spell(path):
        other = path.with_name(path.name.title())
        with suppress(FileExistsError):  # it does so by itself
            os.link(path, other)
        return other

    return spell


@pytest.fixture
def held_when_discarded(monkeypatch):
    """Files that are open or mapped when the folders of work that they are in are removed.

    Windows removes no such file: it would stay, as large as the result.
    """
    import psutil

    from imos_core.files import results

    held, discard = [], results.discard

    def watch(folders):
        folders = list(folders)
        me = psutil.Process()
        # where maps cannot be seen, files can
        maps = me.memory_maps() if hasattr(me, "memory_maps") else []
        known = [seen.path for seen in (*maps, *me.open_files())]
        held.extend(path for path in known if path.startswith(tuple(map(str, folders))))
        discard(folders)

    monkeypatch.setattr(results, "discard", watch)
    return held
