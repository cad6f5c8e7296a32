"""What the pages name exists: other pages, files of the tree, options, targets of make, and Python that compiles."""

import ast
import re
from pathlib import Path

import pytest
import typer

from stackalign.cli.__main__ import app
from stackalign.crop import Flag
from stackalign.diffraction.alignment import FLAGS as ALIGN_FLAGS
from stackalign.diffraction.center import CENTER_FLAGS
from stackalign.refine.result import WARNINGS
from stackalign.registration import FLAGS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOREIGN = {
    "--nworkers", "--nthreads", "--port",  # dask
    "--array", "--cpus-per-task", "--time", "--signal",  # Slurm
    "--help", "--version", "--backend", "--only", "--seeds", "--total", "--seed", "--update",  # of Python and the tests
}  # fmt: skip


def options() -> set[str]:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name for command in commands.values() for one in command.params for name in one.opts}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif "://" not in link:
            assert (page.parent / link.partition("#")[0]).exists(), link
    for path in re.findall(r"`((?:src|kernels|tests|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", text)) <= options() | FOREIGN
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^\$ |`)make (\w+)", text, re.M)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_of_a_page_compiles(page: Path) -> None:
    for block in re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S):
        ast.parse("\n".join(line.removeprefix(block[0]) for line in block[1].splitlines()))


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "index.md":
            assert str(page.relative_to(ROOT / "docs")) in index, page


def test_the_page_on_trust_has_every_flag() -> None:
    page = (ROOT / "docs" / "explanation" / "trust.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    tables = {
        "`register`": FLAGS,
        "Centres": CENTER_FLAGS,
        "Alignment": ALIGN_FLAGS,
        "`refine`": WARNINGS,
        "`crop`": Flag.__members__,
    }
    for start, flags in tables.items():
        (section,) = [part for head, part in sections.items() if head.startswith(start)]
        listed = re.findall(r"^\| `(\w+)` \|", section, re.M)
        assert set(listed) == set(flags), start


def test_fragments_of_the_changelog_are_named_by_topic_and_type() -> None:
    for file in (ROOT / "changelog.d").iterdir():
        if file.name not in ("README.md", "_template.md.jinja"):
            assert re.fullmatch(r"[\w-]+\.(added|changed|fixed|removed)\.md", file.name), file.name
            assert file.read_text(encoding="utf-8").strip(), file.name
