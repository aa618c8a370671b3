"""Batches: rows become jobs, workers die, jobs fail, and the others are done all the same."""

from __future__ import annotations

import errno
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import Client, LocalCluster
from tiny import disc_volume, tiny_model

import imos_core
from imos_core.cli import main
from imos_core.commands import batch as commands_batch
from imos_core.errors import DeviceError, FileError, PromptError
from imos_core.files import batch
from imos_core.files.batch import JobResult, run_batch
from imos_core.files.jobs import read_jobs
from imos_core.files.one_run import only_run
from imos_core.files.outdated import is_done, mark_outdated
from imos_core.files.propagate import FileJob, propagate_files
from imos_core.files.series import FileSeries
from imos_core.io import read_volume, write_labels
from imos_core.weights import save_weights

SLICES, SIZE = 28, 32
OPTIONS = {"model": "tiny.safetensors", "device": "cpu", "precision": "float32"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    image, truth = disc_volume(9, SIZE)
    there_and_back = [*range(9), *range(7, 0, -1)]
    order = [there_and_back[k % 16] for k in range(SLICES)]
    painted = np.zeros((SLICES, SIZE, SIZE), np.uint16)
    painted[14] = truth[order[14]]
    write_labels(tmp_path / "image.tif", image[order])
    write_labels(tmp_path / "painted.tif", painted)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs_of(folder, count):
    options = {**OPTIONS, "model": str(folder / "tiny.safetensors")}
    return [
        FileJob(
            folder / "image.tif", folder / "painted.tif", folder / f"out{i}.npy", options=options
        )
        for i in range(count)
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dask complains of workers that are killed
def test_two_workers_of_which_one_is_killed_and_a_job_that_fails(folder):
    jobs = jobs_of(folder, 3)
    broken = FileJob(folder / "missing.tif", folder / "painted.tif", folder / "out9.npy")
    one = FileJob(jobs[0].image, jobs[0].painted, folder / "one.npy", options=jobs[0].options)
    propagate_files(one)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    ) as cluster:
        with Client(cluster, set_as_default=False) as client:
            pids = client.run(os.getpid)
        assert len(set(pids.values())) == 2
        slain = []

        def kill():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if list(folder.glob(".out*.partial/checkpoint.pt")):  # somebody is in the middle
                    os.kill(next(iter(pids.values())), signal.SIGKILL)
                    slain.append(True)
                    return
                time.sleep(0.01)

        killer = threading.Thread(target=kill)
        killer.start()
        seen = []
        results = run_batch(
            [*jobs, broken], scheduler=cluster.scheduler_address, every=4, report=seen.append
        )
        killer.join()
    assert slain
    assert [r.error for r in results[:3]] == [None] * 3
    assert results[3].error is not None
    assert "missing.tif does not exist" in results[3].error
    assert results[3].attempts == 2
    assert sorted(r.job.output.name for r in seen) == sorted(j.output.name for j in [*jobs, broken])
    for job in jobs:
        assert job.output.read_bytes() == (folder / "one.npy").read_bytes()
    assert not list(folder.glob(".out*"))


@pytest.mark.slow
def test_command(folder, capfd):
    (folder / "jobs.csv").write_text(
        "image, labels, output, anchors, ids, start, stop, model\n"
        'image.tif, painted.tif, a.npy, 14, "1", 10, 18, tiny.safetensors\n'
        "image.tif, painted.tif, b.npy, 3, , , , tiny.safetensors\n"
    )
    arguments = ["batch", "jobs.csv", "--workers", "1", "--device", "cpu", "--quiet"]
    assert main(arguments) == 2
    shown = capfd.readouterr().err
    assert "b.npy: Nothing is painted on slice 3" in shown
    assert "1 of 2 jobs failed" in shown
    result = np.asarray(read_volume(folder / "a.npy").array)
    painted = np.asarray(read_volume(folder / "painted.tif").array)
    np.testing.assert_array_equal(result[14], painted[14])
    assert not result[:10].any()


def test_a_worker_that_imports_the_script_begins_no_batch_of_its_own(folder):
    script = folder / "script.py"
    script.write_text("from imos_core.files.batch import run_batch\nrun_batch([])\n")
    runpy.run_path(str(script), run_name="__main__")
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__mp_main__")  # as multiprocessing does


def test_workers_that_do_not_start_are_one_sentence(folder, monkeypatch):
    def fail(workers, jobs):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(batch, "_local_cluster", fail)
    with pytest.raises(DeviceError, match=r"call run_batch under if __name__") as said:
        run_batch(jobs_of(folder, 1))
    assert said.value.__suppress_context__


def test_a_scheduler_that_went_is_said(folder, monkeypatch):
    class Gone:
        status, loop = "running", None

        def scheduler_info(self, n_workers):
            return {"workers": {}}

        def submit(self, *args, key, **more):
            assert self.status == "running"
            return SimpleNamespace(key=key, result=self.lose)

        def lose(self):
            self.status = "connecting"
            raise CancelledError

    @contextmanager
    def client(*args):
        yield Gone()

    monkeypatch.setattr(batch, "_client", client)
    monkeypatch.setattr("distributed.as_completed", lambda futures, loop: iter(futures))
    for result in run_batch(jobs_of(folder, 2)):
        assert "The scheduler does not answer any more" in result.error


def test_workers_that_do_not_start_say_why(folder, monkeypatch, capsys):
    def fail(workers, jobs):
        try:
            try:
                raise OSError(errno.EROFS, "Read-only file system")
            except OSError as error:
                raise AssertionError("Status.init") from error
        except AssertionError as error:
            raise RuntimeError("Nanny failed to start.") from error

    monkeypatch.setattr(batch, "_local_cluster", fail)
    (folder / "jobs.csv").write_text("image,labels,output\nimage.tif,painted.tif,new.tif\n")
    assert main(["batch", str(folder / "jobs.csv"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "No workers could be started on this machine (read-only file system): " in said
    assert "script" not in said, "nobody has written one"


def test_results_that_are_there_are_left(folder):
    jobs = jobs_of(folder, 1)
    jobs[0].output.write_bytes(b"the result of last week")
    results = run_batch(jobs, resume=True)
    assert [(r.error, r.attempts) for r in results] == [(None, 0)]
    assert jobs[0].output.read_bytes() == b"the result of last week"


@pytest.fixture(scope="module")
def scheduler():
    """One worker in a thread of this process."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")
def test_a_job_that_failed_is_no_result_that_is_there(folder, scheduler):
    (job,) = jobs_of(folder, 1)
    painted = np.asarray(read_volume(job.painted).array)
    assert [r.error for r in run_batch([job], scheduler=scheduler)] == [None]
    write_labels(job.painted, painted[:, 1:] * 7)
    (result,) = run_batch([job], scheduler=scheduler, attempts=1)
    assert "shape" in result.error
    assert set(np.unique(np.load(job.output))) <= {0, 1}, "an older result stays until there is one"
    write_labels(job.painted, painted * 7)
    (result,) = run_batch([job], scheduler=scheduler, resume=True)
    assert (result.error, result.attempts) == (None, 1)
    assert 7 in np.load(job.output)
    (result,) = run_batch([job], scheduler=scheduler, resume=True)
    assert (result.error, result.attempts) == (None, 0)
    assert not list(folder.glob(".*"))


@pytest.mark.filterwarnings("ignore")
def test_a_job_with_other_settings_starts_anew(folder, scheduler):
    def stop(slices, total, done):
        for number, item in enumerate(slices):
            if number == 9:
                raise KeyboardInterrupt
            yield item

    (job,) = jobs_of(folder, 1)
    with pytest.raises(KeyboardInterrupt):
        propagate_files(job, every=3, watch=stop)
    other = replace(job, start=5)
    for resume in (False, True):
        (result,) = run_batch([other], scheduler=scheduler, attempts=1, resume=resume)
        assert "other inputs or settings: give the same ones, or start anew (--restart)" in (
            result.error
        )
    with only_run(other.outputs()):
        (result,) = run_batch([other], scheduler=scheduler, restart=True)
    assert "another run" in result.error
    assert list(folder.glob(".*/checkpoint.pt"))
    (result,) = run_batch([other], scheduler=scheduler, restart=True, resume=True)
    assert result.error is None
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "1 of 2 jobs had been done and written, the others are kept up to their last"),
        (["--scheduler", "x"], "written, the workers of the scheduler finish what they have begun"),
    ],
)
def test_an_interrupted_list_says_what_there_is(folder, monkeypatch, capfd, more, words):
    def interrupted(jobs, *, report, **options):
        report(JobResult(jobs[1], "failed", 2))
        report(JobResult(jobs[0], None, 1))
        raise KeyboardInterrupt

    monkeypatch.setattr(commands_batch, "run_batch", interrupted)
    (folder / "jobs.csv").write_text("image,labels,output\na,b,c\na,b,d\n")
    assert main(["batch", "jobs.csv", "--quiet", *more]) == 130
    shown = capfd.readouterr().err
    assert shown.count("\n") == 2
    assert words in shown
    assert shown.endswith(": go on with --resume.\n")


def test_a_worker_says_what_it_warns_of(folder, scheduler):
    image = folder / "image.tif"
    labels = np.zeros((SLICES, SIZE, SIZE), np.uint8)
    labels[14, 4:9, 4:9], labels[3:20, 25, 4:12] = 1, 2
    write_labels(folder / "painted.tif", labels)
    job = replace(jobs_of(folder, 1)[0], image=image, labels=[1])
    (result,) = run_batch([job], scheduler=scheduler)
    (said,) = result.warnings
    assert said.startswith("Label 2 is a line on each of slices 3 to 19 of axis 0")


def test_failures_are_told_by_the_path_in_the_list(folder, monkeypatch, capfd):
    def failing(jobs, *, report, **options):
        for job in jobs:
            report(JobResult(job, "failed", 2, ("doubtful",)))

    monkeypatch.setattr(commands_batch, "run_batch", failing)
    elsewhere = folder.parent / "elsewhere.npy"
    (folder / "jobs.csv").write_text(f"image,labels,output\na,b,p1/out.npy\na,b,{elsewhere}\n")
    monkeypatch.chdir(folder.parent)
    assert main(["batch", f"{folder.name}/jobs.csv", "--quiet"]) == 2
    shown = capfd.readouterr().err
    first = f"imos batch: {Path('p1/out.npy')}: "
    assert f"{first}doubtful\n{first}failed\n" in shown
    assert f"imos batch: {elsewhere}: failed\n" in shown


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there, Ctrl-C goes to consoles, not to groups")
def test_ctrl_c_is_one_line(folder):
    image = np.asarray(read_volume(folder / "image.tif").array)
    np.save("long.npy", np.concatenate([image] * 40))
    np.save("one.npy", np.asarray(read_volume(folder / "painted.tif").array)[14])
    (folder / "jobs.csv").write_text(
        "image,labels,output,anchors,model\nlong.npy,one.npy,out.npy,14,tiny.safetensors\n"
    )
    source = str(Path(imos_core.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "imos_core", "batch", "jobs.csv", "--workers", "1", "--device",
         "cpu", "--checkpoint-every", "4", "--quiet"],
        env={**os.environ, "PYTHONPATH": source}, stderr=subprocess.PIPE, start_new_session=True,
        # shells have what they start in the background ignore it, and so these tests
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        while not (folder / ".out.npy.partial" / "checkpoint.pt").exists():
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.01)
        for _ in range(2):  # some press it once more, as closing takes seconds
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(1)
        shown = process.stderr.read().decode()
    assert process.returncode == 130
    assert shown.startswith("imos batch: interrupted; 0 of 1 jobs had been done")
    assert shown.count("\n") == 1
    assert (folder / ".out.npy.partial" / "checkpoint.pt").exists()


def test_no_scheduler(folder, monkeypatch):
    with pytest.raises(DeviceError, match="No scheduler answers"):
        run_batch(jobs_of(folder, 1), scheduler="nonsense://127.0.0.1:1")


@pytest.mark.slow
def test_a_series_is_a_job_too(folder):
    frames = np.asarray(read_volume(folder / "image.tif").array)[8:20]
    painted = np.asarray(read_volume(folder / "painted.tif").array)[8:20]
    np.save(folder / "series.npy", np.stack([frames, frames]))
    np.save(folder / "painted.npy", np.stack([painted, np.zeros_like(painted)]))
    (folder / "jobs.csv").write_text(
        "image,labels,output,series,model,precision\n"
        "series.npy,painted.npy,out.npy,yes,tiny.safetensors,float32\n"
    )
    (job,) = read_jobs(folder / "jobs.csv", {"device": "cpu"})
    assert isinstance(job, FileSeries)
    (result,) = run_batch([job])
    assert (result.error, result.attempts) == (None, 1)
    found = np.load(folder / "out.npy")
    assert found.shape == (2, *frames.shape)
    np.testing.assert_array_equal(found[0, 6], painted[6])


class TestList:
    def test_columns(self, tmp_path):
        (tmp_path / "jobs.csv").write_text(
            "image,labels,output,axis,anchors,spacing,time,memory,window,stop_when_gone\n"
            'a.tif,b.tif,c.zarr,1,"3,4",2 1 1,7,4GB,full,yes\n'
            "/x/a.tif,b.tif,d.zarr,,,,,,,\n"
        )
        first, second = read_jobs(tmp_path / "jobs.csv", {"model": "m"})
        assert first.image == tmp_path / "a.tif"
        assert (first.axis, first.anchors, first.spacing, first.time) == (1, [3, 4], (2, 1, 1), 7)
        assert first.stop_when_gone
        assert first.options == {"model": "m", "memory_budget": "4GB", "window": "full"}
        assert str(second.image) == "/x/a.tif"
        assert second == FileJob(
            second.image, tmp_path / "b.tif", tmp_path / "d.zarr", options={"model": "m"}
        )

    def test_models_beside_the_list(self, tmp_path):
        (tmp_path / "mine.safetensors").touch()
        (tmp_path / "jobs.csv").write_text(
            "image,labels,output,model,adapter\na,b,c,imos-compact,mine.safetensors\n"
        )
        (job,) = read_jobs(tmp_path / "jobs.csv")
        mine = str(tmp_path / "mine.safetensors")
        assert job.options == {"model": "imos-compact", "adapter": mine}

    def test_a_list_from_a_spreadsheet_and_one_that_is_not_there(self, tmp_path):
        (tmp_path / "jobs.csv").write_text("image ,labels, output\na,b,c\n , ,\na,b,d\n,,,\n,,\n")
        assert [job.output.name for job in read_jobs(tmp_path / "jobs.csv")] == ["c", "d"]
        with pytest.raises(FileError, match="does not exist"):
            read_jobs(tmp_path / "job.csv")

    @pytest.mark.parametrize(
        ("text", "error", "words"),
        [
            (b"\xff\xfe\x00", FileError, "not in UTF-8"),
            (b"image,labels,output\n", PromptError, "holds no jobs"),
            (b"image,labels,output,colour\na,b,c,d\n", PromptError, "column 'colour'"),
            (b"image,labels,output\na,b,\n", PromptError, "Line 2 .* no output"),
            (b"image,labels,output,axis\na,b,c,up\n", PromptError, "Line 2 .* is no axis"),
            (b"image,labels,output,spacing\na,b,c,1 1 inf\n", PromptError, "three positive numb"),
            (b"image,labels,output,series\na,b,c,maybe\n", PromptError, "Line 2 .* is no series"),
            (b"image,labels,output\na,b,c\na,b,c\n", PromptError, "Lines 2 and 3 .* both write"),
            (b"image,labels,output\na,b,c\n,,\n\na,b,c\n", PromptError, "Lines 2 and 5 .* both"),
            (b"image,labels,output\na,b,c\na,b,c/x.tif\n", PromptError, "Line 3 .* is inside"),
            (b"image,labels,output\na,b,c/x/y\na,b,c\n", PromptError, "what line 3 writes"),
            (b"image,labels,output,confidence\na,b,c,c/d.tif\n", PromptError, "is inside"),
            (b"image,labels,output\na,b,c\nx,y,b\n", PromptError, "Line 3 .* which line 2 reads"),
            (b"image,labels,output\na,c,x\na,b,c\n", PromptError, "Line 3 .* which line 2 reads"),
            (b"image,labels,output\na,d/b,c\nx,y,d\n", PromptError, "Line 3 .* line 2 reads"),
            (b"image,labels,output\na,b,c\nx,y,a/s1.tif\n", PromptError, "3 .* line 2 reads"),
            (
                b"image,labels,output,series,ended\na,b,c,yes,1:9\n",
                PromptError,
                "Line 2 .* --ended is for one volume",
            ),
            (b"image,labels,output, image\na,b,c,d\n", PromptError, "two columns 'image'"),
            (b"image,labels,output,ids\na,b,c,5,1\n", PromptError, "more cells .* quotes"),
            (b"image;labels;output\na;b;c\n", PromptError, "semicolons"),
            (b"image,labels,output,axis\na,b,c,up\n", PromptError, "give a whole number"),
        ],
    )
    def test_bad_lists_are_one_sentence(self, tmp_path, text, error, words):
        (tmp_path / "jobs.csv").write_bytes(text)
        with pytest.raises(error, match=words):
            read_jobs(tmp_path / "jobs.csv")

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ("a,b,x.tif\na,b,X.Tif", "Lines 2 and 3 .* both write"),
            ("a,b,c\na,x.tif,d\na,b,X.Tif", "Line 4 .* which line 3 reads"),
        ],
    )
    def test_names_that_lead_to_one_file(self, tmp_path, spell_anew, rows, words):
        (tmp_path / "x.tif").touch()
        spell_anew(tmp_path / "x.tif")
        (tmp_path / "jobs.csv").write_text(f"image,labels,output\n{rows}\n")
        with pytest.raises(PromptError, match=words):
            read_jobs(tmp_path / "jobs.csv")


@pytest.mark.parametrize("name", ["labels.tif", "labels.zarr"])
def test_results_that_somebody_has_saved_since_count(tmp_path, name):
    path = tmp_path / name
    write_labels(path, np.ones((2, 8, 8), np.uint8))
    assert is_done([path])
    mark_outdated([path])
    assert not is_done([path])
    time.sleep(0.05)
    write_labels(path, np.full((2, 8, 8), 2, np.uint8))
    assert is_done([path])
