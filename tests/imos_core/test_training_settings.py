"""What a phase's file may say, and the one sentence for what it may not."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from imos_core.errors import FileError
from imos_core.training.config import TrainConfig, read_config
from imos_core.training.phases import network_of, sources_of
from imos_core.training.ranges import RANGES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SETTINGS = DOCUMENT.partition("## All settings")[2]


@pytest.mark.parametrize(
    "text",
    [
        'trainable = "nothing"',
        'trainable = "adapters"',
        "frames = 1",
        "memory = { max_working_frames = 1 }",
        "memory = { size = 3 }",
    ],
)
def test_wrong_settings_are_refused(tmp_path, text):
    path = tmp_path / "phase.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=r"phase\.toml"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate = 0", "learning_rate is above 0"),
        ("learning_rate = nan", "learning_rate is above 0"),
        ("final_rate = -1.0", "final_rate is from 0 to 1"),
        ("warm_up_steps = -5", "warm_up_steps is at least 0"),
        ("average = 1", "average is from 0 to below 1"),
        ("workers = -1", "workers is at least 0"),
        ("seed = -1", "seed is from 0 to"),
        ("max_skip = 0", "max_skip is at least 1"),
        ("batch_size = 0", "batch_size is at least 1"),
        ("steps = -1", "steps is at least 0"),
        ("minutes = inf", "minutes is above 0 and finite"),
        ("save_minutes = -5", "save_minutes is at least 0"),
        ("validation_objects = 0", "validation_objects is at least 1"),
        ("thin_plate = 2.0", "thin_plate is from 0 to 1"),
        ("beginnings = 0.8\nendings = 0.8", "at most 1 together"),
        ("mine_from = 0.9\nmine_to = 0.1", "mine_from comes before mine_to"),
        ("frames = 2\nenclosed = 0.5", "give 3 frames or more"),
        ('modalities = "us"', "modalities is a list"),
        ('licences = "open"', "licences is a list"),
        ("licences = [1]", "licences is a list of text"),
        ("modalities = 3", "modalities is a list"),
        ("memory = 3", "memory is a table"),
        ("memory = { foo = 1 }", "memory has no foo"),
        ('memory = { max_working_frames = "x" }', "memory.max_working_frames is a whole number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, text, words):
    path = tmp_path / "phase.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=r"phase\.toml holds a wrong setting") as caught:
        read_config(path)
    assert words in str(caught.value)


def test_every_number_has_a_range():
    numbers = {f.name for f in fields(TrainConfig) if type(f.default) in (int, float)}
    assert numbers == set(RANGES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('static = "a"\nfolders = ["b"]\nweights = { static = 1.0 }', "folders is set"),
        ('static = "a"\nweights = { statics = 1.0 }', "weights names statics"),
        ('static = "a"\nweights = { static = 1.0, folders = 1.0 }', "weights draws folders"),
        ('static = "a"\nweights = { static = -1.0 }', "static is -1.0"),
        ('static = "a"\nweights = { static = nan }', "static is nan"),
        ('static = "a"\nweights = { static = "x" }', "static is 'x'"),
        ("weights = 1.0", "weights is a table"),
        ("emphasis = 3", "emphasis is a table"),
        ("emphasis = { us = -3.0 }", "us is -3.0"),
        ("emphasis = { us = true }", "us is True"),
    ],
)
def test_material_that_would_be_ignored_is_refused(tmp_path, text, words):
    path = tmp_path / "phase.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=r"phase\.toml") as caught:
        read_config(path)
    assert words in str(caught.value)


def test_a_weight_of_0_is_a_choice(tmp_path):
    path = tmp_path / "phase.toml"
    path.write_text('static = "a"\nweights = { static = 0, synthetic = 1.0 }')
    assert len(sources_of(read_config(path))) == 1


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"stripes": 3}, "no stripes"),
        (1, "a table"),
        ({"key_dim": -1}, "key_dim has whole numbers from 1 on"),
        ({"key_dim": "x"}, "key_dim is a whole number"),
        ({"flow": 1}, "flow is true or false"),
        ({"query_planes": [8, 16]}, "query_planes has 3 numbers"),
        ({"query_planes": [8, 16, -1]}, "query_planes has whole numbers from 1 on"),
        ({"memory_stride": 4}, "memory_stride is one of (8, 16)"),
        ({"adapters": True}, "no adapters"),
    ],
)
def test_a_shape_that_no_network_has_is_refused(shape, words):
    with pytest.raises(FileError, match="setting shape") as caught:
        network_of(TrainConfig(shape=shape))
    assert words in str(caught.value)


def test_the_documentation_lists_every_setting():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .+ \|$", SETTINGS, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(f.name for f in fields(TrainConfig))
    for name, default, allowed in rows:
        value = getattr(TrainConfig, name)
        shown = json.dumps(list(value) if isinstance(value, tuple) else value)
        assert default == ("" if value is None else f"`{shown}`"), name
        if name in RANGES and name != "size":
            assert allowed == str(RANGES[name]), name
