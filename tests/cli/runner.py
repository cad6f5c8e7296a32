"""Run commands inside the test's process, and files that several tests use."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from typer.testing import CliRunner

from crop.oracle import disks
from stackalign.cli.__main__ import app

__all__ = ["STACK", "Ran", "crop", "io_tests", "results_of", "run", "save", "strict_json"]

STACK = disks(12, frame=(32, 32))


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what went wrong."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


def run(*arguments: Any) -> Ran:
    """Run a command line; what it raises other than its exit is raised here."""
    words = [str(argument) for argument in arguments]
    with mock.patch.object(sys, "argv", ["stackalign", *words]):  # what provenance keeps of a command
        result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def crop(*arguments: Any) -> Ran:
    """Run `stackalign crop` without the picture, which takes longer than everything else."""
    return run("crop", "--no-visualization", *arguments)


def save(path: Path, stack: np.ndarray = STACK) -> Path:
    """Save patterns as .npy."""
    np.save(path, stack)
    return path


def strict_json(text: str) -> Any:
    """Parse JSON and refuse the bare words NaN and Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def results_of(output: Path) -> Any:
    """The results beside an output."""
    return strict_json(output.with_name(output.stem + "_results.json").read_text())


def io_tests(name: str) -> ModuleType:
    """Load a module of tests/io for the files that it makes; by its path, because `io` is Python's own."""
    spec = importlib.util.spec_from_file_location(f"files_of_{name}", Path(__file__).parents[1] / "io" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
