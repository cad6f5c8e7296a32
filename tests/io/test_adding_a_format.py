"""A format is one file and one row: a reader and a writer that are added here serve every pipeline and command.

The page `docs/development/adding-a-format.md` says what is done; this test does nothing else.
"""

import dataclasses
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from cli.runner import run
from stackalign import io
from stackalign.crop import CroppingConfig, crop_file
from stackalign.diffraction import diffread
from stackalign.io import formats
from stackalign.io._flat import FlatReader
from stackalign.io._reader import OpenOptions, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io._writer import FlatWriter, WriteSpec

PAGE = (Path(__file__).parents[2] / "docs/development/adding-a-format.md").read_text()
HEAD = 32
"""A text of so many bytes, "FOO 0012 0016 0018", and the pixels as u2."""


def open_reader(path: Path, options: OpenOptions) -> io.StackReader:
    with path.open("rb") as file:
        shape = [int(text) for text in file.read(HEAD).split()[1:]]
    layout = interpret_shape(shape, str(path), scan_shape=options.scan_shape)
    return FlatReader(path, make_info(layout, np.dtype("<u2"), str(path)), np.dtype("<u2"), HEAD)


def header(shape: tuple[int, ...]) -> bytes:
    return " ".join(["FOO", *(f"{n:04d}" for n in shape)]).encode().ljust(HEAD)


def create_writer(path: Path, spec: WriteSpec, state: dict | None) -> FlatWriter:
    return FlatWriter(path, spec, "foo", HEAD, prologue=header(spec.shape), resume=state)


def write_images(path: Path, images: np.ndarray, header_cards: str | None = None) -> None:
    stack = images[None] if images.ndim == 2 else images
    path.write_bytes(header(stack.shape) + stack.astype("<u2").tobytes())


@pytest.fixture
def foo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the rows."""
    module = types.ModuleType("stackalign.io.foo")
    vars(module).update(open_reader=open_reader, create_writer=create_writer, write_images=write_images)
    monkeypatch.setitem(sys.modules, "stackalign.io.foo", module)
    monkeypatch.setattr(formats, "READERS", (*formats.READERS, formats.Reader("foo", (".foo",), (b"FOO ",))))
    monkeypatch.setattr(formats, "WRITERS", (*formats.WRITERS, formats.Writer("foo", (".foo",))))


def patterns() -> np.ndarray:
    y, x = np.indices((32, 36))
    rng = np.random.default_rng(4)
    beam = [400 * np.exp(-((y - 15 - k / 9) ** 2 + (x - 17) ** 2) / 12) for k in range(6)]
    return rng.poisson(np.stack(beam)).astype(np.uint16)


def test_the_page_names_what_is_done_here() -> None:
    for name in ("READERS", "WRITERS", "open_reader(path, options)", "create_writer(path, spec, state)",
                 "write_images(path, images, header)"):  # fmt: skip
        assert name in PAGE
    for row in (formats.Reader, formats.Writer):
        for field in dataclasses.fields(row)[2:]:  # what a row can say beside module and extensions
            if field.name not in ("magic", "stream", "images"):
                assert f"{field.name}=True" in PAGE
    for path in set(re.findall(r"`(tests/[\w/]+\.py|src/[\w/]+\.py)`", PAGE)):
        assert (Path(__file__).parents[2] / path).exists(), path


@pytest.mark.usefixtures("foo")
def test_a_reader_and_a_writer_serve_everything(tmp_path: Path) -> None:
    stack = patterns()
    io.write_images(tmp_path / "scan.foo", stack)
    np.testing.assert_array_equal(diffread(tmp_path / "scan.foo").images, stack)
    (tmp_path / "nameless").write_bytes((tmp_path / "scan.foo").read_bytes())
    with io.open(tmp_path / "nameless") as reader:
        assert reader.info.shape == stack.shape
    quiet = CroppingConfig(visualization=False, verbose=False)
    crop_file(tmp_path / "scan.foo", tmp_path / "cropped.foo", quiet)
    np.save(tmp_path / "scan.npy", stack)
    crop_file(tmp_path / "scan.npy", tmp_path / "cropped.npy", quiet)
    np.testing.assert_array_equal(diffread(tmp_path / "cropped.foo").images, np.load(tmp_path / "cropped.npy"))
    for command, output, words in (
        ("center", "centers.csv", ()),
        ("mask", "mask.foo", ("--limits", "0,60000")),
        ("peaks", "peaks.csv", ()),
    ):
        ran = run(command, tmp_path / "scan.foo", "-o", tmp_path / output, *words, "--quiet")
        assert ran.code in (0, 3), ran.err
    assert io.read_mask(tmp_path / "mask.foo").all()


@pytest.mark.usefixtures("foo")
def test_a_truncated_file_gets_its_sentence(tmp_path: Path) -> None:
    io.write_images(tmp_path / "a.foo", patterns())
    (tmp_path / "a.foo").write_bytes((tmp_path / "a.foo").read_bytes()[:-7])
    ran = run("crop", tmp_path / "a.foo", "-o", tmp_path / "b.npy")
    assert ran.code == 1
    assert re.search(r"error: .*a\.foo is truncated: its header promises 6 patterns", ran.err)
    ran = run("crop", tmp_path / "a.foo", "-o", tmp_path / "b.bar")
    assert ".foo" in ran.err  # listed among what can be written
