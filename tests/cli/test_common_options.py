"""Options that all long commands have, with one meaning, as their definitions say."""

import inspect
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from cli.runner import run
from stackalign.cli.__main__ import app
from stackalign.cli._report_flag import flags_as_pages

LONG = ("align", "center", "coalign", "crop", "drift", "mask", "nfold", "peaks", "profile", "refine")
SHARED = {
    "--resume": bool,
    "--overwrite": bool,
    "--memory-limit": str,
    "--workers": int,
    "--device": str,
    "--report": Path,
    "--json": bool,
    "--scheduler": str,
    "--quiet": bool,
}
OF_READERS = {"--allow-external": bool, "--read-timeout": float}
"""Of commands whose inputs may be HDF5; the inputs of coalign are FITS, which names no other files."""


def options(name: str) -> dict[str, tuple[type, Any]]:
    """Type and definition of each option of a command."""
    (function,) = (info.callback for info in app.registered_commands if name == (info.name or info.callback.__name__))
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if get_origin(parameter.annotation) is Annotated:
            kind, said = get_args(parameter.annotation)
            plain = next((one for one in get_args(kind) if one is not type(None)), kind)
            stated = (said.default, *(said.param_decls or ()))  # the first name of an annotation is kept as its default
            words = [word for word in stated if isinstance(word, str) and word.startswith("--")]
            for word in words or ["--" + parameter.name.replace("_", "-")]:
                found[word] = plain, said
    return found


@pytest.mark.parametrize("word", SHARED)
def test_all_have_it_with_one_meaning(word: str) -> None:
    found = {name: options(name)[word] for name in LONG}
    assert {name: kind for name, (kind, _) in found.items()} == dict.fromkeys(LONG, SHARED[word])
    assert len({said.rich_help_panel for _, said in found.values()}) == 1
    assert len({said.metavar for _, said in found.values()}) == 1
    helped = {said.help.rstrip(".").partition(",")[0].partition(";")[0] for _, said in found.values()}
    assert len(helped) == 1, helped


@pytest.mark.parametrize("word", OF_READERS)
def test_readers_have_it(word: str) -> None:
    for name in LONG:
        found = options(name).get(word)
        assert (found is None) == (name == "coalign"), name
        assert found is None or found[0] is OF_READERS[word]


@pytest.mark.parametrize("word", OF_READERS)
def test_coalign_refuses_them(word: str) -> None:
    ran = run("coalign", "a.fits", "b.fits", word, "1")
    assert ran.code == 2
    assert word in ran.err


def test_report_without_a_page_is_the_flag_that_it_was() -> None:
    assert flags_as_pages(["a.fits", "--report"]) == ["a.fits", "--pages"]
    assert flags_as_pages(["--report", "a.fits", "b.fits"]) == ["--pages", "a.fits", "b.fits"]
    assert flags_as_pages(["--report", "all.html", "a.fits"]) == ["--report", "all.html", "a.fits"]
    assert flags_as_pages(["--report", "--report-file", "a.html"]) == ["--pages", "--report-file", "a.html"]
    assert run("coalign", "--report=page.txt", "a.fits").code == 2
