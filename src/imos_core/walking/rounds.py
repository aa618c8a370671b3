"""One propagation, round by round: every leg takes a step, slices are merged, memory is updated."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from imos_core.anchors import Merged, Patch
from imos_core.boxes import is_empty
from imos_core.errors import PropagationError
from imos_core.label_ids import carries
from imos_core.model.prepared import prepared
from imos_core.precision import lowered
from imos_core.segmented import SegmentedSlice
from imos_core.walking.budget import FEW_LEGS
from imos_core.walking.cohort import WindowCohort
from imos_core.walking.full import WholeSliceCohort
from imos_core.walking.packing import Packing
from imos_core.walking.patience import Patience
from imos_core.walking.planes import Planes
from imos_core.walking.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Mapping, Sequence

    from imos_core.anchors import Leg, Source, Walk
    from imos_core.walking.run import Run


def slices_of(run: Run) -> Generator[SegmentedSlice, None, None]:
    """Yield the slices of a run; failures of the device become one sentence.

    Parameters
    ----------
    run : Run
        What is done, prepared.

    Raises
    ------
    PropagationError
        If the computation fails.
    """
    try:
        yield from _slices(run)
    except torch.OutOfMemoryError as error:
        raise PropagationError(
            'The device ran out of memory: propagate fewer labels at once or use device="cpu".'
        ) from error
    except RuntimeError as error:
        raise PropagationError(f"The computation failed: {error}") from error


@torch.inference_mode()
def _slices(run: Run) -> Generator[SegmentedSlice, None, None]:
    # a copy: the caller may go on training the network
    grey = run.model.config.channels(run.sweep.colour) == 1
    run.model = prepared(run.model, run.dtype, grey=grey)
    with closing(Rounds(run)) as rounds:
        yield from rounds.begin() if run.state is None else rounds.resume(run.state)
        run.state = None
        yield from rounds.walk()


class Rounds:
    """Rounds of a run, and what is known after each of them.

    In every round, each leg segments its next slice; what they say of a slice is merged, and slices
    that nobody else comes to are finished.

    Parameters
    ----------
    run : Run
        What is done.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting = Waiting(run.walked, run.starts.areas)
        if run.checkpoint is not None:
            self._waiting.keep_at(run.checkpoint.waiting)
        self._watch = Patience(run.patience)
        self._known = {k: Patch(run.whole, run.prompts.slices[k]) for k in run.held}
        self._finished: list[int] = []
        self._unsaved = 0
        self._planes = Planes(run.sweep, run.limits, run.device, run.plan.planes)
        self._packing: Packing[Any] | None = None

    def close(self) -> None:
        """Let go of files."""
        if self._packing is not None:
            self._packing.close()
        self._waiting.close()

    def begin(self) -> Generator[SegmentedSlice, None, None]:
        """Yield painted slices, then memorise them."""
        run = self._run
        if run.checkpoint is not None:
            run.checkpoint.forget()
        for index in sorted(run.anchors):
            if index in run.asked:
                self._finished.append(index)
                sure = np.ones(run.sweep.plane_shape, np.float16)
                painted = self._known[index].labels.astype(run.prompts.result_dtype)
                yield SegmentedSlice(index, painted, sure, "anchor")
        with lowered(run.device, run.dtype):
            self._packing = self._packed()

    def resume(self, state: Mapping[str, Any]) -> Generator[SegmentedSlice, None, None]:
        """Go on from a checkpoint; no slice comes by that."""
        self._finished += state["finished"]
        self._waiting.load(state["waiting"])
        self._watch.load(state["patience"])
        for index, (top, left, plane) in state["known"].items():
            rows, columns = plane.shape
            box = (slice(top, top + rows), slice(left, left + columns))
            self._known[index] = Patch(box, plane.numpy().astype(self._run.prompts.dtype))
        self._packing = self._packed(state["blocks"])
        yield from ()

    def walk(self) -> Generator[SegmentedSlice, None, None]:
        """Yield slices, round by round, to the end or until somebody says stop."""
        run, packing = self._run, self._packing
        assert packing is not None
        late = True
        while len(packing) or late:
            if late:
                yield from self._unreached()
            if run.cancelled:
                self._save()
                return
            touched: dict[int, list[Leg]] = {}
            unseen: set[Walk] = set()
            with lowered(run.device, run.dtype):
                for contribution in packing.segment():
                    self._waiting.add(contribution)
                    touched.setdefault(contribution.index, []).append(contribution.leg)
                    if contribution.leg.part and is_empty(contribution.shown_in):
                        unseen.add(contribution.leg.name)
            complete, lost = self._merge(touched, unseen)
            late = bool(lost)
            with lowered(run.device, run.dtype):
                packing.remember(lost)
            self._waiting.settle()
            _forget(self._known, run.held, touched)
            for index, merged in complete:  # whole planes of one at a time
                self._finished.append(index)
                yield run.segmented(index, merged)
            # the way to what was asked for may be longer than that itself
            self._unsaved += len(complete) + sum(index not in run.asked for index in touched)
            # the caller has come back for more, and so has taken care of what it got
            if self._due(self._unsaved):
                self._save()

    def _unreached(self) -> Generator[SegmentedSlice, None, None]:
        """Yield slices to which nobody comes any more, or ever did."""
        self._waiting.drop_complete(but=self._run.asked)
        rest = self._completed()
        if self._due(self._unsaved + len(rest)):
            # what was computed is kept; these slices cost nothing
            self._save()
        for index in rest:
            item = self._settled(index)
            self._finished.append(index)
            self._unsaved += 1
            yield item
            if self._run.cancelled:
                return

    def _merge(
        self, touched: Mapping[int, Sequence[Leg]], unseen: Collection[Walk]
    ) -> tuple[list[tuple[int, Merged]], list[Leg]]:
        """Merge what legs have just said of slices: those that are finished, and legs that end.

        Of labels in parts, others may be there where one of them is `unseen`.
        """
        run, waiting = self._run, self._waiting
        complete: list[tuple[int, Merged]] = []
        lost: list[Leg] = []
        for index, legs in touched.items():
            merged = self._merged(index)
            ended = [leg for leg in legs if run.ending.stops(leg, index)]
            if index not in run.anchors:
                self._known[index] = run.patch(index, merged)
                here = run.passed.get(index)
                others = [leg for leg in legs if leg not in ended]
                if here is not None:  # others of the anchor have nothing to show there
                    others = [leg for leg in others if leg.label in here]
                ended += self._watch.lost(merged.patch.labels, others, unseen)
            lost += ended
            for leg in ended:
                waiting.end(leg, index)
            if index in run.anchors:
                # another label's anchor: it stays as painted
                waiting.drop(index)
            elif waiting.complete(index):
                waiting.drop(index)
                if index in run.asked:  # others lie on the way
                    complete.append((index, merged))
        return sorted(complete, key=lambda c: c[1].source == "backward"), lost

    def _due(self, unsaved: int) -> bool:
        """Whether so many slices are enough for a checkpoint."""
        checkpoint = self._run.checkpoint
        return checkpoint is not None and unsaved >= checkpoint.every

    def _completed(self) -> list[int]:
        """Slices that are complete since legs have ended before them, outward, forward first."""
        run = self._run
        left = run.reached.difference(run.anchors, self._finished)
        found = filter(self._waiting.complete, left)
        return sorted(found, key=lambda k: (run.distance(k), -k))

    def _merged(self, index: int) -> Merged:
        """What is known of a slice so far, without labels that have ended before it.

        On an anchor, only those that go through it.
        """
        run = self._run
        merged = self._waiting.merge(index, run.prompts.dtype)
        labels = run.ending.cut(index, merged.patch.labels)
        if index in run.passed:
            goes = carries(labels, run.passed[index])
            labels = np.where(goes, labels, labels.dtype.type(0))
        if labels is merged.patch.labels:
            return merged
        return replace(merged, patch=Patch(merged.patch.box, labels))

    def _settled(self, index: int) -> SegmentedSlice:
        """What is known of a slice that nobody comes to any more."""
        run = self._run
        if index in self._waiting:
            merged = self._merged(index)
            self._waiting.drop(index)
            return run.segmented(index, merged)
        nothing = Patch((slice(0, 0), slice(0, 0)), np.zeros((0, 0), run.prompts.dtype))
        side: Source = "forward" if index > min(run.prompts.showing) else "backward"
        return run.segmented(index, Merged(nothing, np.ones((0, 0), np.float16), side))

    def _packed(self, states: Iterable[Mapping[str, Any]] | None = None) -> Packing[Any]:
        """Legs in blocks that the network takes together, new ones or those of a checkpoint."""
        run, planes, known = self._run, self._planes, self._known
        starts, several = run.starts, len({leg.label for leg in run.legs}) > 1

        def make(legs: Sequence[Leg], state: Mapping[str, Any] | None = None) -> Any:
            if run.window == "full":
                return WholeSliceCohort(run.model, run.memory, legs, planes, known, state=state)
            return WindowCohort(
                run.model,
                run.memory,
                legs,
                planes,
                known,
                run.pixel,
                run.thickness,
                starts.part,
                size=starts.of(legs[0]).samples,
                several=several,
                keep_reads=len(run.walked) <= FEW_LEGS,
                most=run.plan.batch,
                state=state,
            )

        groups: dict[tuple[Any, ...], list[Leg]] = {}
        for leg in run.walked:
            # whole slices share one network call per anchor and side, windows one per memory size
            key: tuple[Any, ...] = leg.anchors, leg.anchor, leg.side
            if run.window != "full":
                key = len(leg.memorised), starts.of(leg).samples
            groups.setdefault(key, []).append(leg)
        most = len(run.walked) or 1 if run.window == "full" else run.plan.batch
        if states is None:
            blocks = [block for group in groups.values() for block in self._blocks(group, most)]
            return Packing(make, blocks, most, run.plan.resident)
        packing = Packing(make, [], most, run.plan.resident)
        # no state is kept until the next one is read
        packing.restore(map(partial(make, run.walked), states))
        return packing

    def _blocks(self, group: Sequence[Leg], most: int) -> list[Sequence[Leg]]:
        """Split legs; in fine windows, they take as much memory as several others."""
        run = self._run
        usual = run.model.config.window(run.sweep.colour)
        fine = run.starts.of(group[0]).samples // usual
        count = max(most // fine**2, 1)
        if len(group) > count:
            # what looks at the same slices comes together: not all of them can be kept
            group = sorted(group, key=lambda leg: (leg.anchor, leg.side))
        return [group[i : i + count] for i in range(0, len(group), count)]

    def _save(self) -> None:
        if self._run.checkpoint is None:
            return
        known = {
            index: (
                patch.box[0].start,
                patch.box[1].start,
                torch.from_numpy(patch.labels.astype(np.int64)),
            )
            for index, patch in self._known.items()
            if index not in self._run.anchors
        }
        assert self._packing is not None
        state = {
            "finished": self._finished,
            "known": known,
            "waiting": self._waiting.state(),
            "patience": self._watch.state(),
            "blocks": self._packing.states(),
        }
        self._run.save(state)
        self._waiting.saved()
        self._unsaved = 0


def _forget(known: dict[int, Patch], anchors: Iterable[int], touched: Iterable[int]) -> None:
    """Keep only the labels that the next round looks at, so that memory stays constant."""
    keep = {*anchors, *touched}
    for index in [k for k in known if k not in keep]:
        del known[index]
