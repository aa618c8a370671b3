"""Where labels end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imos_core.ending import Ending, unreached

PLANE = np.array([[0, 1, 2, 1]], np.uint8)


def test_a_label_that_a_person_erased_does_not_go_on_behind():
    ending = Ending({1: [5], 2: [5]}, {1: [9]})
    np.testing.assert_array_equal(ending.cut(8, PLANE), PLANE)
    assert ending.cut(8, PLANE) is PLANE
    np.testing.assert_array_equal(ending.cut(9, PLANE), [[0, 0, 2, 0]])
    np.testing.assert_array_equal(ending.cut(10, PLANE), [[0, 0, 2, 0]])
    np.testing.assert_array_equal(ending.cut(3, PLANE), PLANE)


def test_unless_an_anchor_beyond_shows_it_again():
    ending = Ending({1: [5, 15]}, {1: [9]})
    assert not ending.ended(1, 12)
    both = Ending({1: [5, 15]}, {1: [8, 12]})
    assert both.ended(1, 10)
    assert not both.ended(1, 7)
    assert not both.ended(1, 13)


@given(st.dictionaries(st.integers(0, 11), st.booleans()))
def test_all_slices_at_once_are_as_one_by_one(shows):
    painted, erased = (sorted(k for k in shows if shows[k] is which) for which in (True, False))
    ending = Ending({1: painted}, {1: erased})
    over = unreached(painted, erased)
    for k in set(range(12)) - set(painted):
        comes = any(
            not any(min(a, k) <= e <= max(a, k) for e in erased)
            and not any(min(a, k) < b < max(a, k) for b in painted)
            for a in painted
        )
        assert any(k in some for some in over) is ending.ended(1, k) is not comes
