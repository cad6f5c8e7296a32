"""The function for LiberTEM, run by a stand-in of its base class."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import stackalign as sa
from crop.oracle import disks
from stackalign.errors import MissingDependencyError


class UDF:
    """Keeps parameters, and gives navigation buffers for each partition."""

    def __init__(self, **parameters) -> None:
        self.params = SimpleNamespace(**parameters)

    def buffer(self, kind, dtype, extra_shape=()):
        assert kind == "nav"
        return dtype, extra_shape


def run(udf, patterns, cuts):
    whole = {
        name: np.zeros((len(patterns), *shape), dtype) for name, (dtype, shape) in udf.get_result_buffers().items()
    }
    for first, last in zip([0, *cuts], [*cuts, len(patterns)], strict=True):
        udf.results = SimpleNamespace(**{name: values[first:last] for name, values in whole.items()})
        udf.process_partition(patterns[first:last])
    return whole


@pytest.fixture
def module(monkeypatch):
    stand_in = ModuleType("libertem.udf")
    stand_in.UDF = UDF
    monkeypatch.setitem(sys.modules, "libertem", ModuleType("libertem"))
    monkeypatch.setitem(sys.modules, "libertem.udf", stand_in)
    monkeypatch.delitem(sys.modules, "stackalign.libertem", raising=False)
    yield importlib.import_module("stackalign.libertem")
    sys.modules.pop("stackalign.libertem", None)


@pytest.mark.parametrize("cuts", [[], [5], [1, 2, 9]])
@pytest.mark.parametrize("centers", [None, (15.0, 16.5)])
def test_partitions_give_what_the_whole_gives(module, cuts, centers) -> None:
    patterns = disks(12, frame=(32, 34))
    mask = np.ones((32, 34), bool)
    mask[4] = False
    found = run(module.RetentionUDF((0.9, 0.98), centers, mask), patterns, cuts)
    expected = sa.pattern_summary(patterns, (0.9, 0.98), centers=centers, mask=mask)
    np.testing.assert_array_equal(found["radius"], expected.radii)
    np.testing.assert_array_equal(found["total"], expected.total)
    np.testing.assert_array_equal(found["center"], np.broadcast_to(expected.centers, (12, 2)))


def test_without_it_the_package_is_named(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "stackalign.libertem", raising=False)
    monkeypatch.setitem(sys.modules, "libertem.udf", None)
    with pytest.raises(MissingDependencyError, match="pip install libertem"):
        importlib.import_module("stackalign.libertem")
