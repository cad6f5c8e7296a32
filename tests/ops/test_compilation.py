"""`warmup` compiles what the pipelines call."""

from collections import defaultdict

import numpy as np
import pytest

import stackalign as sa
from stackalign import backends, diffraction
from stackalign.backends._protocol import KERNEL_DTYPES, SUBJECTS
from stackalign.crop import CroppingConfig, crop_array
from stackalign.ops.compilation import PIPELINES
from stackalign.registration import create_test_pair


@pytest.fixture
def warmed(monkeypatch) -> dict[str, set[str]]:
    """Subjects by type that were asked for; nothing is compiled."""
    asked: dict[str, set[str]] = {}
    monkeypatch.setattr(backends.load("cpu"), "warm", lambda dtype, subjects: asked.update({dtype: set(subjects)}))
    return asked


def test_everything_by_default(warmed) -> None:
    assert list(sa.warmup()) == list(KERNEL_DTYPES)
    assert all(subjects == set(SUBJECTS.values()) for subjects in warmed.values())


def test_types_of_a_pipeline_are_added_to_those_of_its_images(warmed) -> None:
    assert set(sa.warmup(["uint16"], ["crop", "register"])) == {"uint16", "float32", "float64"}
    assert warmed["uint16"] >= {"radial", "crop", "standardise"}
    assert "radial" not in warmed["float32"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["float16"],), "no kernels for 'float16'; choose from uint8"),
        ((None, ["colour"]), "no pipeline 'colour'; choose from crop"),
    ],
)
def test_unknown_names_are_refused(warmed, arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sa.warmup(*arguments)
    assert not warmed


def test_pipelines_call_what_is_listed_for_them(monkeypatch, rng) -> None:
    cpu, called = backends.load("cpu"), defaultdict(set)
    operations = {method: getattr(cpu, method) for method in SUBJECTS}
    for method, operation in operations.items():

        def watched(*arguments, operation=operation, method=method):
            called[now].add(SUBJECTS[method])
            return operation(*arguments)

        monkeypatch.setitem(vars(cpu), method, watched)
    y, x = np.mgrid[:40, :40]
    patterns = rng.poisson(200 * np.exp(-((y - 19.3) ** 2 + (x - 20.6) ** 2) / 60) + 1, (4, 40, 40)).astype(np.uint16)
    now = "crop"
    crop_array(patterns, CroppingConfig())
    now = "register"
    pair = create_test_pair((48, 48), "shift", (2.3, -1.6), noise=0.05, holes=0.1, seed=0)
    sa.register(pair.reference, pair.moving, model="shift+scale")
    now = "diffraction"
    diffraction.nfold(patterns[0], 2, center=(19, 20))
    diffraction.azimuthal_average(patterns[0], (19, 20))
    diffraction.autocenter(patterns[0])
    diffraction.align(patterns, patterns[0])
    for pipeline, subjects in called.items():
        assert subjects <= set(PIPELINES[pipeline][0]), pipeline
    assert set(called) == {"crop", "register", "diffraction"}
    assert called["crop"] == set(PIPELINES["crop"][0])
