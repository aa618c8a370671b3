"""Which stretches are redone."""

from __future__ import annotations

import numpy as np

from napari_imos._plan import bases, stale_spans
from napari_imos._provenance import Provenance


def planes(**painted):
    """``s5=(1, 2)`` -> slice 5 holds labels 1 and 2."""
    result = {}
    for name, ids in painted.items():
        plane = np.zeros((4, 6), np.uint8)
        for i in ids:
            plane[i % 4, : i + 1] = i
        result[int(name[1:])] = plane
    return result


def spans(record, prompts, within=(0, 20)):
    ids = sorted({int(i) for p in prompts.values() for i in np.unique(p) if i})
    painted = {i: sorted(k for k in prompts if (prompts[k] == i).any()) for i in ids}
    wanted = bases(prompts, ids, record.length, "m")
    return stale_spans(record, wanted, painted, within, prompts), wanted


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
