"""Elements of the XML in an OME-TIFF, under whatever prefix they are written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError, XMLParser

if TYPE_CHECKING:
    import tifffile


class _Elements:
    """What a parser tells of the elements of one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.found: list[dict[str, str]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition("}")[2] == self._name:
            self.found.append(attributes)


def attributes_of(tif: tifffile.TiffFile, element: str) -> list[dict[str, str]]:
    """Return the attributes of every element of a name; nothing of files that are no OME-TIFF.

    Parameters
    ----------
    tif : TiffFile
        The file, opened.
    element : str
        Name, without a prefix.
    """
    elements = _Elements(element)
    with suppress(ParseError):  # what is before the mistake counts
        XMLParser(target=elements).feed(tif.ome_metadata or "")
    return elements.found
