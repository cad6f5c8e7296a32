"""The provenance of a coalignment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sunpy.map import GenericMap

from stackalign.io.provenance import provenance

from .frames import name_of
from .phase_result import PhaseResult
from .versions import solar_versions

__all__ = ["solar_provenance"]


def solar_provenance(
    target: GenericMap,
    reference: GenericMap,
    phases: Sequence[PhaseResult],
    settings: Mapping[str, Any],
    source: Path | None,
) -> dict[str, Any]:
    """Versions, settings, device and inputs."""
    inputs = [
        {"target": name_of(target), "path": None if source is None else str(source), "shape": target.data.shape},
        {"reference": name_of(reference), "shape": reference.data.shape},
    ]
    device = phases[-1].registrations[-1].provenance.get("device")
    record = provenance({"phases": [phase.name for phase in phases], **settings}, inputs, device=device)
    record["versions"] |= solar_versions()
    return record
