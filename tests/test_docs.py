"""What the pages name exists: other pages, files of the tree, options, targets of make, and Python that compiles.

`make docs` finds what is wrong with links within the site; this is what can be told without building it.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import typer

import stackalign
from stackalign.cli.__main__ import app
from stackalign.crop import Flag
from stackalign.diffraction.alignment import FLAGS as ALIGN_FLAGS
from stackalign.diffraction.center import CENTER_FLAGS
from stackalign.refine.result import WARNINGS
from stackalign.registration import FLAGS

ROOT = Path(__file__).parent.parent
GENERATED = {
    "changelog.md",
    "measured.md",
    "reference/commands.md",
    "development/contributing.md",
    "development/security.md",
}
"""Pages that the build of the site writes, from files of the repository or from the commands."""


def _pages() -> list[Path]:
    """Pages of the repository, without those that a build of the site has written."""
    folder = ROOT / "docs"
    written = {folder / name for name in GENERATED}
    found = (page for page in folder.rglob("*.md") if page not in written)
    return sorted([*ROOT.glob("*.md"), *(page for page in found if not {"_build", "tutorials"} & set(page.parts))])


PAGES = _pages()
FOREIGN = {
    "--nworkers", "--nthreads", "--port",  # dask
    "--array", "--cpus-per-task", "--time", "--signal",  # Slurm
    "--install-completion", "--strict", "--list", "--resolution", "--format",  # of typer and of tools for releases
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
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.exists() or _is_generated(target), link
    for path in re.findall(r"`((?:src|kernels|tests|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"\{doc\}`/?([\w/-]+)`", re.sub(r"<(.*?)>", r"", text)):
        assert _is_generated(ROOT / "docs" / name), name
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", text)) <= options() | FOREIGN
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^\$ |`)make (\w+)", text, re.M)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_of_a_page_compiles(page: Path) -> None:
    for block in re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S):
        ast.parse("\n".join(line.removeprefix(block[0]) for line in block[1].splitlines()))


def _is_generated(target: Path) -> bool:
    """A page that is written when the site is built: the tutorials are the scripts of `examples`."""
    try:
        name = str(target.relative_to(ROOT / "docs"))
    except ValueError:
        return False
    if name.startswith("tutorials/"):
        return name == "tutorials/index" or (ROOT / "examples" / f"{target.stem}.py").exists()
    return name in GENERATED


def test_every_page_is_reached_by_a_table_of_contents() -> None:
    reached = {ROOT / "docs" / "index.md"}
    todo = list(reached)
    while todo:
        page = todo.pop()
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for name in block.split():
                target = (page.parent / f"{name}.md").resolve()
                if not name.startswith(":") and target.exists() and target not in reached:
                    reached.add(target)
                    todo.append(target)
    assert {page for page in PAGES if page.parent != ROOT} <= reached


def test_the_page_on_architecture_has_the_import_contracts() -> None:
    page = (ROOT / "docs" / "development" / "architecture.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    table = page.partition("| contract |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (?!-)([^|]+?) \|", table, re.M) == [one["name"] for one in settings["contracts"]]
    layers = [re.sub(r"[()]", "", layer) for layer in settings["contracts"][0]["layers"]]
    assert re.findall(r"^    (cli > .*)$", page, re.M) == [" > ".join(layers)]


def test_the_tree_of_the_architecture_is_the_tree() -> None:
    page = (ROOT / "docs" / "development" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("src/stackalign/\n")[2].partition("\n```")[0]
    listed = set(re.findall(r"(\w+)/(?= |$)", tree, re.M))
    packages = {file.parent.name for file in (ROOT / "src" / "stackalign").glob("*/__init__.py")}
    assert packages <= listed


def test_citation_has_the_version_of_the_package() -> None:
    (cited,) = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert cited == stackalign.__version__


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


def test_the_page_of_formats_names_all_of_them() -> None:
    """Every extension that is read or written, and no other, but those of tables."""
    from stackalign.io import stacks

    page = (ROOT / "docs" / "howto" / "file-formats.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\.[a-z0-9]+(?:\.gz)?)`", page))
    read = set(stacks.readable_extensions())
    assert read <= named
    assert named - read - {*stacks.image_extensions(), *stacks.writable_extensions()} == {".csv", ".json"}
    writes = next(line for line in page.splitlines() if line.startswith("| `crop` |"))
    assert {e for e in stacks.writable_extensions() if e not in (".pth", ".hdf5")} <= set(
        re.findall(r"`(\.\w+)`", writes)
    )
