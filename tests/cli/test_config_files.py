"""Options in a file, names on standard input, what is said on stderr, and colours."""

import io
import os
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cli.runner import run
from crop.oracle import disks
from stackalign.cli.__main__ import app

ROOT = typer.main.get_command(app)
ON_FILES = ("align", "center", "coalign", "crop", "mask", "nfold", "peaks", "profile", "refine")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", disks(6, frame=(32, 34)))
    np.save(tmp_path / "b.npy", disks(5, frame=(32, 32)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def from_stdin(text, *words):
    result = CliRunner().invoke(app, [str(word) for word in words], input=text)
    return result.exit_code, result.stderr


@pytest.mark.parametrize("table", ["", "[crop]\n"])
def test_a_file_stands_for_the_command_line(folder, table) -> None:
    words = ("--target-retention", 0.9, "--min-retention", 0.8, "--margin-pixels", 2, "--one-window")
    assert run("crop", "a.npy", "-o", "plain.npy", *words, "--no-visualization", "-q").code == 0
    text = (
        'inputs = ["a.npy"]\noutput = "config.npy"\ntarget-retention = 0.9\nmin_retention = 0.8\nmargin-pixels = 2\n'
        "one-window = true\nno-visualization = true\nquiet = true\n"
    )
    (folder / "run.toml").write_text(table + text)
    ran = run("crop", "--config", "run.toml")
    assert ran.code == 0, ran.err
    assert (folder / "config.npy").read_bytes() == (folder / "plain.npy").read_bytes()


def test_the_command_line_goes_before_the_file(folder) -> None:
    (folder / "run.toml").write_text("[crop]\nmargin-pixels = 6\ntarget-retention = 0.9\nmin-retention=0.5\n")
    options = ("--no-visualization", "-q")
    assert run("crop", "a.npy", "-o", "x.npy", "--config", "run.toml", "--margin-pixels", 1, *options).code == 0
    direct = ("--margin-pixels", 1, "--target-retention", 0.9, "--min-retention", 0.5)
    assert run("crop", "a.npy", "-o", "y.npy", *direct, *options).code == 0
    assert (folder / "x.npy").read_bytes() == (folder / "y.npy").read_bytes()


def test_one_file_serves_several_commands(folder) -> None:
    (folder / "all.toml").write_text(
        '[crop]\nno-visualization = true\n[profile]\ncenter = "16,17"\n[mask]\ndead = true\n'
    )
    assert run("crop", "a.npy", "-o", "c.npy", "--config", "all.toml", "-q").code == 0
    assert run("profile", "a.npy", "-o", "p.npz", "--config", "all.toml", "-q").code == 0
    assert not (folder / "c_visualization.png").exists()


@pytest.mark.parametrize("name", ["crop", "align", "center", "mask", "profile", "nfold"])
def test_what_was_saved_gives_the_same_run(name, folder) -> None:
    options = {
        "crop": ("--radius-policy", 90, "--manual-center", 15, 16.5, "--center-method", "manual", "--no-visualization"),
        "align": ("--max-shift", 4, "--model", "shift"),
        "center": ("--skip-frames", 2),
        "mask": ("--limits", "0,1e4", "--dead"),
        "profile": ("--center", "16,17"),
        "nfold": ("-n", 2, "--center", "16,17"),
    }[name]
    suffix = ".csv" if name == "center" else ".npz" if name == "profile" else ".npy"
    ran = run(name, "a.npy", "-o", f"x{suffix}", *options, "-q", "--save-config", "run.toml")
    assert ran.code in (0, 3), ran.err
    saved = tomllib.loads((folder / "run.toml").read_text())[name]
    assert saved["output"] == f"x{suffix}"
    first = (folder / f"x{suffix}").read_bytes()
    again = run(name, "--config", "run.toml", "--overwrite")
    assert again.code == ran.code, again.err
    if suffix != ".npz":  # which holds the time of writing
        assert (folder / f"x{suffix}").read_bytes() == first
    assert "exists" in run(name, "--config", "run.toml", "-o", f"y{suffix}", "--save-config", "run.toml").err


@pytest.mark.parametrize("name", ON_FILES)
def test_every_option_can_be_saved_and_read(name, folder) -> None:
    """All options of every command go through a file and come back as the same values."""
    from stackalign.cli._config import load_config, save_config

    command = ROOT.commands[name]
    values = {}
    for parameter in command.params:
        if parameter.name in ("config", "save_config", "context", "help"):
            continue
        if getattr(parameter, "is_flag", False):
            values[parameter.name] = True
        else:
            one = {"integer": 3, "float": 2.5}.get(
                getattr(getattr(parameter, "type", None), "name", ""), 'text "with" \\ quotes'
            )
            several = getattr(parameter, "multiple", False) or parameter.nargs == -1
            values[parameter.name] = [one, one] if several else one if parameter.nargs == 1 else [one] * parameter.nargs
    context = command.context_class(command, info_name=name)
    context.params = values
    for key in values:
        context.set_parameter_source(key, SimpleNamespace(name="COMMANDLINE"))
    save_config(context, folder / "run.toml", replace=False)
    other = command.context_class(command, info_name=name)
    load_config(other, folder / "run.toml")
    assert as_text(other.default_map) == as_text(values)


def as_text(values):
    return {k: [str(item) for item in v] if isinstance(v, list) else str(v) for k, v in values.items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("margin-pixel = 2", "did you mean margin-pixels"),
        ("nonsense = 2", "has no option nonsense"),
        ("margin-pixels = [2]", "must be one value"),
        ("inputs = 'a.npy'", "must be a list"),
        ("strict = 1", "must be true or false"),
        ("margin-pixels = true", "must be one value"),
        ("margin-pixels = 'many'", "--margin-pixels"),
        ("manual-center = 3", "must be a list"),
        ("= 3", "is not TOML"),
        ("test-patterns = 5", "has no effect without --test-mode"),
        ("log-level = 'loud'", "--log-level must be one of"),
    ],
)
def test_what_a_file_gets_wrong_is_said(text, said, folder) -> None:
    (folder / "run.toml").write_text(text + "\n")
    ran = run("crop", "a.npy", "-o", "o.npy", "--config", "run.toml")
    assert ran.code == 2
    assert said in ran.err.replace("\n", " ")
    assert not (folder / "o.npy").exists()
    assert run("crop", "a.npy", "-o", "o.npy", "--config", "absent.toml").code == 2


def test_nothing_is_saved_of_a_run_that_is_refused(folder) -> None:
    ran = run("crop", "a.npy", "-o", "o.npy", "--memory-limit", "much", "--save-config", "run.toml")
    assert ran.code == 2
    assert not (folder / "run.toml").exists()


@pytest.mark.parametrize("text", ["a.npy\nb.npy\n", "a.npy\0b.npy\0", "a.npy\n\nb.npy"])
def test_names_come_from_standard_input(text, folder) -> None:
    code, _ = from_stdin(text, "crop", "-", "-o", "out", "--no-visualization", "-q")
    assert code == 0
    assert sorted(p.name for p in (folder / "out").glob("*.npy")) == ["cropped_a.npy", "cropped_b.npy"]
    code, _ = from_stdin(text, "center", "-", "-o", "c.csv", "-q")
    assert code in (0, 3)
    files = {line.split(",")[0] for line in (folder / "c.csv").read_text().splitlines()[1:]}
    assert files == {"a.npy", "b.npy"}


def test_standard_input_without_names_is_refused(folder, monkeypatch) -> None:
    code, said = from_stdin("\n", "crop", "-", "-o", "out")
    assert (code, "names no file" in said) == (1, True)
    terminal = io.StringIO("")
    terminal.isatty = lambda: True
    monkeypatch.setattr("stackalign.cli._plan.sys.stdin", terminal)
    from stackalign.cli._plan import input_names

    with pytest.raises(ValueError, match="pipe a list"):
        input_names(["-"])


def test_levels_of_what_is_said(folder) -> None:
    words = ("crop", "a.npy", "--no-visualization", "--chunk-size", 100, "--memory-limit", "100kB")
    plain = run(*words, "-o", "a1.npy")
    more = run(*words, "-o", "a2.npy", "--log-level", "info")
    assert plain.code == more.code == 0
    assert "info stackalign" in more.err
    assert "info stackalign" not in plain.err
    assert run(*words, "-o", "a3.npy", "--log-level", "debug", "--quiet").code == 2


@pytest.mark.parametrize("name", [None, *ON_FILES])
def test_help_names_the_exit_codes_and_has_no_colours_where_none_are_wanted(name) -> None:
    if name is not None:
        assert "Exit code" in ROOT.commands[name].help
    if name in (None, "crop"):
        words = [name, "--help"] if name else ["--help"]
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
        environment.pop("FORCE_COLOR", None)
        shown = subprocess.run([sys.executable, "-m", "stackalign", *words], capture_output=True, env=environment)
        assert shown.returncode == 0
        assert b"\x1b[3" not in shown.stdout
