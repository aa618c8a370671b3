"""Published weights are fetched from a server on this machine; files are converted."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from tiny import tiny_model

from imos_core import load_model, published
from imos_core.cli import main
from imos_core.tensor_files import read_state
from imos_core.weights import list_models, save_adapter, save_weights


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def network():
    """A network whose numbers do not fit into 16 bits."""
    torch.manual_seed(0)
    model = tiny_model()
    for parameter in model.parameters():
        parameter.data += 1e-4 * torch.rand_like(parameter)
    return model


@pytest.fixture
def server(tmp_path, network, monkeypatch):
    """Serve weights; return their folder."""
    folder, home = tmp_path / "served", tmp_path / "home"
    folder.mkdir()
    save_weights(network, folder / "net.safetensors", half=False)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    serve = partial(httpd.serve_forever, poll_interval=0.01)
    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{httpd.server_port}/net.safetensors"
    known = (replace(published.PUBLISHED[0], url=url),)
    monkeypatch.setattr("imos_core.weights.PUBLISHED", known)
    monkeypatch.setattr("imos_core.fetching.PUBLISHED", known)
    monkeypatch.setattr(published, "user_data_path", lambda *args, **more: home)
    yield folder
    httpd.shutdown()
    httpd.server_close()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def test_fetched_weights_have_a_name(server, network, capsys):
    assert main(["propagate", "a.tif", "b.tif", "-o", "c.tif", "--model", "xmem"]) == 2
    capsys.readouterr()
    for name in ("xmem", "imos-r50"):
        assert main(["weights", "info", name]) == 2
        assert "fetch them once with imos weights get xmem" in capsys.readouterr().err
    assert main(["weights", "list"]) == 0
    assert "not fetched" in capsys.readouterr().out
    assert main(["weights", "get", "imos-r50", "--quiet"]) == 0
    digest = hashlib.sha256((server / "net.safetensors").read_bytes()).hexdigest()
    out, err = capsys.readouterr()
    assert (digest in out, err) == (True, "")
    for name in ("xmem", "imos-r50"):  # the preset that these weights are for
        assert same(load_model(name, device="cpu").state_dict(), network.state_dict())
    info = next(i for i in list_models() if i.name == "xmem")
    assert info.metadata["source_sha256"] == digest
    assert main(["weights", "get", "xmem", "--quiet", "--sha256", digest.upper()]) == 0


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (lambda file: None, ["--sha256", "0" * 64], "is not the file with that checksum"),
        (lambda file: file.unlink(), [], "could not be fetched (404"),
        (lambda file: file.write_bytes(b"no weights"), [], "is damaged or no weights file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-99]), [], "is damaged or no weights"),
    ],
)
def test_what_is_something_else_is_refused(server, capsys, spoil, options, said):
    spoil(server / "net.safetensors")
    assert main(["weights", "get", "xmem", "--quiet", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not published.PUBLISHED[0].path.exists()


def test_what_nobody_has_published(capsys):
    assert main(["weights", "get", "nothing"]) == 2
    assert "choose from xmem" in capsys.readouterr().err


@pytest.mark.parametrize("half", [False, True])
def test_converted_weights_are_the_same(tmp_path, network, capsys, half):
    source, out = tmp_path / "net.safetensors", tmp_path / "out.safetensors"
    save_weights(network, source, half=False)
    more = ["--half"] if half else []
    assert main(["weights", "convert", str(source), "-o", str(out), *more]) == 0
    assert same(read_state(out), read_state(source)) is not half
    assert out.stat().st_size < source.stat().st_size * (0.6 if half else 1.1)
    load_model(out, device="cpu")


def test_what_cannot_be_converted(tmp_path, network, capsys):
    source, adapter = tmp_path / "net.safetensors", tmp_path / "adapter.safetensors"
    save_weights(network, source)
    save_adapter({}, network, adapter)
    before = source.read_bytes()
    for file, out, said in (
        (source, source, "is the file that is converted"),
        (source, tmp_path / "out.pth", "let it end in .safetensors"),
        (source, tmp_path / "gone" / "out.safetensors", "does not exist: make it first"),
        (adapter, tmp_path / "out.safetensors", "is an adapter, not a whole model"),
        (tmp_path / "no.pth", tmp_path / "out.safetensors", "does not exist: check its name"),
        ("a" * 300, tmp_path / "out.safetensors", "is too long"),
    ):
        assert main(["weights", "convert", str(file), "-o", str(out)]) == 2
        assert said in capsys.readouterr().err
    assert source.read_bytes() == before


def test_minutes_are_seconds(monkeypatch):
    asked = []
    monkeypatch.setattr("imos_core.commands.adapt.adapt", lambda options: asked.append(options))
    files = ["adapt", "a.tif", "b.tif", "-o", "c.safetensors"]
    assert main([*files, "--minutes", "1.5"]) == 0
    assert main(files) == 0
    assert [options.seconds for options in asked] == [90, 120]


def no_home(*args, **more):
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("found", [no_home, lambda *args, **more: Path("~/.local/share")])
def test_the_embedded_model_needs_no_home(monkeypatch, capsys, found):
    monkeypatch.setattr(published, "user_data_path", found)
    assert [info.name for info in list_models()] == ["imos-compact"]
    assert load_model("imos-compact").config.name == "imos-compact"
    assert main(["weights", "list"]) == 0
    capsys.readouterr()
    assert main(["weights", "get", "xmem"]) == 2
    said = capsys.readouterr().err
    assert "no home folder is known: set HOME" in said
    assert said.count("\n") == 1


def test_a_home_that_one_may_not_look_into_has_no_weights(monkeypatch):
    def forbidden(path, *args, **more):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("os.stat", forbidden)
        there = list_models()[-1].available
    assert not there
