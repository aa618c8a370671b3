"""propagate(): order, anchors, ids, laziness, several labels, symmetry, and what it refuses."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY_R50, disc_volume, tiny_model

from imos_core import MemoryConfig, adapt, propagate
from imos_core.cutting import _samples
from imos_core.errors import (
    DeviceError,
    ImageError,
    ImosError,
    OutOfMemoryWarning,
    PromptError,
    PromptWarning,
    PropagationError,
    WeightsError,
)
from imos_core.model import IMOS
from imos_core.preprocess import normalise
from imos_core.propagator import Propagator
from imos_core.series.volumes import with_model
from imos_core.weights import save_adapter


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def disc():
    return disc_volume()


def _run(image, prompts, model, **options):
    options = {"precision": "float32", "device": "cpu", **options}
    return list(propagate(image, prompts, model=model, **options))


@pytest.mark.parametrize("options", [{}, {"window": "full"}, {"ends": {1: [2, 4]}}])
def test_outward_from_the_anchor_both_sides_alternating(model, disc, options):
    image, labels = disc
    order = [s.index for s in _run(image, {3: labels[3]}, model, **options)]
    assert order == [3, 4, 2, 5, 1, 6, 0, 7, 8]


@pytest.mark.parametrize("window", ["auto", "full"])
def test_an_image_of_one_value_is_walked(model, disc, window):
    image, labels = disc
    with pytest.warns(PromptWarning, match="constant"):
        told = _run(image * 0, {3: labels[3]}, model, window=window)
    limits = _run(image * 0, {3: labels[3]}, model, window=window, contrast=(0, 1))
    for a, b in zip(told, limits, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)


def test_sources_say_which_side(model, disc):
    image, labels = disc
    for s in _run(image, {3: labels[3]}, model):
        expected = "anchor" if s.index == 3 else "forward" if s.index > 3 else "backward"
        assert s.source == expected


@pytest.mark.parametrize(
    ("direction", "indices"), [("forward", [3, 4, 5]), ("backward", [3, 2, 1])]
)
def test_direction_and_range(model, disc, direction, indices):
    image, labels = disc
    found = _run(image, {3: labels[3]}, model, direction=direction, start=1, stop=6)
    assert [s.index for s in found] == indices


@pytest.mark.parametrize("window", ["auto", "full"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, ">i2"])
def test_ids_dtype_and_shapes(model, disc, dtype, window):
    image, labels = disc
    prompt = (labels[4] * 77).astype(dtype)
    for s in _run(image[2:7], {2: prompt}, model, window=window):
        assert s.labels.dtype == dtype
        assert s.labels.shape == s.confidence.shape == prompt.shape
        assert set(np.unique(s.labels)) <= {0, 77}
        assert s.confidence.dtype == np.float16
        assert 0 <= s.confidence.min() <= s.confidence.max() <= 1


def test_anchors_come_back_voxel_for_voxel(model, disc):
    image, _ = disc
    rng = np.random.default_rng(1)
    prompts = {2: rng.integers(0, 4, (48, 48)), 6: rng.integers(0, 3, (48, 48))}
    found = {s.index: s for s in _run(image, prompts, model)}
    for k, painted in prompts.items():
        np.testing.assert_array_equal(found[k].labels, painted)
        assert found[k].source == "anchor"


@pytest.mark.parametrize("window", ["auto", "full"])
def test_slices_of_a_run_are_of_one_type(model, disc, window):
    image, labels = disc
    types = {1: np.uint8, 4: np.int64, 7: np.uint64}
    found = _run(image, {k: labels[k].astype(t) for k, t in types.items()}, model, window=window)
    assert {piece.labels.dtype for piece in found} == {np.dtype(np.uint64)}
    for piece in found[:3]:
        np.testing.assert_array_equal(piece.labels, labels[piece.index])


def test_between_two_anchors_both_sides_blend(model, disc):
    image, labels = disc
    found = {s.index: s.source for s in _run(image, {2: labels[2], 6: labels[6]}, model)}
    assert found == {
        0: "backward", 1: "backward", 2: "anchor", 3: "blend", 4: "blend", 5: "blend",
        6: "anchor", 7: "forward", 8: "forward",
    }  # fmt: skip


@pytest.mark.parametrize("window", ["auto", "full"])
def test_labels_with_anchors_of_their_own(model, disc, window):
    image, labels = disc
    second = np.zeros_like(labels[6])
    second[5:15, 5:15] = 2
    found = _run(image, {2: labels[2], 6: second}, model, window=window)
    assert sorted(s.index for s in found) == list(range(9))


@pytest.mark.parametrize("window", ["auto", "full"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis_is_the_same_as_moving_it_first(model, disc, axis, window):
    image, labels = disc
    moved, painted = np.moveaxis(image, 0, axis), labels[4]
    expected = _run(image, {4: painted}, model, window=window)
    found = _run(moved, {4: painted}, model, axis=axis, window=window)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize("window", ["auto", "full"])
def test_backward_is_forward_on_the_reversed_volume(model, disc, window):
    image, labels = disc
    forward = _run(image, {3: labels[3]}, model, direction="forward", window=window)
    back = _run(image[::-1], {5: labels[3]}, model, direction="backward", window=window)
    for a, b in zip(forward, back, strict=True):
        assert a.index == 8 - b.index
        np.testing.assert_array_equal(a.labels, b.labels)


def test_permuted_ids_come_out_permuted(model, disc):
    image, labels = disc
    painted = labels[4].copy()
    painted[4:14, 4:14] = 2
    swapped = np.array([0, 9, 4], np.uint16)[painted]
    for a, b in zip(
        _run(image, {4: painted}, model), _run(image, {4: swapped}, model), strict=True
    ):
        np.testing.assert_array_equal(np.array([0, 9, 4], np.uint16)[a.labels], b.labels)


def test_only_the_labels_that_are_asked_for(model, disc):
    image, labels = disc
    painted = labels[4].copy()
    painted[4:14, 4:14] = 2
    for s in _run(image, {4: painted}, model, labels=[2]):
        if s.source != "anchor":
            assert 1 not in s.labels


@pytest.mark.parametrize("window", ["auto", "full"])
def test_labels_go_through_slices_that_show_others_only(model, disc, window):
    image, labels = disc
    options = {"window": window, "contrast": (0, 255)}
    other = np.zeros_like(labels[6])
    other[9:12, 9:12] = 2
    prompts = {4: labels[4], 6: other}
    alone = {s.index: s for s in _run(image, {4: labels[4]}, model, **options)}
    asked = {s.index: s for s in _run(image, prompts, model, **options, labels=[1])}
    assert (asked[6].labels[other != 0] == 2).all()
    for k, s in asked.items():
        around = np.where(other, 0, 1) if k == 6 else 1
        np.testing.assert_array_equal(s.labels * around, alone[k].labels * around)
        assert s.source == alone[k].source
    assert _sources(_run(image, prompts, model, **options))[6] == "anchor"
    # nor where it is not, or where nobody goes
    said = _run(image, prompts, model, **options, labels=[1], ends={1: [6]})
    assert _sources(said)[6] == "anchor"
    back = _run(image, prompts, model, **options, labels=[1], direction="backward")
    assert _sources(back)[6] == "anchor"


def _sources(slices):
    return {s.index: s.source for s in slices}


def test_colour_and_grey_replicated_agree(model, disc):
    image, labels = disc
    colour = np.repeat(image[..., None], 3, -1)
    for a, b in zip(
        _run(image, {4: labels[4]}, model),
        _run(colour, {4: labels[4]}, model, channels_last=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a.labels, b.labels)


def test_gain_and_offset_of_the_image_do_not_matter(model, disc):
    image, labels = disc
    scaled = image.astype(np.float32) * 40 - 1000
    for a, b in zip(
        _run(image, {4: labels[4]}, model), _run(scaled, {4: labels[4]}, model), strict=True
    ):
        assert (a.labels == b.labels).mean() > 0.999


def test_a_reference_network_works_in_windows_and_whole_slices(disc):
    image, labels = disc
    network = tiny_model(TINY_R50)
    for window in ("auto", "full"):
        assert len(_run(image, {4: labels[4]}, network, window=window)) == 9


def test_slices_are_read_lazily_one_at_a_time(model, disc):
    image, labels = disc

    class Lazy:
        shape = image.shape

        def __init__(self):
            self.read = []

        def __getitem__(self, where):
            self.read.append(where[0])
            return image[where]

    lazy = Lazy()
    run = propagate(
        lazy, {0: labels[0]}, model=model, precision="float32", contrast=(0, 255), device="cpu"
    )
    next(run)
    next(run)
    # the prompt slice is looked at once more, to see that there is something to follow
    assert lazy.read == [0, 0, 1]


def test_cancel_keeps_what_is_done_and_stops(model, disc):
    image, labels = disc
    cancel = threading.Event()
    run = propagate(image, {0: labels[0]}, model=model, cancel=cancel, device="cpu")
    done = [next(run), next(run)]
    cancel.set()
    assert [*done, *run][-1].index <= 2


def test_long_runs_consolidate_and_still_finish(model):
    image, labels = disc_volume(slices=40)
    memory = MemoryConfig(
        memorize_every=1,
        min_working_frames=2,
        max_working_frames=4,
        num_prototypes=8,
        max_long_term_tokens=24,
    )
    assert len(_run(image, {20: labels[20]}, model, memory=memory)) == 40


def test_the_same_call_gives_the_same_result(model, disc):
    image, labels = disc
    first, second = (_run(image, {4: labels[4]}, model) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)


def test_running_out_of_memory_is_one_sentence(model, disc, monkeypatch):
    import torch

    image, labels = disc
    run = propagate(image, {4: labels[4]}, model=model, device="cpu")

    def fail(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model), "encode_query", fail)
    with (
        pytest.warns(OutOfMemoryWarning, match="going on with 1 windows"),
        pytest.raises(PropagationError, match="ran out of memory"),
    ):
        list(run)


VOLUME, LABELS = disc_volume(5)


@pytest.mark.parametrize(
    ("image", "prompts", "options", "error", "words"),
    [
        (VOLUME, {2: LABELS[2] * 0}, {}, PromptError, "Nothing is painted on slice 2"),
        (VOLUME, {2: LABELS[2, :-1]}, {}, PromptError, "have shape"),
        (VOLUME, {2: LABELS[2]}, {"axis": 5}, PromptError, "out of range"),
        (VOLUME, {2: LABELS[2]}, {"labels": [3]}, PromptError, "Label 3 is not painted"),
        (VOLUME, {2: LABELS[2] * 1.0}, {}, PromptError, "must be integers"),
        (VOLUME, {2: LABELS[2]}, {"start": 4, "stop": 2}, PromptError, "range"),
        (VOLUME, {2: LABELS[2]}, {"direction": "up"}, PromptError, "Direction"),
        (VOLUME, {2: LABELS[2]}, {"window": "tiny"}, PromptError, "Window"),
        (VOLUME, {2: LABELS[2]}, {"spacing": (1, 2)}, PromptError, "Spacing"),
        (VOLUME * np.nan, {2: LABELS[2]}, {}, ImageError, "NaN"),
        (VOLUME * np.nan, {2: LABELS[2]}, {"contrast": (0, 9)}, ImageError, "NaN"),
        (VOLUME[:1], {0: LABELS[2]}, {}, ImageError, "only one slice"),
        (VOLUME, {2: LABELS[2]}, {"contrast": (3, 3)}, ImageError, "interval"),
        (VOLUME, {2: LABELS[2]}, {"contrast": (5,)}, ImageError, r"two numbers.*\(5,\)"),
        (VOLUME, {2: LABELS[2]}, {"contrast": 5}, ImageError, "two numbers"),
        (VOLUME, {2: LABELS[2]}, {"contrast": "auto"}, ImageError, "not 'auto'"),
        (VOLUME, {2: LABELS[2]}, {"axis": None}, PromptError, "axis must be a whole number"),
        (VOLUME, {2: LABELS[2]}, {"memory": "x"}, PromptError, "must be a MemoryConfig, not 'x'"),
        (VOLUME, {2: LABELS[2]}, {"start": 2.5}, PromptError, "start .* not 2.5"),
        (VOLUME, {2: LABELS[2]}, {"stop": "3"}, PromptError, "stop must be"),
        (VOLUME, {2: LABELS[2]}, {"batch": "x"}, PromptError, "batch must be"),
        (VOLUME, {2: LABELS[2]}, {"spacing": 2}, PromptError, "Spacing"),
        (VOLUME, {2: LABELS[2]}, {"spacing": "111"}, PromptError, "Spacing"),
        (VOLUME, {2: LABELS[2]}, {"spacing": (1, 1e-9, 1e9)}, PromptError, "1e-09 x 1e[+]09 are"),
        (VOLUME, {2: LABELS[2]}, {"spacing": (10**400, 1, 1)}, PromptError, "Spacing"),
        (VOLUME, {2: LABELS[2]}, {"labels": "1"}, PromptError, "labels must be whole numbers"),
        (VOLUME, {2: LABELS[2]}, {"labels": [1.5]}, PromptError, "Each of labels"),
        (VOLUME, {"2": LABELS[2]}, {}, PromptError, "number of a prompt slice"),
        (VOLUME, {2: LABELS[2]}, {"model": "no-such"}, WeightsError, "no model named"),
        (VOLUME, {2: LABELS[2]}, {"model": 3}, WeightsError, "3 is no model"),
        (VOLUME, {2: LABELS[2]}, {"model": "gone.safetensors"}, WeightsError, "does not exist"),
        (VOLUME, {2: LABELS[2]}, {"precision": "int4"}, DeviceError, "Precision"),
        (VOLUME, {2: LABELS[2]}, {"cancel": True}, PromptError, "is_set.* not True"),
        (VOLUME, {2: LABELS[2]}, {"checkpoint": "here"}, PromptError, "not 'here'"),
        ("scan.tif", {2: LABELS[2]}, {}, ImageError, "array of pixels, but 'scan.tif'"),
        (None, {2: LABELS[2]}, {}, ImageError, "array of pixels, but None"),
        (VOLUME, {2: LABELS[2]}, {"memory_budget": 4}, PromptError, "^4 bytes are not enough"),
        (VOLUME, {2: LABELS[2]}, {"memory_budget": 9e9, "window": "full"}, PromptError, "^Whole"),
    ],
)
def test_bad_input_is_refused_at_the_call_in_one_sentence(
    model, image, prompts, options, error, words
):
    before = {k: v.copy() for k, v in prompts.items()}
    with pytest.raises(error, match=words) as caught:
        propagate(image, prompts, **{"model": model, **options})
    assert isinstance(caught.value, ImosError)
    assert "\n" not in str(caught.value)
    for k, v in before.items():
        np.testing.assert_array_equal(prompts[k], v)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": None}, DeviceError, "Device None is unknown"),
        ({"adapter": 3}, WeightsError, "3 is no adapter"),
        ({"adapter": "gone.safetensors"}, WeightsError, "adapter file gone.safetensors"),
    ],
)
def test_what_the_embedded_model_is_loaded_with(options, error, words):
    with pytest.raises(error, match=words):
        propagate(VOLUME, {2: LABELS[2]}, **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "toaster"}, DeviceError, "Device 'toaster' is unknown"),
        ({"adapter": 3}, WeightsError, "3 is no adapter"),
        ({"adapter": "gone.safetensors"}, WeightsError, "adapter file gone.safetensors"),
    ],
)
def test_what_a_network_is_given_beside_counts(model, options, error, words):
    with pytest.raises(error, match=words):
        propagate(VOLUME, {2: LABELS[2]}, model=model, **options)


def test_an_adapter_is_on_top_of_a_network(model, disc, tmp_path):
    image, labels = disc
    less = {"decoder.pred.bias": model.state_dict()["decoder.pred.bias"] - 50}
    save_adapter(less, model, tmp_path / "less.safetensors")
    found = list(
        propagate(image, {4: labels[4]}, model=model, adapter=tmp_path / "less.safetensors")
    )
    assert not any(piece.labels.any() for piece in found[1:])
    # as of several ranges, or a series
    loaded = with_model({"model": model, "adapter": tmp_path / "less.safetensors", "stop": 5})
    assert loaded.keys() == {"model", "stop"}
    assert loaded["model"].state_dict()["decoder.pred.bias"] < -40


@pytest.mark.parametrize("window", ["auto", "full"])
@pytest.mark.parametrize("contrast", [None, (0, 255)])
def test_a_masked_volume_is_one_with_a_black_background(model, disc, window, contrast):
    image, labels = disc
    masked, black = (image.astype(np.float32) for _ in range(2))
    low, high = contrast or np.percentile(masked[2:7:2, ::2, 6::2], (0.5, 99.5))
    if window == "auto" and not contrast:  # what lies around the disc is held by the limits
        around = np.percentile(masked[4, 12:37, 12:37], (0.5, 99.5))
        low, high = min(low, around[0]), max(high, around[1])
    masked[:, :, :6], black[:, :, :6] = np.nan, low
    masked[7], black[7] = np.nan, low
    masked[:, 0, 0], black[:, 0, 0] = np.inf, high
    found, wanted = (
        _run(x, {4: labels[4]}, model, window=window, contrast=limits)
        for x, limits in ((masked, contrast), (black, (low, high)))
    )
    assert len(found) == len(wanted) == 9
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.confidence, other.confidence)


def test_one_id_is_a_list_of_one(model, disc):
    image, labels = disc
    items = list(propagate(image, {4: labels[4]}, labels=1, start=3.0, stop=6, model=model))
    assert sorted(item.index for item in items) == [3, 4, 5]


@pytest.fixture
def defaults():
    """Set torch's default type and device, and put them back."""
    _samples.cache_clear()  # as if the process began now
    yield lambda dtype, device: (torch.set_default_dtype(dtype), torch.set_default_device(device))
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    _samples.cache_clear()


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, None), (torch.float16, "meta")])
def test_what_torch_makes_by_default_does_not_matter(disc, defaults, dtype, device):
    image, truth = disc[0][:4], truth_of_two(disc)
    expected = _run(image, {1: truth}, "imos-compact")
    defaults(dtype, device)
    for found, wanted in zip(_run(image, {1: truth}, "imos-compact"), expected, strict=True):
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_array_equal(found.confidence, wanted.confidence)


def truth_of_two(disc):
    labels = disc[1][1].copy()
    labels[:6, :6] = 2
    return labels


@pytest.mark.parametrize("kind", ["double", "half"])
def test_a_network_in_another_type_is_refused_at_the_call(disc, kind):
    model = getattr(tiny_model(), kind)()
    for call in (propagate, adapt):
        with pytest.raises(WeightsError, match=r"call its float\(\)"):
            call(disc[0], {4: disc[1][4]}, model=model)


def test_one_pixel_is_no_deviation(model):
    image = np.arange(4).reshape(4, 1, 1)
    assert len(_run(image, {1: np.ones((1, 1), int)}, model, window="full")) == 4


@pytest.mark.parametrize("options", [{"long_term": "no"}, {"count_usage": None}])
def test_whether_something_is_remembered_is_true_or_false(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be True or False"):
        MemoryConfig(**options)
    assert MemoryConfig(long_term=np.False_).long_term == False  # noqa: E712


@pytest.mark.parametrize("options", [{"memorize_every": 1.5}, {"top_k": "30"}])
def test_how_much_is_remembered_is_whole_numbers(options):
    with pytest.raises(ValueError, match=r"must be a whole number, not (1\.5|'30')"):
        MemoryConfig(**options)
    assert MemoryConfig(memorize_every=np.int64(3)).memorize_every == 3


@pytest.mark.parametrize("window", ["auto", "full"])
def test_whole_numbers_may_be_floats(model, disc, window):
    image, labels = disc
    given = {"batch": 1.0, "patience": 2.0, "start": 3.0, "stop": 6.0}
    found = _run(image, {4: labels[4]}, model, window=window, **given)
    assert sorted(piece.index for piece in found) == [3, 4, 5]


def test_spacing_may_come_one_by_one(model, disc):
    image, labels = disc
    one_by_one = (size for size in (3.0, 1.0, 2.0))
    found = _run(image, {4: labels[4]}, model, spacing=one_by_one)
    for one, other in zip(
        found, _run(image, {4: labels[4]}, model, spacing=(3, 1, 2)), strict=True
    ):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_memory_can_be_configured(model, disc):
    image, labels = disc
    base = MemoryConfig(memorize_every=2)
    assert len(_run(image, {4: labels[4]}, model, memory=replace(base, top_k=5))) == 9


@pytest.mark.parametrize("objects", [2, 5])
def test_whole_slices_are_those_of_the_network_frame_by_frame(objects):
    """Objects compete once, in the network; the most probable one has the pixel."""
    image, _ = disc_volume()
    size = image.shape[1]
    config = replace(TINY_R50, full_size=size)
    torch.manual_seed(0)
    network = IMOS(config).eval()
    prompt = np.zeros(image.shape[1:], np.uint8)
    for i in range(objects):
        prompt[3 + 8 * i : 10 + 8 * i, 5:30] = i + 1
    walk = Propagator(network)
    wanted = []
    for t, plane in enumerate(image):
        unit = torch.from_numpy(plane.astype(np.float32) / 255).expand(3, -1, -1)
        frame = normalise(unit, config.normalisation)
        if t:
            wanted.append(walk.segment(frame).argmax(0).numpy())
        else:
            masks = np.stack([prompt == i + 1 for i in range(objects)])
            walk.memorize(frame, torch.from_numpy(masks.astype(np.float32)))
    found = _run(image, {0: prompt}, network, window="full", contrast=(0, 255))
    assert len({i for plane in wanted for i in np.unique(plane)}) > 1, "something is found"
    for item, plane in zip(found[1:], wanted, strict=True):
        # rounding decides where two are all but equal
        assert np.mean(item.labels != plane) < 0.005


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((32, 40), (64, 80)), ((50, 200), (64, 256)), ((4, 400), (3, 256)), ((400, 1), (256, 1))],
)
def test_whole_slices_that_are_strips_cost_no_more_than_others(shape, wanted, monkeypatch):
    seen, memorize = [], Propagator.memorize

    def watched(walk, frame, masks):
        seen.append(tuple(frame.shape[-2:]))
        memorize(walk, frame, masks)

    monkeypatch.setattr(Propagator, "memorize", watched)
    image = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    network = IMOS(replace(TINY_R50, full_size=64)).eval()
    found = _run(image, {0: np.ones(shape, np.uint8)}, network, window="full")
    assert seen == [wanted]
    assert [item.labels.shape for item in found] == 3 * [shape]


def test_a_label_that_ends_beside_its_anchor_is_still_seen_by_its_neighbours():
    image = np.random.default_rng(0).integers(0, 255, (6, 32, 32), np.uint8)
    prompt = np.zeros((32, 32), np.uint8)
    prompt[8:20, 6:16], prompt[8:20, 16:26] = 1, 2
    options = {"model": tiny_model(), "device": "cpu", "precision": "float32"}

    def sure(**more):
        found = propagate(image, {2: prompt}, **options, **more)
        return {item.index: item.confidence for item in found if item.index == 3}[3]

    beside, later, alone = sure(ends={2: [1, 3]}), sure(ends={2: [0, 4]}), sure(labels=[1])
    rows, columns = slice(8, 20), slice(0, 12)  # where label 2 competes for nothing
    np.testing.assert_array_equal(beside[rows, columns] > 0.5, later[rows, columns] > 0.5)
    assert (beside != alone).any()


@pytest.mark.parametrize("window", ["auto", "full"])
@pytest.mark.parametrize(("start", "stop"), [(5, 8), (0, 1), (8, 9), (4, 5)])
def test_a_range_holds_what_a_whole_run_finds_there(model, disc, start, stop, window):
    image, labels = disc
    given = {2: labels[2], 6: labels[6]}
    whole = {s.index: s for s in _run(image, given, model, window=window)}
    found = _run(image, given, model, window=window, start=start, stop=stop)
    assert sorted(s.index for s in found) == list(range(start, stop))
    for s in found:
        np.testing.assert_array_equal(s.labels, whole[s.index].labels)
        np.testing.assert_array_equal(s.confidence, whole[s.index].confidence)
