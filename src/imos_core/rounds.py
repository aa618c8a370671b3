"""One propagation, round by round: every leg takes a step, slices are merged, memory is updated."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from imos_core.anchors import Merged, Patch
from imos_core.budget import FEW_LEGS, MOST_AHEAD
from imos_core.checkpoint import fingerprint
from imos_core.cohort import WindowCohort
from imos_core.errors import PromptError, PropagationError
from imos_core.full import WholeSliceCohort
from imos_core.model.prepared import prepared
from imos_core.model.quantised import eight_bits
from imos_core.packing import Packing
from imos_core.patience import Patience
from imos_core.planes import Planes
from imos_core.precision import lowered
from imos_core.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from imos_core.anchors import Box, Leg, Source
    from imos_core.budget import Plan
    from imos_core.checkpoint import Checkpoint
    from imos_core.config import MemoryConfig
    from imos_core.ending import Ending
    from imos_core.model import IMOS
    from imos_core.prompt import Prompts
    from imos_core.sweep import Sweep


@dataclass(frozen=True)
class SegmentedSlice:
    """One finished slice."""

    index: int
    """Slice index along the axis."""
    labels: npt.NDArray[Any]
    """`(H, W)` labels, with the prompt's dtype and ids."""
    confidence: npt.NDArray[np.float16]
    """`(H, W)` probability of the label that each pixel got, 0..1."""
    source: Source
    """``"anchor"``: as painted; ``"forward"``, ``"backward"``: from one side; ``"blend"``: both."""


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


@dataclass
class Run:
    """One call of `propagate`, all of it checked."""

    sweep: Sweep
    prompts: Prompts
    legs: list[Leg]
    """All that were planned: whose labels compete, and which slices come."""
    walked: list[Leg]
    """Those of them whose labels have not ended before their first slice."""
    model: IMOS
    memory: MemoryConfig
    span: tuple[int, int]
    limits: tuple[float, float]
    pixel: tuple[float, float]
    thickness: float
    device: torch.device
    dtype: torch.dtype
    window: Literal["auto", "full"]
    plan: Plan
    checkpoint: Checkpoint | None
    cancel: Cancel | None
    patience: int | None
    ending: Ending

    def prepare(self) -> None:
        """Check that an interrupted run that is to go on was one like this, and make its folder.

        Raises
        ------
        FileError
            If it was not, or there cannot be one.
        """
        self._fingerprint, self._state = "", None
        self._watch = Patience(self.patience)
        if self.checkpoint is not None:
            self._fingerprint = self._digest()
            self._state = self.checkpoint.restore(self._fingerprint)
            self.checkpoint.make_folder()

    def slices(self) -> Generator[SegmentedSlice, None, None]:
        """Yield slices; failures of the device become one sentence."""
        try:
            yield from self._slices()
        except torch.OutOfMemoryError as error:
            raise PropagationError(
                'The device ran out of memory: propagate fewer labels at once or use device="cpu".'
            ) from error
        except RuntimeError as error:
            raise PropagationError(f"The computation failed: {error}") from error

    @torch.inference_mode()
    def _slices(self) -> Generator[SegmentedSlice, None, None]:
        # a copy: the caller may go on training the network
        grey = self.model.config.channels(self.sweep.colour) == 1
        self.model = prepared(self.model, self.dtype, grey=grey)
        with ExitStack() as stack:
            waiting = stack.enter_context(closing(Waiting(self.walked)))
            if self.checkpoint is not None:
                waiting.keep_at(self.checkpoint.waiting)
            yield from self._rounds(waiting, stack)

    def _rounds(self, waiting: Waiting, stack: ExitStack) -> Generator[SegmentedSlice, None, None]:
        shape = self.sweep.plane_shape
        known = {index: Patch(self._whole, self.prompts.slices[index]) for index in self._held}
        walkers = len({(leg.anchor, leg.side) for leg in self.walked})
        kept = max(8, 2 * walkers + 2) + MOST_AHEAD
        planes = Planes(self.sweep, self.limits, self.device, kept)
        finished: list[int] = []
        if self._state is None:
            for index in sorted(self._anchors):
                if index in self._asked:
                    finished.append(index)
                    sure = np.ones(shape, np.float16)
                    yield SegmentedSlice(index, known[index].labels.copy(), sure, "anchor")
            with lowered(self.device, self.dtype):
                packing = self._packing(planes, known)
        else:
            finished += self._state["finished"]
            waiting.load(self._state["waiting"])
            self._watch.load(self._state["patience"])
            for index, (top, left, plane) in self._state["known"].items():
                rows, columns = plane.shape
                box = (slice(top, top + rows), slice(left, left + columns))
                known[index] = Patch(box, plane.numpy().astype(self.prompts.dtype))
            packing = self._packing(planes, known, self._state["blocks"])
        stack.callback(packing.close)
        unsaved = 0
        late = True
        self._state = None
        while len(packing) or late:
            if late:
                waiting.drop_complete(but=self._asked)
                # nobody comes to these slices any more, or ever did
                rest = self._completed(waiting, finished)
                if self._due(unsaved + len(rest)):
                    # what was computed is kept; these slices cost nothing
                    self._save(finished, known, packing, waiting)
                    unsaved = 0
                for index in rest:
                    item = self._settled(index, waiting)
                    finished.append(index)
                    unsaved += 1
                    yield item
                    if self._cancelled:
                        break
                late = False
            if self._cancelled:
                self._save(finished, known, packing, waiting)
                return
            touched: dict[int, list[Leg]] = {}
            with lowered(self.device, self.dtype):
                for contribution in packing.segment():
                    waiting.add(contribution)
                    touched.setdefault(contribution.index, []).append(contribution.leg)
            complete, lost = [], []
            for index, legs in touched.items():
                merged = self._merged(waiting, index)
                ended = [leg for leg in legs if self.ending.stops(leg, index)]
                if index not in self._anchors:
                    known[index] = self._patch(index, merged)
                    here = self._passed.get(index)
                    others = [leg for leg in legs if leg not in ended]
                    if here is not None:  # others of the anchor have nothing to show there
                        others = [leg for leg in others if leg.label in here]
                    ended += self._watch.lost(merged.patch.labels, others)
                lost += ended
                for leg in ended:
                    waiting.end(leg, index)
                if index in self._anchors:
                    # another label's anchor: it stays as painted
                    waiting.drop(index)
                elif waiting.complete(index):
                    waiting.drop(index)
                    if index in self._asked:  # others lie on the way
                        complete.append(self._segmented(index, merged))
            late = bool(lost)
            with lowered(self.device, self.dtype):
                packing.remember(lost)
            waiting.settle()
            _forget(known, self._held, touched)
            for item in sorted(complete, key=lambda s: s.source):
                finished.append(item.index)
                yield item
            # the way to what was asked for may be longer than that itself
            unsaved += len(complete) + sum(index not in self._asked for index in touched)
            # the caller has come back for more, and so has taken care of what it got
            if self._due(unsaved):
                self._save(finished, known, packing, waiting)
                unsaved = 0

    @cached_property
    def _reached(self) -> set[int]:
        """Slices that come, those included that nobody walks to."""
        return {k for leg in self.legs for k in leg.slices if k in self._asked}

    @property
    def _asked(self) -> range:
        """Slices that were asked for."""
        return range(*self.span)

    @property
    def _cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    def _due(self, unsaved: int) -> bool:
        """Whether so many slices are enough for a checkpoint."""
        return self.checkpoint is not None and unsaved >= self.checkpoint.every

    def _completed(self, waiting: Waiting, finished: Iterable[int]) -> list[int]:
        """Slices that are complete since legs have ended before them, outward."""
        left = self._reached.difference(self._anchors, finished)
        return sorted(filter(waiting.complete, left), key=self._distance)

    def _merged(self, waiting: Waiting, index: int) -> Merged:
        """What is known of a slice so far, without labels that have ended before it.

        On an anchor, only those that go through it.
        """
        merged = waiting.merge(index, self.prompts.dtype)
        labels = self.ending.cut(index, merged.patch.labels)
        if index in self._passed:
            goes = np.isin(labels, list(self._passed[index]))
            labels = np.where(goes, labels, labels.dtype.type(0))
        if labels is merged.patch.labels:
            return merged
        return replace(merged, patch=Patch(merged.patch.box, labels))

    def _settled(self, index: int, waiting: Waiting) -> SegmentedSlice:
        """What is known of a slice that nobody comes to any more."""
        if index in waiting:
            merged = self._merged(waiting, index)
            waiting.drop(index)
            return self._segmented(index, merged)
        nothing = Patch((slice(0, 0), slice(0, 0)), np.zeros((0, 0), self.prompts.dtype))
        side: Source = "forward" if index > min(self.prompts.showing) else "backward"
        return self._segmented(index, Merged(nothing, np.ones((0, 0), np.float16), side))

    def _segmented(self, index: int, merged: Merged) -> SegmentedSlice:
        """Put what was found on a slice around what is painted there of other labels."""
        height, width = self.sweep.plane_shape
        labels, sure = merged.planes((height, width))
        if index in self._passed:
            painted = self.prompts.slices[index]
            labels[painted != 0], sure[painted != 0] = painted[painted != 0], 1
        return SegmentedSlice(index, labels, sure, merged.source)

    def _patch(self, index: int, merged: Merged) -> Patch:
        """What is known of a slice from now on: on the anchor of another label, it stays."""
        if index not in self._held:
            return merged.patch
        labels = self.prompts.slices[index].copy()
        inside = labels[merged.patch.box]
        np.copyto(inside, merged.patch.labels, where=inside == 0, casting="same_kind")
        return Patch(self._whole, labels)

    @cached_property
    def _passed(self) -> dict[int, frozenset[int]]:
        """Painted slices that labels go through, as they say nothing of these."""
        passed: dict[int, set[int]] = {}
        for label, where in self.prompts.through.items():
            on_the_way = {k for leg in self.legs if leg.label == label for k in leg.slices}
            for k in where & on_the_way:
                passed.setdefault(k, set()).add(label)
        return {k: frozenset(labels) for k, labels in passed.items()}

    @cached_property
    def _anchors(self) -> dict[int, npt.NDArray[Any]]:
        """Painted slices that stay as they are."""
        return {k: v for k, v in self.prompts.slices.items() if k not in self._passed}

    @cached_property
    def _held(self) -> frozenset[int]:
        """Painted slices that are known from the start: those that are prompts, or stay."""
        return self.prompts.showing.union(self._anchors)

    @property
    def _whole(self) -> Box:
        """All rows and columns."""
        height, width = self.sweep.plane_shape
        return slice(0, height), slice(0, width)

    def _distance(self, index: int) -> int:
        return min(abs(index - k) for k in self._held)

    def _packing(
        self,
        planes: Planes,
        known: dict[int, Patch],
        states: Sequence[Mapping[str, Any]] | None = None,
    ) -> Packing[Any]:
        several = _several(self.legs)

        def make(legs: Sequence[Leg], state: Mapping[str, Any] | None = None) -> Any:
            if self.window == "full":
                return WholeSliceCohort(self.model, self.memory, legs, planes, known, state=state)
            return WindowCohort(
                self.model,
                self.memory,
                legs,
                planes,
                known,
                self.pixel,
                self.thickness,
                colour=self.sweep.colour,
                several=several[len(legs[0].anchors)],
                keep_reads=len(self.walked) <= FEW_LEGS,
                most=self.plan.batch,
                state=state,
            )

        groups: dict[tuple[Any, ...], list[Leg]] = {}
        for leg in self.walked:
            # whole slices share one network call per anchor and side, windows one per memory size
            full = self.window == "full"
            key = (leg.anchors, leg.anchor, leg.side) if full else (len(leg.anchors),)
            groups.setdefault(key, []).append(leg)
        most = len(self.walked) or 1 if self.window == "full" else self.plan.batch
        if states is None:
            return Packing(make, list(groups.values()), most, self.plan.resident)
        packing = Packing(make, [], most, self.plan.resident)
        packing.restore([make(self.walked, state) for state in states])
        return packing

    def _save(
        self,
        finished: list[int],
        known: Mapping[int, Patch],
        packing: Packing[Any],
        waiting: Waiting,
    ) -> None:
        if self.checkpoint is None:
            return
        self.checkpoint.save(
            self._fingerprint,
            {
                "finished": finished,
                "known": {
                    index: (
                        patch.box[0].start,
                        patch.box[1].start,
                        torch.from_numpy(patch.labels.astype(np.int64)),
                    )
                    for index, patch in known.items()
                    if index not in self._anchors
                },
                "waiting": waiting.state(),
                "patience": self._watch.state(),
                "blocks": packing.state(),
            },
        )
        waiting.saved()

    @property
    def _goes(self) -> list[tuple[int, list[int]]]:
        """Painted slices that labels go through, and these, in order."""
        return sorted((k, sorted(labels)) for k, labels in self._passed.items())

    def _rounding(self) -> tuple[object, ...]:
        """What eight bits depend on, beyond the weights."""
        if self.dtype != torch.int8:
            return ()
        return eight_bits(), sorted(self.model.activations.items())

    def _digest(self) -> str:
        weights = [t for _, t in sorted(self.model.state_dict().items())]
        painted = [v for k in sorted(self.prompts.slices) for v in (k, self.prompts.slices[k])]
        image = [np.asarray(self.sweep.raw(k)) for k in sorted(self.prompts.slices)[:9]]
        limits = tuple(limit + self.sweep.zero for limit in self.limits)
        plain = (
            self.sweep.axis, self.sweep.length, self.legs, asdict(self.memory), self.span,
            limits, self.pixel, self.thickness, self.dtype, self.window, self.patience,
            self.ending.ranges, *self._goes, *self._rounding(),
        )  # fmt: skip
        return fingerprint(*plain, *painted, *image, *weights)


def _several(legs: Iterable[Leg]) -> dict[int, bool]:
    """Whether several labels walk, by the number of their anchors."""
    labels: dict[int, set[int]] = {}
    for leg in legs:
        labels.setdefault(len(leg.anchors), set()).add(leg.label)
    return {count: len(which) > 1 for count, which in labels.items()}


def _forget(known: dict[int, Patch], anchors: Iterable[int], touched: Iterable[int]) -> None:
    """Keep only the labels that the next round looks at, so that memory stays constant."""
    keep = {*anchors, *touched}
    for index in [k for k in known if k not in keep]:
        del known[index]
