"""A table: rows of text that can be written as Markdown or as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

STAR = " *"
"""Ends a name that the table's note explains."""


class Row(NamedTuple):
    """One line of a table."""

    cells: tuple[str, ...]
    strong: bool = False
    """Whether it sums others up."""


@dataclass(frozen=True)
class Table:
    """Columns of text, the first ones names, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    names: int = 1
    """How many columns are names."""
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown."""
        rule = "|---" * self.names + "|---:" * (len(self.columns) - self.names) + "|"
        lines = [self.title, "", _line(self.columns), rule]
        for cells, strong in self.rows:
            shown = [_starred(c) for c in cells]
            if strong and shown[0]:
                shown[0] = f"**{shown[0]}**"
            lines.append(_line(shown))
        if self.note:
            lines += ["", _starred(self.note)]
        return "\n".join(lines)

    def html(self) -> str:
        """The table as HTML."""
        head = "".join(
            f"<th{' class=name' if i < self.names else ''}>{escape(c)}</th>"
            for i, c in enumerate(self.columns)
        )
        body = []
        for cells, strong in self.rows:
            inner = "".join(
                f"<td{' class=name' if i < self.names else ''}>{escape(c)}</td>"
                for i, c in enumerate(cells)
            )
            kind = " ".join(
                name for name, there in (("sum", strong), ("first", bool(cells[0]))) if there
            )
            body.append(f'<tr class="{kind}">{inner}</tr>')
        note = f"<p class=note>{escape(self.note)}</p>" if self.note else ""
        return (
            f"<figure class=table><figcaption>{escape(self.title)}</figcaption><div class=wide>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
            f"{note}</figure>"
        )


def markdown(tables: Sequence[Table]) -> str:
    """Tables as Markdown, one after the other."""
    return "\n\n".join(t.markdown() for t in tables)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _starred(text: str) -> str:
    """Text whose stars Markdown leaves alone."""
    return text.replace("*", r"\*")
