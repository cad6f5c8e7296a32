"""What `tests/conftest.py` promises: no silent skip under REQUIRE_ALL=1, and a summary of what was not tested."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

SUITE = """
import pytest

def test_passes(): pass

def test_skipped(): pytest.skip("a tool is missing")

@pytest.mark.gpu
def test_marked(): pytest.skip("the device is too small")

def test_without_a_gpu(): pytest.skip("needs a CUDA device: there is none")

def test_without_observations(): pytest.skip("the observations in ../shared/data are not here")

@pytest.mark.skipif(True, reason="not today")
def test_decorated(): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert 0

def test_draws(rng): assert rng.random() > 2
"""

MODULE = 'import pytest\npytest.importorskip("no_such_package", reason="no_such_package is not installed")\n'

BACKENDS = "def test_of(backend): assert backend.NAME\n"


@pytest.fixture
def run(tmp_path: Path):
    """Run pytest on files of its own beside a copy of the conftest."""

    def start(files: dict[str, str], *options: str, require_all: bool = False) -> str:
        shutil.copy(CONFTEST, tmp_path)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu: needs a CUDA device\n")
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        environment = {
            name: value for name, value in os.environ.items() if name not in ("REQUIRE_ALL", "PYTEST_ADDOPTS")
        }
        environment |= {"REQUIRE_ALL": "1"} if require_all else {}
        inherited = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(CONFTEST.parent), *([inherited] if inherited else [])])
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-rA",
            "--tb=short",
            *options,
            str(tmp_path),
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr

    return start


def test_skips_are_skips(run) -> None:
    text = run({"test_some.py": SUITE, "test_module.py": MODULE})
    assert "1 failed, 1 passed, 6 skipped, 1 xfailed" in text
    assert "REQUIRE_ALL" not in text
    assert text.count("numpy.random.default_rng(") == 1, "the one failure says how to draw the same numbers"


def test_required_tests_may_not_skip(run) -> None:
    text = run({"test_some.py": SUITE}, require_all=True)
    assert "2 failed, 1 passed, 3 skipped, 1 xfailed, 1 error" in text  # an error: skipped before its setup
    for reason in ("a tool is missing", "not today"):
        assert f"REQUIRE_ALL=1 does not allow: Skipped: {reason}" in text


def test_required_modules_may_not_skip(run) -> None:
    text = run({"test_module.py": MODULE, "test_some.py": "def test_passes(): pass\n"}, require_all=True)
    assert "REQUIRE_ALL=1 does not allow: Skipped: no_such_package is not installed" in text
    assert "1 error" in text


def test_backends_can_be_chosen(run) -> None:
    text = run({"test_backends.py": BACKENDS}, "--backend", "cpu", "--backend", "reference")
    assert "test_of[cpu]" in text
    assert "test_of[reference]" in text
    assert "2 passed" in text
    assert "was not tested" not in text


def test_untested_backends_are_named(run) -> None:
    """Whatever this machine has: what was skipped is named with its reason, and nothing else is."""
    text = run({"test_backends.py": BACKENDS})
    for name in ("reference", "cpu", "cuda-host", "cuda"):
        passed = f"PASSED test_backends.py::test_of[{name}]" in text
        assert passed != (f"backend {name} was not tested: " in text)


def test_a_backend_that_was_asked_for_must_be_there(run) -> None:
    """A machine without CuPy, whatever this one has."""
    hide = "import sys\nsys.modules['cupy'] = None\n"
    text = run({"test_backends.py": hide + BACKENDS}, "--backend", "cuda")
    assert "--backend cuda: needs a CUDA device: CuPy is not installed" in text
    assert "1 error" in text
