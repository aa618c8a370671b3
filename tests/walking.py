"""A block of legs that walk slice by slice, and find what a test says, without a network."""

from __future__ import annotations


class WalkingBlock:
    """What `Packing` asks of a block, but for `segment`: who inherits says what is found."""

    def __init__(self, model, memory, legs, *rest, state=None, **more):
        self.legs = [[leg, 0] for leg in legs]
        if state is not None:
            steps = dict(state["steps"])
            self.legs = [[leg, steps[leg.name]] for leg in legs if leg.name in steps]

    def __len__(self):
        return len(self.legs)

    def remember(self, ended=()):
        self.legs = [
            [leg, step + 1]
            for leg, step in self.legs
            if step + 1 < len(leg.slices) and leg not in ended
        ]

    def snapshot(self):
        return [list(pair) for pair in self.legs]

    def state(self):
        return {"steps": [(leg.name, step) for leg, step in self.legs]}
