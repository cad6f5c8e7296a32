"""Pages that follow from the code: the reference of the commands, and the lists of the API reference."""

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stackalign.errors import MissingDependencyError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["api_pages", "command_page", "setup"]

PACKAGES = {
    "stackalign": "The array API and registration, as `import stackalign as sa` gives them",
    "stackalign.transforms": "Parameters of transforms and pull matrices",
    "stackalign.objectives": "Scores as functions of parameters",
    "stackalign.optimize": "Optimisers that see scores and never images",
    "stackalign.registration": "Transforms between images",
    "stackalign.drift": "Drift of a series of frames",
    "stackalign.crop": "Cropping of 4D-STEM data",
    "stackalign.diffraction": "Electron diffraction patterns",
    "stackalign.solar": "Coalignment of solar maps",
    "stackalign.refine": "Simulation and refinement of diffraction disks",
    "stackalign.io": "Files of image stacks",
    "stackalign.runs": "Long runs: plans, checkpoints, executors",
    "stackalign.torch": "Cropped patterns as a data set of PyTorch",
    "stackalign.hyperspy": "Signals of HyperSpy in and out",
    "stackalign.napari": "A reader for napari",
    "stackalign.libertem": "A user-defined function of LiberTEM",
    "stackalign.compat.skued": "Names of scikit-ued",
    "stackalign.compat.coarse": "The original's names of refinement",
    "stackalign.plot.crop": "Figures of crop",
    "stackalign.plot.registration": "Figures of alignments",
    "stackalign.plot.drift": "Figures of a series' drift",
    "stackalign.plot.diffraction": "Figures of diffraction patterns",
    "stackalign.plot.solar": "Figures of coalignments",
    "stackalign.plot.refine": "Figures of refinements",
    "stackalign.bench": "Benchmarks of this machine",
    "stackalign.device": "Devices, threads and memory",
    "stackalign.errors": "Exceptions and warnings",
}


def exported(package: str) -> list[str]:
    """Functions and classes that a package exports, and that are documented nowhere else."""
    room = importlib.import_module(package)
    names = []
    for name in room.__all__:
        value = getattr(room, name)
        if inspect.ismodule(value) or not callable(value) or not getattr(value, "__doc__", None):
            continue
        if package != "stackalign" and getattr(importlib.import_module("stackalign"), name, None) is value:
            continue
        names.append(name)
    return names


def api_pages(folder: Path) -> None:
    """Write a page for each package, with a table whose rows lead to pages of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, title in PACKAGES.items():
        heading = f"{package}: {title[0].lower()}{title[1:]}"
        lines = [heading, "=" * len(heading), "", f".. currentmodule:: {package}", ""]
        try:
            names = exported(package)
        except MissingDependencyError as error:  # PyTorch is not among the packages of the site
            write(folder / f"{package}.rst", "\n".join([*lines[:3], f"Not built here: {error}", ""]))
            continue
        classes = [n for n in names if inspect.isclass(getattr(importlib.import_module(package), n))]
        for kind, some in (("Functions", [n for n in names if n not in classes]), ("Classes", classes)):
            if some:
                lines += [kind, "-" * len(kind), "", ".. autosummary::", "   :toctree: generated", ""]
                lines += [f"   {name}" for name in some] + [""]
        write(folder / f"{package}.rst", "\n".join(lines))


def command_page(page: Path) -> None:
    """Write the options of every command, as `--help` shows them."""
    from stackalign.cli.__main__ import app

    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "`stackalign COMMAND --help` prints the same. `python -m stackalign` is the same command, "
        "`stackalign --version` prints the version, and `stackalign --install-completion` completes commands and "
        "options in the shell.",
        "",
    ]
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        lines += _command(name, command)
    write(page, "\n".join(lines))


def _command(name: str, command: Any) -> list[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    # Markup of rich is escaped in help texts.
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
    usage = " ".join(["stackalign", name, *command.collect_usage_pieces(context)])
    lines = [
        f"## {name}",
        "",
        *inspect.cleandoc(command.help or "").replace("\\[", "[").splitlines(),
        "",
        "```console",
        f"$ {usage}",
        "```",
        "",
    ]
    lines += ["| option | meaning |", "|---|---|"]
    for argument in arguments:
        lines.append(f"| `{argument.name.upper()}` | {_cell(getattr(argument, 'help', None) or '')} |")
    for option in options:
        spelled, text = option.get_help_record(context)
        lines.append(f"| `{_cell(spelled)}` | {_cell(text)} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("\\[", "[")


def write(path: Path, text: str) -> None:
    """Write where something changed, so that a second build reads only that."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


COPIES = {
    "CONTRIBUTING.md": (
        "development/contributing.md",
        {"](docs/development/": "](", "](SECURITY.md)": "](security.md)"},
    ),
    "SECURITY.md": ("development/security.md", {}),
    "CHANGELOG.md": ("changelog.md", {}),
    "benchmarks/RESULTS.md": ("measured.md", {"](../docs/": "]("}),
}
"""Files of the repository that are pages as well: where they go, and what becomes of their links."""


def copied_pages(source: Path) -> None:
    """Copy files from beside the folder of the pages; links to files that are no pages lose their target."""
    for name, (target, links) in COPIES.items():
        text = (source.parent / name).read_text(encoding="utf-8")
        for old, new in links.items():
            text = text.replace(old, new)
        text = re.sub(r"\[([^\]]*)\]\(changelog\.d/README\.md\)", r"\1", text)
        write(source / target, text)


def generate(app: "Sphinx", _config: object) -> None:
    """Write all generated pages before Sphinx looks for its sources."""
    source = Path(app.srcdir)
    api_pages(source / "reference" / "api")
    command_page(source / "reference" / "commands.md")
    copied_pages(source)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Write the pages before Sphinx lists its sources: autosummary makes pages for what it finds in that list."""
    app.connect("config-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
