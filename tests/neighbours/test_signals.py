"""Functions on signals of HyperSpy, on a stand-in with the few attributes that they use."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

import stackalign.hyperspy as signals
from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_array
from stackalign.errors import DataError


class Dictionary(SimpleNamespace):
    def as_dictionary(self):
        return {"General": {"title": self.General.title}}


class Signal:
    """As HyperSpy's: data, axes in their order, metadata; `isig` of one column has one signal axis."""

    _lazy = False

    def __init__(self, data, axes=None, metadata=None) -> None:
        self.data = data
        names = axes or [
            {"name": n, "size": s, "scale": 1.0, "offset": 0.0, "units": None, "navigate": k < data.ndim - 2}
            for k, (n, s) in enumerate(zip("abcd", data.shape, strict=False))
        ]
        assert [axis["size"] for axis in names] == list(data.shape)
        self.axes_manager = SimpleNamespace(as_dictionary=lambda: {f"axis-{k}": dict(a) for k, a in enumerate(names)})
        title = (metadata or {}).get("General", {}).get("title", "")
        self.metadata = Dictionary(General=SimpleNamespace(title=title))

    @property
    def isig(self):
        return Columns(self)

    @property
    def axes(self):
        return list(self.axes_manager.as_dictionary().values())


class LazySignal(Signal):
    _lazy = True


class Profile(Signal):
    pass


class Columns:
    def __init__(self, signal) -> None:
        self.signal = signal

    def __getitem__(self, index):
        made = copy.copy(self.signal)
        made.__class__ = type("Lazy" * self.signal._lazy + "Profile", (Profile,), {"_lazy": self.signal._lazy})
        return made


def scan(dtype=np.uint16):
    y, x = np.indices((40, 44))
    rng = np.random.default_rng(5)
    beams = [500 * np.exp(-((y - 18 - k / 5) ** 2 + (x - 23 + k / 6) ** 2) / 20) for k in range(12)]
    return rng.poisson(np.stack(beams)).astype(dtype).reshape(3, 4, 40, 44)


AXES = [
    {"name": "Ry", "size": 3, "scale": 0.5, "offset": 0.0, "units": "nm", "navigate": True},
    {"name": "Rx", "size": 4, "scale": 0.25, "offset": 0.0, "units": "nm", "navigate": True},
    {"name": "ky", "size": 40, "scale": 0.1, "offset": -1.8, "units": "1/nm", "navigate": False},
    {"name": "kx", "size": 44, "scale": 0.1, "offset": -2.3, "units": "1/nm", "navigate": False},
]


def lazy(data):
    return LazySignal(pytest.importorskip("dask.array").from_array(data, chunks=(2, 3, 20, 44)), AXES)


@pytest.mark.parametrize("options", [{}, {"target_retention": 0.9, "min_retention": 0.8}, {"one_window": True}])
def test_signals_are_cropped_as_arrays_are(options) -> None:
    data = scan()
    config = CroppingConfig(visualization=False, verbose=False, **options)
    expected, facts = crop_array(data, config)
    cropped, result = signals.crop(Signal(data, AXES, {"General": {"title": "scan"}}), config)
    np.testing.assert_array_equal(cropped.data, expected)
    assert cropped.metadata.General.title == "scan cropped"
    assert cropped.axes[:2] == AXES[:2]
    for k, axis in enumerate(cropped.axes[2:]):
        middle = (facts.analysis.centers[:, k] - np.floor(facts.analysis.centers[:, k])).mean()
        assert axis["scale"] == 0.1
        if "one_window" not in options:  # the zero is at the mean centre within the windows
            assert axis["offset"] == pytest.approx(-0.1 * (facts.analysis.window_before[k] + middle))
    assert result.validation.used.min() > 0.8


def test_lazy_signals_are_cut_when_they_are_asked_for() -> None:
    data = scan()
    expected, facts = crop_array(data, CroppingConfig(visualization=False, verbose=False))
    cropped, result = signals.crop(lazy(data))
    assert type(cropped) is LazySignal
    assert hasattr(cropped.data, "compute")
    np.testing.assert_array_equal(cropped.data.compute(), expected)
    assert cropped.data.dtype == data.dtype
    np.testing.assert_array_equal(result.analysis.centers, facts.analysis.centers)
    with pytest.raises(DataError, match="compute"):
        signals.crop(lazy(data), CroppingConfig(bin=2))


def test_profiles_have_their_radius_in_units() -> None:
    data = scan()
    center = (18.5, 22.5)
    expected = diffraction.azimuthal_average(data.reshape(12, 40, 44), center).intensity.reshape(3, 4, -1)
    plain = signals.azimuthal_average(Signal(data, AXES), center)
    np.testing.assert_array_equal(plain.data, expected)
    radius = plain.axes[-1]
    assert (radius["name"], radius["scale"], radius["units"], radius["offset"]) == ("radius", 0.1, "1/nm", 0.0)
    late = signals.azimuthal_average(lazy(data), center)
    assert late._lazy
    np.testing.assert_array_equal(late.data.compute(), expected)
    uneven = [*AXES[:3], AXES[3] | {"scale": 0.2}]
    assert signals.azimuthal_average(Signal(data, uneven), center).axes[-1]["units"] == "px"


def test_series_are_aligned() -> None:
    series = np.stack([np.roll(scan()[0, 0], k, axis=0) for k in (0, 2, -1)])
    axes = [AXES[1] | {"size": 3}, *AXES[2:]]
    aligned, found = signals.align(Signal(series, axes), max_shift=6)
    np.testing.assert_allclose(found.parameters, [(0, 0), (-2, 0), (1, 0)], atol=0.05)
    assert aligned.axes == axes
    again, _ = signals.align(Signal(series, axes), reference=series[1], max_shift=6)
    assert np.nanmean(np.abs(again.data[1] - series[1])) < 1


def test_what_is_no_scan_of_images_is_refused() -> None:
    data = scan()
    with pytest.raises(DataError, match="expected a signal of HyperSpy, got ndarray"):
        signals.crop(data)
    swapped = [axis | {"navigate": not axis["navigate"]} for axis in AXES]
    with pytest.raises(DataError, match="transpose"):
        signals.crop(Signal(data, swapped))
    with pytest.raises(DataError, match="two signal axes"):
        signals.align(Signal(data[0, 0], AXES[2:]))
