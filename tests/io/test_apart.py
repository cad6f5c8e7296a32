"""Reading in a process of its own: what hangs, crashes or grows there is an error here."""

import os
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from stackalign.errors import DataError, StackalignWarning
from stackalign.io import apart, open_stack
from stackalign.io._flat import FlatReader

FRAMES = np.arange(20 * 6 * 5, dtype="u2").reshape(20, 6, 5)
UNRULY = """
import os, signal, time, warnings
import numpy as np
from stackalign.errors import StackalignWarning
from stackalign.io import _shapes, _units, stacks
def act(word):
    if word == "hang":
        while True: time.sleep(60)
    if word == "kill": os.kill(os.getpid(), signal.SIGSEGV)
    if word == "exit": os._exit(7)
    if word == "fault": _shapes.handed_out_dtype(None, "x")
    if word == "grow": np.ones(20 << 30, np.uint8)
    if word == "warn": warnings.warn(StackalignWarning("looks odd"))
open_with, read = stacks.open_with, _units.UnitReader._read
def open_unruly(path, options):
    if path.name.startswith("open"): act(path.stem.split("-")[1])
    return open_with(path, options)
def read_unruly(self, start, stop, out):
    if self.path.name.startswith("read") and start == 10: act(self.path.stem.split("-")[1])
    read(self, start, stop, out)
stacks.open_with, _units.UnitReader._read = open_unruly, read_unruly
"""


def write(path: Path, offset: int = 0) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=FRAMES + offset, chunks=(5, 6, 5))
    return path


def read_all(reader: apart._ApartReader, step: int = 5) -> np.ndarray:
    out = np.empty(reader.info.shape, reader.info.dtype)
    for start in range(0, len(out), step):
        reader.read(start, start + step, out[start : start + step])
    return out


@pytest.fixture
def unruly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process misbehave on files whose names say so."""
    apart._server.stop()
    before, after = apart._START.split("from stackalign", 1)
    monkeypatch.setattr(apart, "_START", before + "\nexec(sys.argv[4])\nfrom stackalign" + after)
    popen = apart.subprocess.Popen
    monkeypatch.setattr(apart.subprocess, "Popen", lambda command, **options: popen([*command, UNRULY], **options))
    yield
    apart._server.stop()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hang", r"did not answer within 1\.5 s"),
        ("kill", "ended the process that reads it by SIGSEGV"),
        ("exit", "ended the process that reads it with status 7"),
        ("grow", "asks for more memory than there is"),
    ],
)
@pytest.mark.parametrize("moment", ["open", "read"])
@pytest.mark.usefixtures("unruly")
def test_what_happens_there_is_an_error_here(word: str, says: str, moment: str, tmp_path: Path) -> None:
    """And the next file is read, and so is one that was open before."""
    good, bad = write(tmp_path / "good.h5"), write(tmp_path / f"{moment}-{word}.h5")
    with open_stack(good) as first:
        first.read(0, 5, np.empty((5, 6, 5), "u2"))
        for _ in range(2):
            with pytest.raises(DataError, match=says) as caught, open_stack(bad, read_timeout=1.5) as reader:
                read_all(reader)
            assert bad.name in str(caught.value)
            assert "\n" not in str(caught.value)
            if moment == "read":
                assert "patterns 10..14" in str(caught.value)
        np.testing.assert_array_equal(read_all(first), FRAMES)


@pytest.mark.usefixtures("unruly")
def test_patterns_besides_the_damaged_ones(tmp_path: Path) -> None:
    with open_stack(write(tmp_path / "read-kill.h5")) as reader:
        out = np.empty((5, 6, 5), "u2")
        for start in (10, 5, 10, 15):
            if start == 10:
                with pytest.raises(DataError, match=r"patterns 10\.\.14"):
                    reader.read(start, start + 5, out)
            else:
                reader.read(start, start + 5, out)
                np.testing.assert_array_equal(out, FRAMES[start : start + 5])


@pytest.mark.usefixtures("unruly")
def test_warnings_and_own_faults_come_through(tmp_path: Path) -> None:
    with pytest.warns(StackalignWarning, match="looks odd"):
        open_stack(write(tmp_path / "open-warn.h5")).close()
    with pytest.raises(AssertionError, match=r"(?s)Traceback.*AttributeError"):
        open_stack(write(tmp_path / "open-fault.h5"))


def test_no_answer_even_to_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot be told to end, stopped for example, is ended after a while."""
    monkeypatch.setattr(apart, "_GRACE", 0.1)
    with open_stack(write(tmp_path / "a.h5")) as reader:
        patient, reader._options = reader._options, replace(reader._options, read_timeout=0.1)
        process = apart._server._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(DataError, match="did not answer"):
            read_all(reader)
        assert process.poll() is not None
        reader._options = patient
        np.testing.assert_array_equal(read_all(reader), FRAMES)


def test_file_that_changes_between_two_processes(tmp_path: Path) -> None:
    with open_stack(write(tmp_path / "a.h5")) as reader:
        apart._server.stop()
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("d", data=FRAMES[:9], chunks=(5, 6, 5))
        with pytest.raises(DataError, match="has changed since it was opened"):
            read_all(reader)


def test_relative_names_after_the_folder_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a detector's master are opened when they are read."""
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        monkeypatch.chdir(tmp_path / str(k))
        write(Path("part.h5"), k)
        with h5py.File("x_master.h5", "w") as file:
            file["entry/data/data_000001"] = h5py.ExternalLink("part.h5", "/d")
        with open_stack("x_master.h5") as reader:
            monkeypatch.chdir(tmp_path)
            np.testing.assert_array_equal(read_all(reader), FRAMES + k)
            apart._server.stop()
            np.testing.assert_array_equal(read_all(reader), FRAMES + k)
            assert reader.path == Path("x_master.h5")


def test_plain_data_are_read_here(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = FRAMES.astype(">i4")
    with open_stack(tmp_path / "a.h5") as reader:
        assert isinstance(reader, FlatReader)
        apart._server.stop()
        np.testing.assert_array_equal(read_all(reader), FRAMES)
        assert apart._server._process is None


def test_several_readers_and_threads(tmp_path: Path) -> None:
    readers = [open_stack(write(tmp_path / f"{k}.h5", k)) for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for k, found in enumerate(pool.map(read_all, readers)):
                np.testing.assert_array_equal(found, FRAMES + k)
    for reader in readers:
        reader.close()


def test_larger_than_the_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are cut into what fits, at the ends of chunks where they can; one pattern may be larger."""
    for size in (FRAMES[0].nbytes * 7, 16):
        monkeypatch.setattr(apart, "_BUFFER_BYTES", size)
        apart._server.stop()
        with open_stack(write(tmp_path / "a.h5")) as reader:
            np.testing.assert_array_equal(read_all(reader, 20), FRAMES)
    apart._server.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_starts_its_own(tmp_path: Path) -> None:
    with open_stack(write(tmp_path / "a.h5")) as reader:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if (read_all(reader) == FRAMES).all() else 1)
        np.testing.assert_array_equal(read_all(reader), FRAMES)
        assert os.waitpid(pid, 0)[1] == 0
        np.testing.assert_array_equal(read_all(reader), FRAMES)


def test_process_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart._server.stop()
    path = write(tmp_path / "a.h5")
    with monkeypatch.context() as patch:
        patch.setattr(apart, "_START", "raise SystemExit(3)")
        with pytest.raises(DataError, match=r"with status 3 while it started; read in this one with read_timeout=0"):
            open_stack(path)
        patch.setattr(apart.sys, "executable", str(tmp_path / "none"))
        with pytest.raises(DataError, match=r"cannot be started \(No such file.*read_timeout=0"):
            open_stack(path)
    open_stack(path).close()


def test_timeout_is_a_number(tmp_path: Path) -> None:
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="read_timeout must be a number of seconds"):
            open_stack(write(tmp_path / "a.h5"), read_timeout=value)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_damaged_bitshuffle_headers(codec: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Its decoder trusts the sizes in a chunk; here they are looked at first, and nothing has to crash."""
    path = tmp_path / "a.h5"
    frames = rng.poisson(3, (6, 64, 33)).astype("u2")  # not a multiple of 8 pixels
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", data=frames, chunks=(2, 64, 33), **hdf5plugin.Bitshuffle(1024, cname=codec))
        place = data.id.get_chunk_info_by_coord((2, 0, 0))
    with open_stack(path, read_timeout=0) as reader:
        found = np.empty_like(frames)
        reader.read(0, 6, found)
        np.testing.assert_array_equal(found, frames)
    content = path.read_bytes()
    by_header = 0
    for offset, code in ((0, ">Q"), (8, ">I"), (12, ">I")):
        for value in (0, 1, 7, 2**20, 2**31, 2**32 - 1):
            damaged = bytearray(content)
            struct.pack_into(code, damaged, place.byte_offset + offset, value)
            path.write_bytes(damaged)
            with open_stack(path, read_timeout=0) as reader:
                with pytest.raises(
                    DataError, match=r"chunk \(2, 0, 0\)|patterns 2\.\.3 of .* cannot be read"
                ) as caught:
                    reader.read(2, 4, found[:2])
                by_header += "chunk (2, 0, 0)" in str(caught.value)
                reader.read(4, 6, found[:2])
                np.testing.assert_array_equal(found[:2], frames[4:])
    assert by_header >= 17  # blocks may be larger than a chunk: the decoder says so itself
