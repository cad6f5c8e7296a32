"""What made an output, from the record beside it: for `stackalign info FILE` and `stackalign verify`."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._console import FAILED, fail, print_facts

__all__ = ["Made", "facts_of", "find", "show"]

_SHORT = 16
"""Characters of a fingerprint that are shown; all of them stand in --json."""


@dataclass(frozen=True)
class Made:
    """An output and its record.

    Parameters
    ----------
    output : Path
        May be gone.
    file : Path
        Of the record; the output itself where that is its own record.
    record : dict
    """

    output: Path
    file: Path
    record: dict[str, Any]

    @property
    def run(self) -> dict[str, Any]:
        """What the run says of itself."""
        run = self.record.get("run")
        return run if isinstance(run, dict) else {}

    @property
    def plan(self) -> dict[str, Any]:
        """What the output follows from."""
        plan = self.run.get("plan")
        return plan if isinstance(plan, dict) else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, device, time and command line."""
        provenance = self.record.get("provenance")
        return provenance if isinstance(provenance, dict) else {}

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Each input with its name and fingerprint, and its path where the record has that."""
        known = [dict(one) for one in self.provenance.get("inputs", []) if isinstance(one, Mapping)]
        inputs = []
        for described in self.plan.get("inputs", []):
            same = next((one for one in known if _is_same(one, described)), None)
            if same is not None:
                known.remove(same)
            inputs.append({**(same or {}), **described})
        # What the plan does not list was read too, such as a configuration.
        return inputs + [one for one in known if one.get("path") and one.get("fingerprint")]


def _is_same(known: Mapping[str, Any], described: Mapping[str, Any]) -> bool:
    named = Path(str(known.get("path"))).name == described.get("name")
    return named and known.get("fingerprint") == described.get("fingerprint")


def find(path: Path) -> Made | None:
    """Find the record of an output, given either of them; None where there is none."""
    from stackalign.runs.record import SUFFIXES, find_record, load_record, record_path

    for suffix in SUFFIXES:
        record = find_record(path, suffix) if suffix else None
        if record is not None:
            return Made(path, record_path(path, suffix), record)
    record = None if path.is_dir() else load_record(path)
    if record is None or not isinstance(record.get("run"), dict):
        return None
    return Made(path.with_name(str(record["run"].get("output", path.name))), path, record)


def facts_of(made: Made) -> dict[str, Any]:
    """Everything that the record says of how the output was made, as JSON has it."""
    about, plan = made.provenance, made.plan
    return {
        "output": str(made.output),
        "record": str(made.file),
        "command": plan.get("command"),
        "command_line": about.get("command"),
        "status": made.run.get("status"),
        "time_utc": about.get("time_utc"),
        "device": about.get("device"),
        "platform": about.get("platform"),
        "versions": about.get("versions") or {"stackalign": plan.get("version")},
        "inputs": made.inputs,
        "masks": plan.get("masks", {}),
        "settings": plan.get("settings") or about.get("parameters", {}),
        "content": made.run.get("content"),
    }


def show(path: Path, *, as_json: bool) -> None:
    """Print what made an output."""
    if not path.exists() and find(path) is None:
        raise fail(f"{path} does not exist; give an output of a command, or its record", FAILED)
    made = find(path)
    if made is None:
        raise fail(f"{path} has no record beside it that names it; give an output of a command, or its record", FAILED)
    facts = facts_of(made)
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        return
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    rows = [(name, facts[name.replace(" ", "_")]) for name in ("output", "record", "command", "command line", "status")]
    rows += [("time", facts["time_utc"] and f"{facts['time_utc']} (UTC)"), ("device", facts["device"])]
    rows += [("versions", versions), ("platform", facts["platform"])]
    rows += [("input", _input(one)) for one in facts["inputs"]]
    rows += [(f"mask {name}", digest[:_SHORT]) for name, digest in facts["masks"].items() if digest]
    rows += [("setting", f"{name} = {value}") for name, value in _flat(facts["settings"])]
    rows += [("content", facts["content"] and facts["content"][:_SHORT])]
    print_facts([(name, str(value)) for name, value in rows if value is not None])


def _input(described: Mapping[str, Any]) -> str:
    more = [f"{key} {described[key]}" for key in ("role", "shape", "dtype") if described.get(key)]
    more += [f"{key} {value}" for key, value in (described.get("options") or {}).items()]
    name = described.get("path") or described.get("name")
    return ", ".join([str(name), *more, str(described.get("fingerprint"))[:_SHORT]])


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{before}{name}.")
        else:
            text = json.dumps(value, ensure_ascii=False)
            rows.append((before + name, text if len(text) <= 200 else text[:197] + "..."))
    return rows
