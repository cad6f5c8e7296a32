"""The method that sunkit-image is given: its interface of 0.7 is written down here, since releases lack it."""

import os
import subprocess
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from stackalign.errors import StackalignWarning
from stackalign.solar import register_with_sunkit_image, sunkit_coalign


class AffineParams(NamedTuple):
    scale: tuple[float, float]
    rotation_matrix: tuple[tuple[float, float], tuple[float, float]]
    translation: tuple[float, float]


@pytest.fixture
def methods(monkeypatch):
    """A sunkit-image with its registry and nothing else."""
    known = {}

    def register_coalignment_method(name):
        return lambda function: known.setdefault(name, function)

    for name, content in {
        "sunkit_image": {},
        "sunkit_image.coalignment": {},
        "sunkit_image.coalignment.register": {"register_coalignment_method": register_coalignment_method},
        "sunkit_image.coalignment.interface": {"AffineParams": AffineParams},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content, __path__=[])
        module.__spec__ = types.SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, name, module)
    return known


def test_the_translation_leads_from_target_to_reference(methods, rng) -> None:
    assert register_with_sunkit_image()
    assert methods["stackalign"] is sunkit_coalign
    scene = gaussian_filter(rng.standard_normal((160, 180)), 2)
    reference = scene[20:140, 20:160]
    target = shift(scene, (3.3, -4.6), order=5)[20:130, 20:150]  # of another shape, its content moved
    target[40:50, 60:80] = np.nan
    found = methods["stackalign"](target, reference, max_shift=20)
    np.testing.assert_allclose(found.translation, (4.6, -3.3), atol=0.02)
    np.testing.assert_array_equal(found.rotation_matrix, np.eye(2))
    np.testing.assert_array_equal(found.scale, [1, 1])


def test_importing_the_package_is_enough(tmp_path) -> None:
    """In a process of its own, with a registry of 0.7 on the path."""
    package = tmp_path / "sunkit_image" / "coalignment"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "register.py").write_text(
        "KNOWN = {}\n"
        "def register_coalignment_method(name):\n"
        "    return lambda function: KNOWN.setdefault(name, function)\n"
    )
    code = "import stackalign.solar, sunkit_image.coalignment.register as r; print(*r.KNOWN)"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert ran.stdout.split() == ["stackalign"]


def test_what_cannot_be_trusted_is_said(methods, rng) -> None:
    with pytest.warns(StackalignWarning, match="not to be trusted"):
        sunkit_coalign(rng.standard_normal((64, 64)), rng.standard_normal((64, 64)))


def test_releases_without_methods(monkeypatch) -> None:
    package = types.ModuleType("sunkit_image")
    package.__spec__, package.__path__ = types.SimpleNamespace(name="sunkit_image"), []
    monkeypatch.setitem(sys.modules, "sunkit_image", package)
    assert not register_with_sunkit_image()
    monkeypatch.setitem(sys.modules, "sunkit_image", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not register_with_sunkit_image()
