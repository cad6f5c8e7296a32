"""`stackalign info`, `warmup`, `--version` and `--help`, and what they load."""

import importlib.util
import subprocess
import sys

import pytest

from cli.runner import run, strict_json
from stackalign import __version__
from stackalign.backends import BACKENDS
from stackalign.backends._protocol import KERNEL_DTYPES

HEAVY = {"numba", "llvmlite", "scipy", "cupy", "torch", "matplotlib", "h5py", "zarr", "dask", "tifffile", "numpy"}

LOADED = """
import sys
from stackalign.cli.__main__ import main

sys.argv = ["stackalign", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
sys.stdout.flush()
print("\\n".join(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a command line loads, in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    return set(ran.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["crop", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_little(arguments: list[str]) -> None:
    modules = loaded_by(*arguments)
    assert "stackalign.cli.crop" in modules
    assert not HEAVY & modules
    assert not {
        name for name in modules if name.startswith(("stackalign.crop", "stackalign.backends", "stackalign.io"))
    }
    # Of the packages that typer brings, some load others of their own.
    assert len(modules) < 500
    assert sum(name.startswith("stackalign") for name in modules) < 30


def test_import_loads_little() -> None:
    code = "import stackalign, sys; print(chr(10).join(sys.modules))"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "stackalign" in modules
    assert not HEAVY & modules


def test_module_can_be_run() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "stackalign.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == (f"stackalign {__version__}\n", "")


def test_version() -> None:
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"stackalign {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["crop", "info", "warmup", "--version"]),
        (["-h"], ["crop", "info", "warmup"]),
        (["info", "--help"], ["--json"]),
        (["warmup", "--help"], ["--dtype"]),
        (
            ["crop", "--help"],
            [
                *("--input", "--output", "--target-retention", "--min-retention", "--margin-pixels", "--chunk-size"),
                *("--use-gpu", "--center-method", "--manual-center", "--no-visualization", "--quiet", "--test-mode"),
                *("--test-patterns", "--test-size", "--device", "--memory-limit", "--workers", "--resume"),
                *("--overwrite", "--mask", "--radius-policy", "--negative", "--nan", "--legacy-window", "--strict"),
                *("--reuse-analysis", "--dataset", "--report", "--shape", "--dtype", "--offset", "--scan-shape"),
                *("--center-fit", "--compression", "--json"),
            ],
        ),
    ],
    ids=lambda value: " ".join(value) if value[-1] in ("--help", "-h") else "",
)
def test_help(arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert not [word for word in words if word not in ran.out]


def test_no_command_shows_the_help() -> None:
    ran = run()
    assert ran.code == 2
    assert "Usage:" in ran.out + ran.err


def test_info_as_json() -> None:
    ran = run("info", "--json")
    assert (ran.code, ran.err) == (0, "")
    facts = strict_json(ran.out)
    assert list(facts) == [
        "stackalign", "python", "platform", "auto", "backends", "gpus", "workers", "cores", "memory_available",
        "memory_limit", "kernel_cache", "versions", "missing",
    ]  # fmt: skip
    assert facts["stackalign"] == __version__
    assert facts["backends"].keys() == BACKENDS.keys()
    assert facts["backends"]["cpu"] == facts["backends"]["reference"] == "available"
    assert facts["auto"].keys() == {"device", "why"}
    assert facts["auto"]["device"].startswith("cuda") == (
        bool(facts["gpus"]) and facts["backends"]["cuda"] == "available"
    )
    assert 1 <= facts["workers"] <= facts["cores"]
    assert 0 < facts["memory_limit"] <= facts["memory_available"] / 4
    for name, missing in facts["missing"].items():
        assert importlib.util.find_spec(name) is None
        assert missing.keys() == {"extra", "needed_for"}


def test_info_in_words() -> None:
    facts = strict_json(run("info", "--json").out)
    ran = run("info")
    assert (ran.code, ran.err) == (0, "")
    for part in (
        f"{__version__} on Python {facts['python']}",
        f"{facts['auto']['device']}: {facts['auto']['why']}",
        f"{facts['workers']} of {facts['cores']} cores",
        facts["backends"]["cuda"],  # with its brackets, which are no markup
        f"numpy {facts['versions']['numpy']}",
    ):
        assert part in ran.out
    assert ran.out.count("pip install") >= len(facts["missing"])


def test_info_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "missing torch" in (text := run("info").out)
    for extra in ("gpu13", "torch", "plot", "hdf5", "vendor", "dask"):
        assert f'pip install "stackalign[{extra}]"' in text


def test_warmup() -> None:
    ran = run("warmup", "--dtype", "uint8", "--dtype", "float32")
    assert (ran.code, ran.out) == (0, "")
    assert [line.split(":")[0] for line in ran.err.splitlines() if line.endswith(" s")] == ["uint8", "float32"]


def test_warmup_of_an_unknown_type() -> None:
    ran = run("warmup", "--dtype", "complex64")
    assert ran.code == 2
    assert ran.errors == [f"error: there are no kernels for 'complex64'; choose from {', '.join(KERNEL_DTYPES)}"]
