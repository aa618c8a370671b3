"""Files that are written whole or not at all."""

from __future__ import annotations

import errno

import pytest

from imos_core.errors import FileError
from imos_core.whole_files import swapped_in


def _fill_the_disk(path):
    with swapped_in(path) as partial:
        partial.write_bytes(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_old_file_stays_and_one_sentence_says_so(tmp_path):
    path = tmp_path / "overview.png"
    path.write_bytes(b"old")
    words = r"overview\.png cannot be written: no space left on device\.$"
    with pytest.raises(FileError, match=words):
        _fill_the_disk(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
