"""Elements of the XML in an OME-TIFF, as other programs write it: not always well-formed."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tifffile

_ATTRIBUTE = re.compile(r"""([\w.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def attributes_of(tif: tifffile.TiffFile, element: str) -> list[dict[str, str]]:
    """Return the attributes of every element of a name; nothing of files that are no OME-TIFF.

    Under whatever prefix and in whatever quotes; a bare ``&`` elsewhere, at which a parser would
    stop, does no harm.

    Parameters
    ----------
    tif : TiffFile
        The file, opened.
    element : str
        Name, without a prefix.
    """
    begin = rf"""<(?:[\w.-]+:)?{element}(?=[\s/>])((?:[^<>"']|"[^"]*"|'[^']*')*)>"""
    return [
        {name: html.unescape(one or other) for name, one, other in _ATTRIBUTE.findall(told)}
        for told in re.findall(begin, tif.ome_metadata or "")
    ]
