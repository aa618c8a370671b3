"""Fetching: published weights, checked and kept as a copy in the person's data folder."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path

import pooch

from imos_core.errors import WeightsError, first_line
from imos_core.published import PUBLISHED, named
from imos_core.weights import load_model, save_weights
from imos_core.whole_files import writing


def fetch(name: str, *, sha256: str | None = None, quiet: bool = False) -> tuple[Path, str]:
    """Fetch published weights, check that they are what they should be, and keep a copy.

    No checksum is known to us. What is fetched is read as tensors only, and has to have all those
    of the network, of its shapes; the copy is a ``.safetensors`` file.

    Parameters
    ----------
    name : str
        One of `PUBLISHED`, or its preset, ``"imos-r50"``.
    sha256 : str, optional
        Checksum, in hexadecimal digits, that the file has to have.
    quiet : bool
        No progress bar.

    Returns
    -------
    path : Path
        The copy.
    found : str
        SHA-256 of the file that was fetched.

    Raises
    ------
    WeightsError
        If there is nothing of that name or no folder for it, it cannot be fetched, or it is
        something else.
    FileError
        If the copy cannot be written.
    """
    chosen = next((one for one in PUBLISHED if one.name == named(name)), None)
    if chosen is None:
        names = ", ".join(one.name for one in PUBLISHED)
        raise WeightsError(f"There are no published weights named {name!r}: choose from {names}.")
    where = chosen.path
    if where is None:
        raise WeightsError(
            f"There is no folder to keep the weights of {name} in, as no home folder is known: set "
            f"HOME, or fetch {chosen.url} by hand and give its file as the model."
        )
    # it would say on stderr what we say
    pooch.get_logger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="imos-", ignore_cleanup_errors=True) as folder:
        try:
            file = Path(
                pooch.retrieve(
                    chosen.url,
                    None,
                    fname=chosen.url.rsplit("/", 1)[-1],
                    path=folder,
                    downloader=pooch.HTTPDownloader(progressbar=not quiet, timeout=60),
                )
            )
        except Exception as error:  # requests and pooch have errors of their own
            raise WeightsError(
                f"{chosen.url} could not be fetched ({first_line(error)}): look at the connection, "
                "or fetch it by hand and give its file as the model."
            ) from error
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if sha256 is not None and found != sha256.lower():
            raise WeightsError(
                f"What lies at {chosen.url} is not the file with that checksum, but one with "
                f"{found}: nothing was kept."
            )
        network = load_model(file, device="cpu")
        with writing(where):
            where.parent.mkdir(parents=True, exist_ok=True)
        save_weights(
            network,
            where,
            {"source": chosen.url, "source_sha256": found, "licence": chosen.licence},
            half=False,
        )
    return where, found
