"""Exceptions of the engine; each message is one sentence that says what to change.

None derives from ``RuntimeError``: napari's generator workers swallow those silently.
"""

from __future__ import annotations


class ImosError(Exception):
    """Base of every error raised on purpose by the engine."""


class PromptError(ImosError):
    """The painted slices cannot serve as prompts (empty, wrong shape, unknown label, ...)."""


class ImageError(ImosError):
    """The image cannot be propagated through (NaN, too few slices, ...)."""


class FileError(ImosError):
    """A file cannot be read or written."""


class WeightsError(ImosError):
    """A model or adapter file is missing, damaged or belongs to another network."""


class DeviceError(ImosError):
    """The requested device or precision is not available on this machine."""


class PropagationError(ImosError):
    """The run itself failed, for example because the device ran out of memory."""


class FileWarning(UserWarning):
    """A file says of itself what cannot be, and is read without that."""


class OutOfMemoryWarning(UserWarning):
    """The device ran out of memory, and the run goes on with smaller batches."""


class PromptWarning(UserWarning):
    """What is painted can be propagated, but may not be meant like this."""


def first_line(error: BaseException, most: int = 200) -> str:
    """Return what other people's errors begin with, in so many characters; else their kind."""
    return (str(error).strip().splitlines() or [""])[0][:most] or type(error).__name__
