"""A stage's executed notebook is published atomically; what ended it is one line that says what to do."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.provisioning import LocalProvisioner

from m2rl_lib.cli import run_notebook
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage import atomic


def notebook(path, *cells):
    """A source notebook whose parameters cell is followed by code cells of the given text."""
    tagged = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[tagged, *map(nbformat.v4.new_code_cell, cells)])
    book.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(book, path)
    return path


def execute(tmp_path, *cells, values=None):
    out, log = tmp_path / "out" / "book.ipynb", tmp_path / "work" / "rl-math"
    run_notebook.run(notebook(tmp_path / "book.ipynb", *cells), out, log, {"seed": 3} if values is None else values)
    return out, log


def test_a_notebook_that_ran_is_published_with_what_made_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "open-sesame-please")
    lines = "print('rl-math: step', seed)\nprint('aside')\nimport os\nprint('aside ' + os.environ['SOME_TOKEN'], flush=True)"
    with pytest.raises(run_notebook.StageError, match="holds the value of SOME_TOKEN: it is not published"):
        execute(tmp_path, lines)
    log = (tmp_path / "work" / "rl-math" / "papermill.log").read_text()
    assert "aside" in log and "open-sesame" not in log and "the value of SOME_TOKEN" in log
    assert not (tmp_path / "out").exists() and not (tmp_path / "work" / "rl-math" / "unfinished.ipynb").exists()
    shown = capsys.readouterr().out
    assert "rl-math: step 3" in shown and "aside" not in shown
    monkeypatch.delenv("SOME_TOKEN")
    out, log = execute(tmp_path, "print('rl-math: step', seed)")
    made_by = json.loads(out.read_bytes())["metadata"]["m2rl"]
    assert made_by["parameters"] == {"seed": 3} and made_by["source"] == atomic.sha256(tmp_path / "book.ipynb")
    assert not (log / "unfinished.ipynb").exists()


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("import os\nos.kill(os.getpid(), 9)", "kernel died"),
        ("import sys\nsys.exit(0)", r"cell 4 of 4 did not run \('print\(1\)'\)"),
        ("raise OSError(28, 'No space left on device')", "the disk is full .*GB free.*goes on from its last checkpoint"),
    ],
    ids=["killed kernel", "exit", "full disk"],
)
def test_a_notebook_that_did_not_leaves_the_last_good_copy(tmp_path, cell, line):
    good = tmp_path / "out" / "book.ipynb"
    atomic.write(good, b"the last good one")
    with pytest.raises(run_notebook.StageError, match=line) as error:
        execute(tmp_path, cell, "print(1)")
    assert "\n" not in str(error.value)
    assert good.read_bytes() == b"the last good one"


CLASH = """import socket
from jupyter_client.provisioning import LocalProvisioner
taken, launch, started = socket.create_server(("127.0.0.1", 0)), LocalProvisioner.pre_launch, []

async def clash(self, **given):
    started.append(self)
    self.ports_cached = len(started) <= CLASHES  # ports are not looked for
    if self.ports_cached:
        self.parent.shell_port = taken.getsockname()[1]
    return await launch(self, **given)

LocalProvisioner.pre_launch = clash
"""  # real kernels, given a port that is taken: as when two start at once


@pytest.mark.parametrize(("clashes", "starts"), [(1, 2), (9, 3)])
def test_a_kernel_whose_port_another_took_is_started_again(tmp_path, monkeypatch, capsys, clashes, starts):
    monkeypatch.setattr(LocalProvisioner, "pre_launch", LocalProvisioner.pre_launch)  # put back afterwards
    exec(CLASH, scope := {"CLASHES": clashes})
    if clashes < starts:
        out, _ = execute(tmp_path, "print('rl-math: step', seed)")
        assert out.is_file()
    else:
        book, log = notebook(tmp_path / "book.ipynb", "print(1)"), tmp_path / "work" / "rl-math"
        assert run_notebook.main(str(book), str(tmp_path / "out.ipynb"), str(log), "{}") == 1
        line = f"rl-math: FAILED: the notebook's kernel died 3 times before it answered; log: {log}/papermill.log\n"
        assert capsys.readouterr().out == line
        assert "Address already in use" in (log / "papermill.log").read_text()
    assert len(scope["started"]) == starts
    scope["taken"].close()


def test_so_is_one_of_nbval(tmp_path):
    book = notebook(tmp_path / "book.ipynb", "print(seed)")
    (tmp_path / "conftest.py").write_text((ROOT / "notebooks" / "conftest.py").read_text() + "CLASHES = 1\n" + CLASH)
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", str(book)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["seed=1;import os", "rlvr_stepz"])
def test_a_parameter_name_that_is_code_is_refused_before_work(tmp_path, name, capsys):
    book, log = notebook(tmp_path / "book.ipynb"), tmp_path / "work" / "sft"
    assert run_notebook.main(str(book), str(tmp_path / "out.ipynb"), str(log), json.dumps({name: 4})) == 1
    shown = capsys.readouterr().out
    assert shown.startswith(f"sft: FAILED: book.ipynb: {name!r} is no parameter") and shown.count("\n") == 1
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("kind", "message", "line"),
    [
        ("SafetensorError", "I/O error: No space left on device (os error 28)", "the disk is full"),
        ("RuntimeError", "[enforce fail] PytorchStreamWriter failed writing file data/0", "the disk is full"),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", "out of memory"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB\nmore\nlines", "out of memory"),
        ("MemoryError", "", "out of memory"),
        ("FloatingPointError", "rl-math: loss is nan; step 3", "FloatingPointError: rl-math: loss is nan; step 3"),
    ],
)
def test_causes_are_reported_in_one_line(kind, message, line):
    reported = run_notebook.explain(kind, message)
    assert reported.startswith(line) and "\n" not in reported
    assert run_notebook.explain("DeadKernelError", "", killed_for_memory=True).startswith("out of memory")


def test_a_secret_that_comes_in_pieces_is_left_out(capsys, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "open-sesame-please")
    log = io.StringIO()
    tee = run_notebook.Tee(log)
    for piece in ("sft: open-ses", "ame-please\nsft: ", "step 1\nrest"):
        tee.write(piece)
    assert log.getvalue() == "(a line is left out: it held the value of SOME_TOKEN)\nsft: step 1\n"
    assert capsys.readouterr().out == "sft: step 1\n"


def test_a_whole_parameter_file_is_given_without_a_warning(tmp_path):
    papermill = [Path(sys.executable).with_name("papermill"), "notebooks/03_rlvr_single_domain.ipynb", tmp_path / "out.ipynb"]
    given = ["-f", "params/smoke.yaml", "-p", "domian", "coding", "--prepare-only"]
    done = subprocess.run([*map(str, papermill), *given], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and re.findall("unknown parameter: (.*)", done.stderr) == ["domian"]
