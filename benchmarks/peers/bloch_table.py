"""Write tests/refine/abtem_si110.json: intensities of abTEM, for tests on machines without it."""

import json
from importlib import metadata
from pathlib import Path

import numpy as np

from stackalign.refine import AbtemSimulator, Beam, Crystal

TARGET = Path(__file__).resolve().parents[2] / "tests" / "refine" / "abtem_si110.json"
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
SILICON = Crystal((5.431,) * 3 + (90,) * 3, ("Si",) * 8, np.concatenate([FCC, FCC + 0.25]), b_iso=0.4668)
BEAM = Beam(300, (1, 1, 0), (0, 0, 2))
THICKNESSES = [200.0, 500.0, 900.0, 1600.0]
TILTS_MRAD = [[0.0, 0.0], [0.8, -0.6], [-4.2, 5.6], [12.0, 9.0]]


def main() -> None:
    simulator = AbtemSimulator(SILICON, BEAM, ((0, 0, 0),))
    prepared = simulator.prepare({}, BEAM.tilts_from_mrad(TILTS_MRAD))
    patterns = []
    for mrad, tilt in zip(TILTS_MRAD, prepared.tilts, strict=True):
        hkl, found = prepared.one(tilt, np.array(THICKNESSES))
        order = np.argsort(np.square(hkl).sum(1), kind="stable")
        values = [[float(f"{x:.9f}") for x in row] for row in found[:, order]]
        patterns.append({"tilt_mrad": mrad, "hkl": hkl[order].tolist(), "intensities": values})
    about = (
        f"Intensities of abTEM {metadata.version('abtem')} (BlochWaves, Kirkland's scattering factors, no mean inner "
        "potential, its surface across the beam) for Si, a = 5.431 angstrom, B = 0.4668 square angstrom, 300 kV, zone "
        "[110], x axis (002), sg_max 0.02 and g_max 3 per angstrom; written by benchmarks/peers/bloch_table.py"
    )
    contents = {"about": about, "thicknesses_angstrom": THICKNESSES, "patterns": patterns}
    text = json.dumps(contents, separators=(",", ":"))
    TARGET.write_text(text.replace('{"tilt', '\n{"tilt').replace('"intensities"', '\n"intensities"') + "\n")


if __name__ == "__main__":
    main()
