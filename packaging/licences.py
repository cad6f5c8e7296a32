"""Print the licences of all packages that an installation brings, as Markdown or as a bill of materials (CycloneDX).

    python packaging/licences.py [--extras plot,solar] [--sbom]

It reads the metadata of the environment that runs it: what is not installed there is not listed.
"""

import argparse
import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extras: list[str]) -> list[str]:
    """Requirements of the project and of some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(r for name in extras for r in project["optional-dependencies"][name])]
    return [NAME.match(line)[0] for line in lines]  # type: ignore[index] # each begins with a name


def closure(names: list[str]) -> dict[str, metadata.Distribution]:
    """These packages and all that they need themselves, without their extras and what other platforms need."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = normalised(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for line in found[name].requires or ():
            requirement, _, marker = line.partition(";")
            if "extra" not in marker:
                waiting.append(NAME.match(requirement.strip())[0])  # type: ignore[index]
    return dict(sorted(found.items()))


def licence(package: metadata.Distribution) -> str:
    """Licence by its expression, its classifiers, or the first line of its field."""
    fields = package.metadata
    if fields.get("License-Expression"):
        return str(fields["License-Expression"])
    classes = [c.rpartition(" :: ")[2] for c in fields.get_all("Classifier") or () if c.startswith("License ::")]
    classes = [c for c in classes if c != "OSI Approved"]
    text = (fields.get("License") or "").strip().splitlines()
    return " or ".join(classes) or (text[0] if text else "not stated")


def table(packages: dict[str, metadata.Distribution]) -> str:
    rows = [f"| {name} | {p.version} | {licence(p)} |" for name, p in packages.items()]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows])


def bill(packages: dict[str, metadata.Distribution]) -> str:
    """CycloneDX 1.6, without hashes."""
    components = [
        {
            "type": "library",
            "name": name,
            "version": p.version,
            "purl": f"pkg:pypi/{name}@{p.version}",
            "licenses": [{"license": {"name": licence(p)}}],
        }
        for name, p in packages.items()
    ]
    subject = {"type": "application", "name": "stackalign"}
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": subject}}
    return json.dumps(document | {"components": components}, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="", help="separated by commas")
    parser.add_argument("--sbom", action="store_true", help="CycloneDX instead of Markdown")
    options = parser.parse_args()
    packages = closure(declared([name for name in options.extras.split(",") if name]))
    print(bill(packages) if options.sbom else table(packages))


if __name__ == "__main__":
    main()
