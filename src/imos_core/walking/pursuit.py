"""Pursuit: where a window has to go so that what it showed stays in it, when all of it moves far.

Under a hand-held camera, or where a section slipped, objects may move by more than their own size
from one slice to the next, farther than a network sees whose window stays where it was.
What lay in and closely around the object is looked for in a wider view of the next slice, by
normalised cross-correlation. The window moves only where one place fits far better than staying and
than any other place, with all that the window showed: among look-alikes, an object that has ended
must not be mistaken for its neighbour.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

VIEW = 2.5
"""Side of the view that is searched, in sides of the window."""
CELLS = 80
"""Samples along each side of the view."""
_TEMPLATE = round(CELLS / VIEW)  # samples along each side of the window
_AROUND = 3  # samples around the object that matter as much as it does ...
_ELSEWHERE = 0.02  # ... and how much all others do
_NEAREST = 0.07  # sides of the window: a shorter way is no task for the window
_ALIKE = 0.5  # least correlation of what is found again
_CLEARLY = 0.6  # what it lacks to 1 is at most so many times what staying and any rival lack
_WHOLE = 0.6  # least correlation of the whole window there, object or not ...
_GAINS = 0.86  # ... and what it lacks to 1, against what it lacks when staying
_OWN = 12  # samples around the best place that are no rivals of it: less than an object


@torch.no_grad()
def displacement(before: Tensor, masks: Tensor, views: Tensor) -> Tensor:
    """Find where the surroundings of objects went.

    Parameters
    ----------
    before : Tensor
        `(B, S, S)` intensities of windows on the slice before; S is a multiple of 32.
    masks : Tensor
        `(B, S, S)` probability of the objects in them.
    views : Tensor
        `(B, CELLS, CELLS)` intensities of views on the slice now, `VIEW` times the windows' sides
        around the same centres.

    Returns
    -------
    Tensor
        `(B, 2)` rows and columns in sides of the window; 0 where windows had better stay.
    """
    views = views.float()
    template = F.adaptive_avg_pool2d(before.float()[:, None], _TEMPLATE)[:, 0]
    inside = F.adaptive_avg_pool2d((masks > 0.5).float()[:, None], _TEMPLATE)
    near = F.max_pool2d(inside, 2 * _AROUND + 1, 1, _AROUND)[:, 0] + _ELSEWHERE
    match = _correlation(template, near, views)
    side = match.shape[-1]
    stays = match[:, side // 2, side // 2]
    best, place = match.flatten(1).max(1)
    corner = torch.stack([place // side, place % side], 1)
    way = (corner - side // 2).float() / _TEMPLATE
    found = (way.abs().amax(1) >= _NEAREST) & (best > _ALIKE)
    # nearly always; a GPU would have to be waited for
    if found.device.type == "cpu" and not found.any():
        return torch.zeros_like(way)
    rival = torch.maximum(stays, _rival(match, place))
    found &= 1 - best < _CLEARLY * (1 - rival)
    there, here = (
        _similarity(template, _patches(views, where))
        for where in (corner, torch.full_like(corner, side // 2))
    )
    found &= (there > _WHOLE) & (1 - there < _GAINS * (1 - here))
    # a shape that the edge cuts says nothing of where the object goes
    found &= ~_at_the_edge(inside[:, 0] > 0)
    return torch.where(found[:, None], way, torch.zeros_like(way))


def _at_the_edge(inside: Tensor) -> Tensor:
    """Whether objects `(B, n, n)` touch the edge of their window."""
    rows, columns = inside.any(2), inside.any(1)
    return rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]


def _patches(views: Tensor, corner: Tensor) -> Tensor:
    """Cut the template's size from `(B, N, N)` at rows and columns `(B, 2)`."""
    steps = torch.arange(_TEMPLATE, device=views.device)
    rows, columns = (corner[:, axis, None] + steps for axis in (0, 1))
    members = torch.arange(len(views), device=views.device)
    return views[members[:, None, None], rows[:, :, None], columns[:, None]]


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """Plain normalised correlation of `(B, n, n)` and `(B, n, n)`: `(B,)`."""
    a, b = (x.flatten(1) - x.mean((1, 2))[:, None] for x in (a, b))
    return F.cosine_similarity(a, b)


def _rival(match: Tensor, place: Tensor) -> Tensor:
    """Best of `(B, n, n)` that is no neighbour of the place with that number."""
    side = match.shape[-1]
    steps = torch.arange(side, device=match.device)
    down = (steps - (place // side)[:, None]).abs() <= _OWN
    right = (steps - (place % side)[:, None]).abs() <= _OWN
    return match.masked_fill(down[:, :, None] & right[:, None], -1.0).flatten(1).amax(1)


def _correlation(template: Tensor, weight: Tensor, view: Tensor) -> Tensor:
    """Weighted normalised cross-correlation at every place of `(B, n, n)` in `(B, N, N)`.

    Returns
    -------
    Tensor
        `(B, N - n + 1, N - n + 1)`, between -1 and 1.
    """
    share = weight / weight.sum((1, 2), keepdim=True)
    wanted = template - (template * share).sum((1, 2), keepdim=True)
    seen = view - view.mean((1, 2), keepdim=True)
    size = seen.shape[-2:]
    # products of all places at once: the reach of a template that stays inside wraps nowhere
    spectrum, squares = torch.fft.rfft2(seen), torch.fft.rfft2(seen.square())
    weights = torch.fft.rfft2(share, s=size).conj()
    pattern = torch.fft.rfft2(wanted * share, s=size).conj()
    products = torch.stack([spectrum * pattern, spectrum * weights, squares * weights])
    places = seen.shape[-1] - template.shape[-1] + 1
    common, mean, square = torch.fft.irfft2(products, s=size)[..., :places, :places]
    spread = (square - mean.square()).clamp(min=0)
    own = (wanted.square() * share).sum((1, 2), keepdim=True)
    match: Tensor = common / (spread * own).sqrt().clamp(min=1e-6)
    return match
