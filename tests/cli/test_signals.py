"""A real process is interrupted, says how to go on, and goes on to the same bytes.

No clock decides where the signal arrives: the process writes its messages into a pipe of one page that this test has
filled, so that it cannot get past the end of the analysis until the test empties the pipe. The signal is sent as soon
as the folder of the run exists: it is seen after a chunk of the analysis, or after the first one of the crop.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.runner import crop, results_of, save
from crop.oracle import digest, disks

STACK = disks(200, frame=(32, 32))
PAGE = 4096
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(
    not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the size of a pipe can be set on Linux only"
)


class Blocked:
    """A command whose messages fit into a pipe up to `room` bytes; it then waits in the middle of its work."""

    def __init__(self, arguments: list[str], room: int) -> None:
        self.reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
        os.write(writing, b"." * (PAGE - room))
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=writing, text=True)
        os.close(writing)
        self.room = room

    def __enter__(self) -> "Blocked":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # does nothing where it has ended
        self.process.communicate()
        os.close(self.reading)

    def interrupt(self, journal: Path, number: int) -> None:
        """Wait for the folder of the run, which only the process can make, and send the signal."""
        until = time.monotonic() + PATIENCE
        while not journal.is_dir():
            assert self.process.poll() is None, "the process ended early"
            assert time.monotonic() < until, "the process does not begin"
            time.sleep(0.01)
        self.process.send_signal(number)

    def finish(self) -> tuple[int, str, list[str]]:
        """Empty the pipe; return the exit code, stdout and the lines of stderr."""
        with open(self.reading, "rb", closefd=False) as pipe:
            messages = pipe.read()[PAGE - self.room :].decode()
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, messages.splitlines()


def command(source: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "stackalign.cli", "crop", str(source), *more, "-o", str(output), *OPTIONS]


OPTIONS = ["--chunk-size", "20", "--no-visualization", "--workers", "1"]


STOPPED = r"stopped (during the analysis|while cropping); the same command with --resume goes on from here"


# Every format is interrupted at every step in tests/crop/test_resume.py: here each signal meets one of them.
@pytest.mark.parametrize(("number", "extension"), [(signal.SIGINT, ".npy"), (signal.SIGTERM, ".h5")])
def test_interrupted_and_resumed(number: int, extension: str, tmp_path: Path) -> None:
    source = save(tmp_path / "in.npy", STACK)
    output = tmp_path / f"out{extension}"
    partial = tmp_path / f"out{extension}.partial"
    before = digest(source)
    with Blocked(command(source, output), room=1) as blocked:
        blocked.interrupt(partial, number)
        code, out, lines = blocked.finish()
    assert code == 1
    assert out == ""
    assert re.fullmatch(STOPPED, lines[-2])
    assert lines[-1] == "error: interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", f"out{extension}.partial"]
    assert digest(source) == before

    resumed = subprocess.run([*command(source, output), "--resume"], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert any(line.startswith("crop: ") for line in resumed.stderr.splitlines())
    assert crop(source, "-o", tmp_path / f"whole{extension}", *OPTIONS).code == 0
    assert digest(output) == digest(tmp_path / f"whole{extension}")
    assert not partial.exists()
    results, whole = results_of(output), results_of(tmp_path / f"whole{extension}")
    assert results["analysis"] == whole["analysis"]
    assert results["validation"] == whole["validation"]
    assert results["provenance"]["command"] == " ".join(["stackalign", *command(source, output)[3:], "--resume"])


def test_interrupt_stops_the_rest_of_a_batch(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first, second = save(tmp_path / "in" / "a.npy", STACK), save(tmp_path / "in" / "b.npy", STACK + 1)
    output = tmp_path / "out"
    with Blocked(command(first, output, str(second)), room=len(f"{first}\n") + 1) as blocked:
        blocked.interrupt(output / "cropped_a.npy.partial", signal.SIGINT)
        code, _, lines = blocked.finish()
    assert code == 1
    assert lines[0] == str(first)
    assert re.fullmatch(STOPPED, lines[-2])
    assert lines[-1] == "error: interrupted"
    assert str(second) not in lines
    assert [path.name for path in output.iterdir()] == ["cropped_a.npy.partial"]
    ran = crop(first, second, "-o", output, *OPTIONS, "--resume")
    assert ran.code == 0
    for name, stack in (("a", STACK), ("b", STACK + 1)):
        assert crop(save(tmp_path / "again.npy", stack), "-o", tmp_path / f"{name}.npy", *OPTIONS).code == 0
        assert digest(output / f"cropped_{name}.npy") == digest(tmp_path / f"{name}.npy")


def test_interrupted_before_the_command_line_is_read(monkeypatch, capsys) -> None:
    from stackalign.cli import __main__

    def interrupted(words: list[str] | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Aborted.\n"
