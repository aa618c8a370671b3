"""Cohort: windows of many objects, walked in step as one batch through network and memory."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from imos_core.anchors import Contribution
from imos_core.cutting import move_features, paste
from imos_core.memory import ThreeTierMemory
from imos_core.model import Guide, QueryFeatures, soft_aggregate
from imos_core.model.presence import look
from imos_core.walking.budget import MOST_AHEAD
from imos_core.walking.damage import FARTHEST, damaged, doubted, kept
from imos_core.walking.journey import Journey
from imos_core.walking.lookahead import Lookahead, Seen
from imos_core.walking.row import Row
from imos_core.walking.sight import Sight
from imos_core.walking.tips import find_tips, grow, pushed
from imos_core.walking.transfers import to_host
from imos_core.windows import centred, middle_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from torch import Tensor

    from imos_core.anchors import Leg, Patch
    from imos_core.config import MemoryConfig
    from imos_core.model import IMOS
    from imos_core.model.presence import Looks
    from imos_core.walking.parts import PaintedPart
    from imos_core.walking.planes import Planes

    Labels = Mapping[int, Patch]
    """Slice index -> labels as far as they are known."""

_MOST_ANCHORS = 5
"""Painted slices that a leg memorises, nearest first."""


def _whole(leg: Leg) -> None:
    """Walk whole labels."""


class WindowCohort:
    """Legs that memorise equally many painted slices, segmented together: one window each.

    Parameters
    ----------
    model : IMOS
        Network.
    memory : MemoryConfig
        Configuration of the memory.
    legs : sequence of Leg
        Legs that memorise the same number of painted slices.
    planes : Planes
        Slices to cut windows from.
    known : mapping
        Slice index -> labels known so far; holds the anchors, whole, at the start. Kept, and
        expected to grow as slices are merged.
    spacing : (float, float)
        Size of a pixel along rows and columns.
    thickness : float
        Distance of slices in the same unit; negative: unknown, its size is a guess.
    part_of : callable
        Leg -> the part of its label that it walks; None: all of it, which is the default.
    size : int
        Samples along each side of a window; with a state, it says so.
    several : bool, optional
        Whether the windows are shown where other labels are; by default, if there are several.
    keep_reads : bool
        As for `ThreeTierMemory`.
    most : int
        Windows that may go through the network together, those of coming slices included.
    state : mapping, optional
        Go on from there, with those of the legs that it speaks of, instead of memorising anchors.
    """

    def __init__(
        self,
        model: IMOS,
        memory: MemoryConfig,
        legs: Sequence[Leg],
        planes: Planes,
        known: Labels,
        spacing: tuple[float, float],
        thickness: float = -1.0,
        part_of: Callable[[Leg], PaintedPart | None] = _whole,
        *,
        size: int,
        several: bool | None = None,
        keep_reads: bool = False,
        most: int = MOST_AHEAD,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._config, self._thickness = model, memory, thickness
        self._part_of = part_of
        rule = model.config.normalisation
        self._size = size if state is None else int(state["size"])
        self._sight = Sight(planes, known, spacing, self._size, rule, model.channels)
        self._several = len({leg.label for leg in legs}) > 1 if several is None else several
        self._legs = {leg.name: leg for leg in legs}
        self._keep_reads = keep_reads
        self._most = min(most, MOST_AHEAD)
        self._look_anew()
        self._memory = ThreeTierMemory(memory, keep_reads=keep_reads)
        self._rows: list[Row] = []
        self._since_memory = 0
        self._frames = self._grey = torch.empty(0, dtype=torch.float32, device="cpu")
        self._features: QueryFeatures | None = None
        self._hidden = torch.empty(0, dtype=torch.float32, device="cpu")
        self._journey: Journey | None = None
        if state is None:
            self._memorise_anchors(legs)
        else:
            self.load_state(state)

    def __len__(self) -> int:
        return len(self._rows)

    def segment(self) -> list[Contribution]:
        """Segment the next slice of every leg."""
        model = self._model
        indices = [row.leg.slices[row.step] for row in self._rows]
        moved = self._follow()
        masks = torch.stack([row.mask for row in self._rows])
        # seen through the windows as they are on the slice before
        others = self._others() if model.config.guided else None
        before = [row.window for row in self._rows]
        pursued, alike = self._sight.pursued(indices, before, self._grey, masks)
        unseen = self._damaged(alike)
        for row, window in zip(self._rows, pursued, strict=True):
            row.window = window
        paths = [r.leg.slices[r.step : r.step + MOST_AHEAD] for r in self._rows]
        now = self._lookahead.see(paths, pursued, self._frames)
        if unseen:
            now = self._as_before(now, unseen, moved)
        readout = self._memory.read(now.features.key, now.features.selection)
        guide = None
        if others is not None:
            guide = Guide(
                self._frames,
                now.frames,
                masks[:, None],
                others[:, None],
                self._previous_f4(moved),
                now.flow,
            )
        remember = self._since_memory + 1 >= self._config.memorize_every
        logits, hidden = model.decode(
            now.features, readout, self._hidden, update_hidden=not remember, guide=guide
        )
        logits = pushed(logits.float(), self._rows)
        prob = soft_aggregate(torch.sigmoid(logits))[1][:, 1]  # (B, S, S)
        if unseen:
            prob, hidden = kept(prob, masks, unseen), kept(hidden, self._hidden, unseen)
        self._frames, self._grey, self._features, self._hidden = *now[:3], hidden
        for i, (row, index, p) in enumerate(zip(self._rows, indices, prob, strict=True)):
            row.index, row.mask = index, p
            row.seen = row.seen if i in unseen else index
        grow(self._rows, self._sight)
        return self._shown(prob, unseen)

    def remember(self, ended: Collection[Leg] = ()) -> None:
        """Memorise if it is time, and let go of legs that are done, or have ended before."""
        self._since_memory += 1
        names = {leg.name for leg in ended}
        alive = [
            i
            for i, r in enumerate(self._rows)
            if r.step + 1 < len(r.leg.slices) and r.leg.name not in names
        ]
        if len(alive) < len(self._rows):
            self._select(alive)
        for row in self._rows:
            row.step += 1
        if self._rows and self._since_memory >= self._config.memorize_every:
            self._since_memory = 0
            masks = torch.stack([r.mask for r in self._rows])[:, None]
            self._write(masks, permanent=False)

    # ---- undoing, halving, leaving and coming back ----

    def snapshot(self) -> Any:
        """Return what `rollback` needs to undo a step; nothing is copied."""
        return {
            **self.__dict__,
            "_rows": [replace(row) for row in self._rows],
            "_memory": self._memory.state(),
        }

    def rollback(self, snapshot: Any) -> None:
        """Be as when the snapshot was taken."""
        memory = self._memory
        memory.load_state(snapshot["_memory"], self._sight.device)
        self.__dict__.update(snapshot, _memory=memory)
        self._look_anew()

    def split(self) -> list[WindowCohort]:
        """Two cohorts of half the legs each; itself if it has only one."""
        count = len(self._rows)
        if count < 2:
            return [self]
        halves = []
        for rows in (range(count // 2), range(count // 2, count)):
            half = copy(self)
            half._memory = ThreeTierMemory(self._config, keep_reads=self._keep_reads)
            half.rollback(self.snapshot())
            half._select(list(rows))
            halves.append(half)
        return halves

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as tensors and plain values."""
        # who goes on from there looks ahead from there, and so does this one, to the same bits
        self._look_anew()
        return {
            "rows": [row.state() for row in self._rows],
            "masks": torch.stack([row.mask for row in self._rows]) if self._rows else None,
            "several": self._several,
            "size": self._size,
            "since_memory": self._since_memory,
            # copies, as these are parts of what was seen of several slices
            "frames": self._frames.clone(),
            "grey": self._grey.clone(),
            "hidden": self._hidden,
            "features": self._features and [x.clone() for x in self._features],
            "journey": self._journey and self._journey.state(),
            "memory": self._memory.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` said."""
        device = self._sight.device
        self._rows = [
            Row.of(row, self._legs, state["masks"][i].to(device))
            for i, row in enumerate(state["rows"])
        ]
        self._several, self._since_memory = state["several"], state["since_memory"]
        self._frames, self._grey = state["frames"].to(device), state["grey"].to(device)
        self._hidden = state["hidden"].to(device)
        features, journey = state["features"], state["journey"]
        self._features = features and QueryFeatures(*(x.to(device) for x in features))
        self._journey = journey and Journey.of(journey, device)
        self._memory.load_state(state["memory"], device)

    def unload(self) -> None:
        """Let go of all tensors until `load_state`."""
        for row in self._rows:
            row.mask = torch.empty(0, dtype=torch.float32, device="cpu")
        self._frames = self._grey = self._hidden = torch.empty(0, dtype=torch.float32, device="cpu")
        self._features = self._journey = None
        self._look_anew()
        self._memory.clear()

    def _look_anew(self) -> None:
        """Forget what was seen of coming slices; halves of a cohort have each their own."""
        self._lookahead = Lookahead(self._model, self._sight, self._most)

    def _memorise_anchors(self, legs: Sequence[Leg]) -> None:
        """Memorise the painted slices of every leg, the one it starts from last."""
        count = min(len(legs[0].memorised), _MOST_ANCHORS)
        for rank in reversed(range(count)):
            self._rows = []
            for leg in legs:
                index = leg.memorised[rank]
                window, crop, box = self._sight.painted(index, leg.label, self._part_of(leg))
                self._rows.append(Row(leg, window, window, index, index, crop, box, box))
            self._frames, self._grey = self._cut([r.index for r in self._rows], self._rows)
            self._features = self._model.encode_query(self._frames)
            self._hidden = self._model.initial_hidden(self._frames, 1)
            masks = torch.stack([r.mask for r in self._rows])[:, None]
            self._write(masks, permanent=True)
        if self._model.config.guided:  # the network of the paper is left as it is
            find_tips(self._rows, self._sight, self._grey)
        if self._model.presence is not None:
            assert self._features is not None
            prompt = self._look(masks[:, 0], self._features)
            self._journey = Journey.start(self._model.presence, prompt)

    def _write(self, masks: Tensor, *, permanent: bool) -> None:
        features = self._features
        assert features is not None
        others = self._others()[:, None]
        value, self._hidden = self._model.encode_value(
            self._frames, features.f16, self._hidden, masks, others=others
        )
        self._memory.write(
            features.key, features.shrinkage, value, features.selection, [1], permanent=permanent
        )

    def _judged(self, journey: Journey, prob: Tensor) -> Journey:
        """Judge whether the slice just segmented shows the objects."""
        assert self._model.presence is not None
        assert self._features is not None
        slices = torch.tensor(
            [float(abs(r.index - r.leg.anchor)) for r in self._rows],
            dtype=torch.float32,
            device=prob.device,
        )
        travel = torch.stack([slices, slices * self._thickness], 1)
        pixel = torch.full_like(slices, self._sight.pixel_area)
        now = self._look(prob, self._features)
        return journey.next(self._model.presence, now, travel, pixel)

    def _look(self, prob: Tensor, features: QueryFeatures) -> Looks:
        """How the objects look on a slice."""
        units = [self._sight.sample_area(r.window) for r in self._rows]
        unit = torch.tensor(units, dtype=torch.float32, device=prob.device)
        return look(prob, self._grey, features.f16, unit)

    def _previous_f4(self, moved: list[int]) -> Tensor:
        """Features of the previous slice, encoded again where a window has moved."""
        assert self._features is not None
        f4 = self._features.f4
        if moved:
            f4 = f4.clone()
            f4[moved] = self._model.encode_query(self._frames[moved]).f4
        return f4

    def _select(self, alive: list[int]) -> None:
        self._rows = [self._rows[i] for i in alive]
        index = torch.tensor(alive, dtype=torch.long, device=self._frames.device)
        self._frames, self._hidden = self._frames[index], self._hidden[index]
        self._grey = self._grey[index]
        if self._features is not None:
            self._features = type(self._features)(*(x[index] for x in self._features))
        if self._journey is not None:
            self._journey = self._journey.select(index)
        self._memory.select(index)

    def _follow(self) -> list[int]:
        """Let windows suit what is known of the slice before: the rows whose window has moved."""
        moved: list[int] = []
        for i, row in enumerate(self._rows):
            # what others say of the same label may lie anywhere, but not of the same part
            box = row.box if row.leg.part or not row.leg.enclosed else None
            if row.leg.stretch:
                window = centred(row.window, row.box, row.middle, self._sight.shape)
            else:
                window = self._sight.followed(row.index, row.label, row.window, row.first, box)
            if window == row.window:
                continue
            if not moved:  # a copy, so that the step can be undone
                self._hidden = self._hidden.clone()
            self._hidden[i] = torch.stack(
                [move_features(h, row.window, window) for h in self._hidden[i]]
            )
            row.mask = move_features(row.mask[None], row.window, window)[0]
            row.window = window
            moved.append(i)
        if moved:
            self._frames, self._grey = self._frames.clone(), self._grey.clone()
            rows = [self._rows[i] for i in moved]
            self._frames[moved], self._grey[moved] = self._cut([r.seen for r in rows], rows)
        return moved

    def _damaged(self, alike: Sequence[float]) -> list[int]:
        """Rows that the next slice shows nothing of, though slices behind it do."""
        return damaged(
            alike,
            [r.leg.ahead(r.step, FARTHEST) for r in self._rows],
            lambda rows, indices: self._sight.alike(
                indices, [self._rows[i].window for i in rows], self._grey[rows]
            ),
        )

    def _as_before(self, now: Seen, rows: list[int], moved: list[int]) -> Seen:
        """Put what rows have seen before in place of a damaged slice, which leaves no trace."""
        self._look_anew()  # what was seen of the next slices was compared with it
        then = self._features
        assert then is not None
        stale = [i for i in rows if i in moved]
        if stale:
            again = self._model.encode_query(self._frames[stale])
            then = QueryFeatures(*(x.clone() for x in then))
            for x, y in zip(then, again, strict=True):
                x[stale] = y
        features = (kept(x, y, rows) for x, y in zip(now.features, then, strict=True))
        return Seen(
            kept(now.frames, self._frames, rows),
            kept(now.grey, self._grey, rows),
            QueryFeatures(*features),
            now.flow,
        )

    def _shown(self, prob: Tensor, unseen: list[int]) -> list[Contribution]:
        """What is said of the slice just segmented; on a damaged one, with less confidence."""
        shown = prob
        if self._journey is not None:
            journey = self._judged(self._journey, prob)
            self._journey = journey.keep(self._journey, unseen) if unseen else journey
            # between two painted slices an object does not end
            open_ended = torch.tensor([not r.leg.enclosed for r in self._rows], device="cpu").to(
                prob.device
            )
            ended = (self._journey.present < 0.5) & open_ended
            # what the network tracks stays; what it shows fades where the object has ended
            shown = prob * torch.where(ended, self._journey.present, 1.0)[:, None, None]
        if unseen:
            shown = kept(shown, doubted(shown), unseen)
        patches = []
        for row, p in zip(self._rows, shown, strict=True):
            row.box, patch = paste(p[None], row.window, self._sight.shape)
            patches.append(patch[0])
        said = [
            Contribution(row.leg, row.index, row.box, patch)
            for row, patch in zip(self._rows, to_host(patches), strict=True)
        ]
        for i, (row, whole) in enumerate(zip(self._rows, said, strict=True)):
            if row.leg.part:  # others of the label may be seen in the window
                row.box = whole.shown_in
            if row.leg.stretch:
                said[i] = whole.within(middle_of(row.window, self._sight.shape))
                row.middle = said[i].shown_in
        return said

    def _cut(self, indices: Sequence[int], rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        return self._sight.cut(indices, [r.window for r in rows])

    def _others(self) -> Tensor:
        """Return other labels in the rows' windows, as far as known: `(B, S, S)`."""
        if not self._several:
            return torch.zeros_like(self._grey)
        seen = [(r.index, r.label, r.window) for r in self._rows]
        return self._sight.others(*zip(*seen, strict=True))
