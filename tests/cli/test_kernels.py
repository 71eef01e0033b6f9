import os
import signal
import time

import nbformat
import papermill
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory

from m2rl_lib.cli import kernels

LOOK = "import os, sys; print('torch' in sys.modules, os.environ['SAID'], os.getppid()); print('crash', file=sys.stderr)"


@pytest.fixture(scope="module")
def ready():
    with kernels.ready(OMP_NUM_THREADS="1"):
        while kernels.ADDRESS in os.environ and not os.path.exists(os.environ[kernels.ADDRESS]):
            time.sleep(0.1)  # until then kernels start as any other
        yield


@pytest.fixture
def forked(ready, monkeypatch):
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", factory.default_provisioner_name)
    kernels.use()
    if factory.default_provisioner_name != "forked":
        pytest.skip("a GPU is here, which a fork cannot share")
    monkeypatch.setenv("SAID", "now")


def execute(tmp_path, *cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, tmp_path / "in.ipynb")
    done = papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False)
    return ["".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout") for cell in done.cells]


def test_kernels_are_forked_with_the_libraries_in_the_environment_of_who_asks_and_none_is_left(forked, tmp_path):
    silenced = "print(os.environ['TRL_EXPERIMENTAL_SILENCE'])"  # set by an import
    *both, (_, _, said) = [execute(tmp_path, LOOK, "print(os.getpid())", *more) for more in ([], [], [silenced])]
    parents = {text.split()[2] for text, _ in both}
    assert said == "1\n"
    assert all(text.startswith("True now ") for text, _ in both) and len(parents) == 1 and str(os.getpid()) not in parents
    for _, number in both:
        wait_for_end(int(number))


def test_a_forked_kernels_time_begins_with_it(forked, tmp_path):
    asked = time.time()
    look = "from m2rl_lib.storage import artifacts; import time; print(artifacts.spent()['wall_seconds'], time.time())"
    spent, now = map(float, execute(tmp_path, look)[0].split())
    assert 0 < spent <= now - asked + 0.1, "also the time of the process that it was forked from"


def wait_for_end(number):
    for _ in range(100):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {number} is left")


def test_a_kernel_ends_with_who_asked_and_its_death_is_seen(forked, tmp_path):
    command = ["python", "-m", "ipykernel_launcher", "-f", str(tmp_path / "connection.json")]
    asked = kernels.Process(command, dict(os.environ), str(tmp_path))
    assert asked.poll() is None
    asked.socket.close()
    wait_for_end(asked.pid)
    killed = kernels.Process(command, dict(os.environ), str(tmp_path))
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -1 and killed.poll() == -1
    wait_for_end(killed.pid)
    killed.send_signal(signal.SIGINT)


def test_without_that_process_a_kernel_starts_as_any_other(forked, tmp_path, monkeypatch):
    monkeypatch.setenv(kernels.ADDRESS, str(tmp_path / "nobody"))
    (text,) = execute(tmp_path, LOOK)
    assert text.startswith(f"False now {os.getpid()}")
