"""What a propagation yields, and what stops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from imos_core.errors import PromptError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imos_core.anchors import Source


@dataclass(frozen=True)
class SegmentedSlice:
    """One finished slice."""

    index: int
    """Slice index along the axis."""
    labels: npt.NDArray[Any]
    """`(H, W)` labels, with the prompt's dtype and ids; of several dtypes, one that holds all."""
    confidence: npt.NDArray[np.float16]
    """`(H, W)` probability of the label that each pixel got, 0..1."""
    source: Source
    """``"anchor"``: as painted; ``"forward"``, ``"backward"``: from one side; ``"blend"``: both.

    A painted slice that labels go through says from where these come; what is painted on it stays.
    """


class Cancel(Protocol):
    """Anything that can say stop, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


def check_cancel(cancel: Any) -> None:
    """Refuse what cannot say stop.

    Raises
    ------
    PromptError
        If it is neither None nor has `is_set`.
    """
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise PromptError(
            f"cancel is something with is_set, such as threading.Event(), not {cancel!r}."
        )
