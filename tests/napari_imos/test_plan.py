"""Which stretches are redone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_imos._record.plan import bases, find_stale
from napari_imos._record.provenance import Provenance


def planes(**painted):
    """``s5=(1, 2)`` -> slice 5 holds labels 1 and 2."""
    result = {}
    for name, ids in painted.items():
        plane = np.zeros((4, 6), np.uint8)
        for i in ids:
            plane[i % 4, : i + 1] = i
        result[int(name[1:])] = plane
    return result


def look(record, prompts, absent, within=(0, 20)):
    ids = sorted({int(i) for p in prompts.values() for i in np.unique(p) if i})
    painted = {i: sorted(k for k in prompts if (prompts[k] == i).any()) for i in ids}
    wanted = bases(prompts, ids, record.length, "m", absent)
    return find_stale(record, wanted, painted, absent, within, prompts), wanted


def spans(record, prompts, within=(0, 20)):
    found, wanted = look(record, prompts, {}, within)
    assert not found.ended
    return list(found.spans), wanted


def done(record, wanted, which):
    for k in which:
        record.deliver(k, 0.5, "forward", {i: int(made[k]) for i, made in wanted.items()})


def test_first_everything_in_one_go_then_only_around_a_new_anchor():
    record = Provenance(20)
    first, wanted = spans(record, planes(s5=(1,), s12=(1,)))
    assert first == [(0, 20)], "both sides of an anchor grow together"
    done(record, wanted, range(20))
    assert spans(record, planes(s5=(1,), s12=(1,), s9=(1,)))[0] == [(6, 12)]
    assert spans(record, planes(s5=(1,), s12=(1,), s17=(1,)))[0] == [(13, 20)]


def test_a_changed_anchor_and_a_dropped_one():
    record = Provenance(20)
    before = planes(s3=(1,), s8=(1,), s14=(1,))
    done(record, spans(record, before)[1], range(20))
    changed = {k: p.copy() for k, p in before.items()}
    changed[8][3, 5] = 1
    assert spans(record, changed)[0] == [(4, 14)]
    del before[8]
    assert spans(record, before)[0] == [(4, 14)]


def test_a_stretch_is_redone_as_a_whole_after_a_stop_and_not_the_others():
    record = Provenance(20)
    prompts = planes(s5=(1,), s12=(1,))
    done(record, spans(record, prompts)[1], [6, 11, 4, 13, 3, 14, *range(0, 3), *range(15, 20)])
    assert spans(record, prompts)[0] == [(6, 12)]


def test_another_label_has_stretches_of_its_own():
    record = Provenance(20)
    done(record, spans(record, planes(s5=(1, 2), s12=(1,)))[1], range(20))
    # label 2 is corrected where label 1 has an anchor anyway
    again = planes(s5=(1, 2), s12=(1, 2))
    assert spans(record, again)[0] == [(6, 20)]


def test_who_asks_again_gets_all_of_it():
    record = Provenance(20)
    prompts = planes(s5=(1,))
    done(record, spans(record, prompts)[1], range(20))
    assert spans(record, prompts)[0] == [(0, 20)]
    assert spans(record, prompts, (2, 9))[0] == [(2, 9)]


HIGH = 2**62  # where floating point does not tell neighbours apart
PAINTED = st.dictionaries(
    st.integers(0, 5),
    arrays(np.uint64, (2, 3), elements=st.sampled_from([0, 1, HIGH, HIGH + 1])),
    max_size=3,
)


@given(PAINTED, PAINTED)
def test_slices_are_made_from_where_a_label_lies_on_the_anchors_around_them(one, other):
    def made_from(prompts, label, k):
        """Say it in the plain way: nearest anchors on both sides, or nothing on one of them."""
        masks = {at: (plane == label).tolist() for at, plane in prompts.items()}
        at = sorted(j for j, plane in prompts.items() if (plane == label).any())
        if k in at:
            return None
        return [
            (j, masks[j]) for j in (*[j for j in at if j < k][-1:], *[j for j in at if j > k][:1])
        ]

    ids = [1, HIGH, HIGH + 1]
    turned = {k: np.asfortranarray(plane) for k, plane in other.items()}
    found, again = (bases(prompts, ids, 6, "m", {}) for prompts in (one, turned))
    for label in ids:
        for k in range(6):
            same = made_from(one, label, k) == made_from(other, label, k)
            assert (found[label][k] == again[label][k]) == same


def test_behind_an_erased_slice_nothing_is_walked():
    record = Provenance(20)
    prompts = planes(s5=(1,), s12=(1,))
    done(record, spans(record, prompts)[1], range(20))
    prompts[16] = np.zeros((4, 6), np.uint8)
    found, _ = look(record, prompts, {1: [16]})
    assert found.spans == ()
    assert found.ended == dict.fromkeys(range(17, 20), (1,))
    # with a new anchor, as far as the erased slice
    prompts[12][3, 5] = 1
    found, wanted = look(record, prompts, {1: [16]})
    assert found.spans == ((6, 16),)
    assert found.ended == dict.fromkeys(range(17, 20), (1,))
    done(record, wanted, range(20))
    # no longer erased: walked again
    del prompts[16]
    assert spans(record, prompts)[0] == [(13, 20)]


@given(
    st.dictionaries(st.integers(0, 11), st.sets(st.integers(1, 3)), min_size=1, max_size=5),
    st.dictionaries(st.integers(0, 11), st.sets(st.integers(1, 3)), min_size=1, max_size=5),
)
def test_what_is_stale_is_done_once_and_walks_begin_at_an_anchor(first, then):
    record = Provenance(12)
    for painted in (first, then):
        prompts = planes(**{f"s{k}": ids for k, ids in painted.items()})
        shown = {i for ids in painted.values() for i in ids}
        if not shown:
            return
        absent = {i: sorted(k for k in prompts if i not in painted[k]) for i in shown}
        found, wanted = look(record, prompts, absent, (0, 12))
        walked = {k for a, b in found.spans for k in range(a, b)}
        assert not walked & found.ended.keys()
        for a, b in found.spans:
            assert any(k in prompts for k in range(a - 1, b + 1)), "a walk begins at an anchor"
        for label, made in wanted.items():
            have = record.basis.get(label, np.zeros(12, np.uint32))
            for k in np.flatnonzero(have != made):
                assert k in walked or k in prompts or label in found.ended[k]
        done(record, wanted, walked | found.ended.keys())
        again, _ = look(record, prompts, absent, (0, 12))
        assert again.spans == ((0, 12),)
        assert not again.ended
