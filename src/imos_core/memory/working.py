"""Working memory: whole frames at full detail, anchors first and for good, then the latest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.memory.store import TokenStore

if TYPE_CHECKING:
    from torch import Tensor


class WorkingMemory:
    """Memory frames: permanent ones (anchors) at the start, the others in order of arrival.

    The first frame is always permanent. It is the only permanent one that counts as one of the
    frames that the limits speak of, so that more anchors never crowd out recent frames.
    """

    def __init__(self) -> None:
        self.tokens: TokenStore | None = None
        self.frame_tokens = 0
        self.permanent_frames = 0

    @property
    def frames(self) -> int:
        """Number of memory frames."""
        return 0 if self.tokens is None else self.tokens.tokens // self.frame_tokens

    @property
    def limited_frames(self) -> int:
        """Number of memory frames to which the limits apply."""
        return self.frames - max(self.permanent_frames - 1, 0)

    def write(self, frame: TokenStore, *, permanent: bool = False) -> None:
        """Store the tokens of one frame.

        Parameters
        ----------
        frame : TokenStore
            Its tokens, as many as in every other frame.
        permanent : bool
            Whether it is never consolidated or forgotten.

        Raises
        ------
        ValueError
            If the frame has another number of tokens than the first one.
        """
        if self.tokens is None:
            self.tokens, self.frame_tokens, self.permanent_frames = frame, frame.tokens, 1
            return
        if frame.tokens != self.frame_tokens:
            raise ValueError(
                f"All memory frames must have one size: expected {self.frame_tokens} tokens, "
                f"got {frame.tokens}."
            )
        if permanent:
            start = self.permanent_frames * self.frame_tokens
            parts = [self.tokens.span(0, start), frame, self.tokens.span(start, None)]
            self.permanent_frames += 1
        else:
            parts = [self.tokens, frame]
        self.tokens = TokenStore.concatenate([part for part in parts if part.tokens])

    def release(self, kept_frames: int) -> TokenStore:
        """Remove and return the middle: neither permanent nor one of the latest frames.

        Parameters
        ----------
        kept_frames : int
            Frames that stay, the first included, further permanent ones not [T_min].
        """
        assert self.tokens is not None, "nothing was written yet"
        start = self.permanent_frames * self.frame_tokens
        stop = self.tokens.tokens - (kept_frames - 1) * self.frame_tokens
        middle = self.tokens.span(start, stop)
        self.tokens = self.tokens.without(start, stop)
        return middle

    def select(self, rows: Tensor) -> None:
        """Keep the sequences `rows` (int64 numbers or bool, along `B`)."""
        if self.tokens is not None:
            self.tokens = self.tokens.select(rows)

    def clear(self) -> None:
        """Forget everything."""
        self.tokens, self.frame_tokens, self.permanent_frames = None, 0, 0
