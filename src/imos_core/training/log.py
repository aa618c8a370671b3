"""CSV logs with a header, which go on where a checkpoint has left."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self


class CsvLog:
    """Append rows to a CSV file; the first column is the step.

    Parameters
    ----------
    path : Path
        File; it is begun with a header where it is new.
    columns : sequence of str
        Header.
    step : int, optional
        Step to go on from: rows from there on are of a run that was cut off, and are dropped. By
        default all are kept.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int | None = None) -> None:
        if path.exists():
            # a process that was killed may have left half a line, which the next would go on with
            rows = [x for x in path.read_bytes().splitlines(keepends=True) if x.endswith(b"\n")]
            kept = [
                x
                for x in rows
                if step is None or not x[:1].isdigit() or int(x.split(b",")[0]) < step
            ]
            path.write_bytes(b"".join(kept))
        new = not path.exists() or not path.stat().st_size
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        if new:
            self._writer.writerow(columns)

    def write(self, *values: object) -> None:
        """Append a row."""
        self._writer.writerow(values)

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
