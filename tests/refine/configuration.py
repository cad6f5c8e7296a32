"""A configuration of `stackalign refine` of two steps, and the images that it names."""

from pathlib import Path

import numpy as np

from refine.crystals import silicon
from refine.patterns import larbed
from stackalign.refine import Beam, BeamSelection

__all__ = ["BEAM", "CONFIG", "HKL", "images", "write_config"]

HKL = [(0, 0, 0), (1, -1, 1), (1, -1, -1), (0, 0, 2)]
BEAM = Beam(200, (1, 1, 0), (0, 0, 2))
CONFIG = """
[data]
kind = "larbed"
file = "disks.npz"
dataset = "images"
reflections = "hkl"
gl = 40.0
center = [23.8, 23.1]

[crystal]
cell = [5.431, 5.431, 5.431, 90, 90, 90]
species = ["Si", "Si", "Si", "Si", "Si", "Si", "Si", "Si"]
positions = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
  [0.25, 0.25, 0.25], [0.25, 0.75, 0.75], [0.75, 0.25, 0.75], [0.75, 0.75, 0.25]]
b_iso = 0.4668

[beam]
kv = 200.0
zone = [1, 1, 0]
x_axis = [0, 0, 2]

[simulation]
strong = 0.06
weak = 0.005
laue_zones = 0

[roi]
height = 30
width = 30

[matching]
grid = 3
fine_grid = 3
beam_check = 1  # the images have few beams

[[step]]
refine = { thickness = [300, 900] }

[[step]]
name = "step size"
refine = { thickness = [500, 700], gl = [39.0, 41.0] }
n_scan = { gl = 3 }
"""


def images():
    """Simulated disks of a thickness of 612 angstrom."""
    rules = BeamSelection(strong=0.06, weak=0.005, laue_zones=0)
    return larbed(silicon(), BEAM, HKL, thickness=612.0, gl=40.0, side=(48, 48), selection=rules, more_beams=1.0)


def write_config(folder: Path, disks, *changes: tuple[str, str]) -> Path:
    """Write the images and the configuration, with parts of its text replaced."""
    if not (folder / "disks.npz").exists():
        np.savez(folder / "disks.npz", images=disks.data.images, hkl=np.array(HKL))
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "si.toml"
    path.write_text(text)
    return path
