"""Signals and closed pipes before a command works on its folder: one line, no traceback."""

import os
import signal
import subprocess
import sys

import pytest

SLOW_LIBRARY = """
import os, signal, time
print("loading", flush=True)
time.sleep(60)
"""

SWALLOWED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    raise ImportError
"""


@pytest.fixture
def command(tmp_path):
    """Start a command; Hydra, the first library that all of them import, takes its time."""
    (tmp_path / "libraries/hydra").mkdir(parents=True)
    path = tmp_path / "libraries/hydra/__init__.py"
    started = []

    def start(name, code=SLOW_LIBRARY, **variables):
        path.write_text(code)
        kept = {key: value for key, value in os.environ.items() if not key.endswith("RANK")}
        libraries = os.pathsep.join([str(path.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-m", f"sempa_lightning.{name}"],
            env={**kept, "PYTHONPATH": libraries, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("name", ["train", "evaluate", "embed", "export", "mine", "synthesize"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_libraries_load_ends_with_a_line(command, name, number):
    process = command(name)
    assert process.stdout.readline() == "loading\n"
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (75, "")
    assert stdout == "stopped: nothing to resume yet, run the same command again\n"


def test_a_process_that_another_has_started_dies_of_the_signal(command):
    process = command("evaluate", RANK="1")
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGTERM)
    assert (*process.communicate(timeout=30), process.returncode) == ("", "", -signal.SIGTERM)


def test_a_library_that_makes_another_error_of_the_signal(command):
    code = (
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    raise ImportError"
    )
    process = command("train", code)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (75, "")
    assert stdout.startswith("stopped: ")


def test_a_closed_stdout_ends_with_a_line(command):
    process = command("train", "import sys, time\ntime.sleep(0.5)\nprint('x' * 100_000, flush=True)")
    process.stdout.close()
    assert process.stderr.read() == "error: broken pipe: stdout was closed\n"
    assert process.wait(timeout=30) == 1


def test_characters_that_the_terminal_lacks_are_escaped(command):
    process = command("train", "print('é\\udc80'); raise SystemExit(0)", PYTHONIOENCODING="ascii")
    assert (*process.communicate(timeout=30), process.returncode) == ("\\xe9\\udc80\n", "", 0)
