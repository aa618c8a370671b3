"""The report: everything in one file, what is drawn, and that it says what was measured."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tiny import disc_volume, tiny_model

from imos_core.cli import main
from imos_core.evaluation import figures
from imos_core.evaluation.baselines import Interpolation, copy_prompt
from imos_core.evaluation.gallery import Gallery
from imos_core.evaluation.html import html_report
from imos_core.evaluation.scoring import evaluate_folder
from imos_core.weights import save_weights

EMPTY = {"img", "meta"}


class Page(HTMLParser):
    """Tags, attributes and text; complains about tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.attributes, self.text, self._open = [], "", []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *a) for a in attributes]
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"

    @property
    def pictures(self):
        found = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        kind = "data:image/png;base64,"
        assert all(value.startswith(kind) for value in found)
        data = [base64.b64decode(value.removeprefix(kind)) for value in found]
        return [np.asarray(Image.open(io.BytesIO(d)).convert("RGB")) for d in data]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    image, labels = disc_volume(9)
    labels[[0, 8]] = 0
    for modality, name, seen in (("ct", "liver <left>", False), ("us", "atrium", True)):
        (folder / modality).mkdir()
        meta = np.array(json.dumps({"category": name, "seen": seen}))
        spacing = np.array([2.0, 1.0, 1.0])
        np.savez(
            folder / modality / "a.npz", image=image, labels=labels, meta=meta, spacing=spacing
        )
    return folder


@pytest.fixture(scope="module")
def evaluated(folder):
    gallery = Gallery()
    methods = {
        "base": copy_prompt,
        "tuned": copy_prompt,
        "interpolate (2 prompts)": Interpolation(),
    }
    protocols = ("first", "last", "middle")
    return list(evaluate_folder(folder, methods, protocols, watch=gallery)), gallery


@pytest.fixture(scope="module")
def text(evaluated):
    return html_report(*evaluated, ["base", "tuned"], data="mine & yours")


def test_nothing_is_loaded_from_elsewhere(text):
    page = Page(text)
    assert not re.search(
        r"https?:|//|@import|url\(|<script|<link", re.sub(r"base64,[^\"]+", "", text)
    )
    links = [value for _, name, value in page.attributes if name == "href"]
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert links
    assert {link.removeprefix("#") for link in links} == ids


def test_names_are_shown_as_they_are(text):
    page = Page(text)
    assert "ct liver <left> *" in page.text
    assert "mine & yours" in page.text


def test_all_sections_and_tables(text, evaluated):
    page = Page(text)
    for title in (
        "Scores by modality", "Scores by category", "Slices, by modality",
        "Volumes from three sides", "Forward, backward, both ways",
        "J over the distance from the prompt", "Time and memory", "What the words mean",
    ):  # fmt: skip
        assert title in page.text
    results, _ = evaluated
    base = [r.mean for r in results if (r.method, r.protocol) == ("base", "first")]
    assert f"{np.mean(base):.3f}" in page.text
    assert "* not trained on" in page.text


def test_every_figure_is_drawn(text):
    # two modalities: overlays 2, planes 2 x 2 models, bars 1, directions 2, curves 3
    pictures = Page(text).pictures
    assert len(pictures) == 2 + 4 + 1 + 2 + 3
    assert all(p.shape[0] > 100 and p.shape[1] > 200 and p.std() > 5 for p in pictures)


def colour(picture, code):
    wanted = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture.astype(int) - wanted).sum(-1) < 60).sum())


def drawn(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_truth_and_result_are_outlined(evaluated):
    example = evaluated[1].examples["ct"]
    picture = drawn(figures.overlays(example, "first", ["base"]))
    assert colour(picture, figures.TRUTH) > 100
    assert colour(picture, figures.RESULT) > 100
    planes = drawn(figures.planes(example, "middle", "base"))
    assert colour(planes, figures.TRUTH) > 100
    assert colour(planes, figures.RESULT) > 100


def test_an_empty_result_is_drawn_too(folder):
    gallery = Gallery()
    nothing = {"nothing": lambda task: np.zeros(task.sequence.labels.shape, bool)}
    list(evaluate_folder(folder, nothing, ["first"], watch=gallery))
    picture = drawn(figures.overlays(gallery.examples["ct"], "first", ["nothing"]))
    assert colour(picture, figures.RESULT) == 0
    assert colour(picture, figures.TRUTH) > 100


def test_the_longest_object_is_drawn_whatever_its_scores(tmp_path):
    image, labels = disc_volume(6)
    longer = np.zeros_like(labels)
    longer[:, :4, :4] = 7
    longer[1:5, 20:40, 20:40] = 3
    (tmp_path / "ct").mkdir()
    np.savez(tmp_path / "ct" / "a.npz", image=image, labels=np.where(labels, 0, longer))
    np.savez(tmp_path / "ct" / "b.npz", image=image[:5], labels=labels[:5])
    gallery = Gallery()
    list(evaluate_folder(tmp_path, {"copy": copy_prompt}, ["first", "last"], watch=gallery))
    example = gallery.examples["ct"]
    assert (example.sequence.name, example.label) == ("a", 7)
    assert example.methods("last") == ["copy"]
    np.testing.assert_array_equal(example.masks("last", "copy")[0], example.truth[5])


def test_the_command_writes_it(folder, tmp_path, capfd):
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    report = tmp_path / "report.html"
    call = ["evaluate", "--data", str(folder), "--model", str(tmp_path / "tiny.safetensors")]
    call += ["--device", "cpu", "--quiet", "--html", str(report), "--modalities", "us"]
    assert main([*call, "--baseline", "interpolate,randomwalk"]) == 0
    shown = capfd.readouterr().out
    assert "surface Dice" in shown
    assert "forward | backward | both ways" in shown
    page = Page(report.read_text(encoding="utf-8"))
    assert "random walk" in page.text
    assert "ct" not in page.text.split()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--html", "nowhere/report.html"], "folder that exists"),
        (["--html", "."], "cannot be written"),
        (["--tolerance", "0"], "not above 0"),
        (["--tolerance", "much"], "is not 1 number"),
        (["--protocol", "annotate", "--html", "r.html"], "no --html"),
        (["--modalities", "pet"], "No sequences of pet"),
    ],
)
def test_bad_choices_are_one_line(folder, tmp_path, monkeypatch, capfd, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--data", str(folder), "--quiet", *arguments]) == 2
    shown = capfd.readouterr().err
    assert sentence in shown
    assert len(shown.splitlines()) == 1


def test_without_matplotlib_one_line_says_what_to_install(folder, monkeypatch, capfd):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["evaluate", "--data", str(folder), "--html", "r.html"]) == 2
    assert "napari-imos[evaluate]" in capfd.readouterr().err


def test_without_monai_the_rest_is_measured(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(__import__("sys").modules, "monai.metrics", None)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    call = ["evaluate", "--data", str(folder), "--model", str(tmp_path / "tiny.safetensors")]
    call += ["--device", "cpu", "--quiet", "--protocol", "first", "--baseline", "copy"]
    assert main(call) == 0
    shown = capfd.readouterr()
    assert "surface Dice |" not in shown.out
    assert "without surface scores" in shown.err
    assert main([*call, "--tolerance", "2"]) == 2
