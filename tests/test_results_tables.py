"""Results as tables, in notebooks, and as transforms of other packages."""

import html.parser
import re
import sys
from types import ModuleType

import numpy as np
import pytest

import stackalign as sa
from crop.oracle import disks
from stackalign import crop, diffraction
from stackalign.errors import MissingDependencyError
from stackalign.registration import create_test_pair


def crop_result():
    stack = disks(6, frame=(32, 34)).reshape(2, 3, 32, 34)
    return crop.crop_array(stack, crop.CroppingConfig(visualization=False, verbose=False))[1]


def pair(model="rigid", parameters=(1.3, -2.1, 0.8), shape=(80, 96)):
    return create_test_pair(shape, model, parameters, noise=0.02)


def registration():
    made = pair()
    return sa.register(made.reference, made.moving, model="rigid")


def registrations():
    made = pair("shift", (1.3, -2.1))
    return sa.register_stack(made.reference, np.stack([made.moving] * 3))


def drift():
    from stackalign.drift import create_test_series, estimate_drift

    return estimate_drift(create_test_series(5, (48, 48), counts=100).images)


def coalignment():
    from stackalign import solar

    made = solar.create_test_observation(error=(35.0, -20.0))
    return solar.coalign(made.raster, made.frames[0])


def profile(**options):
    images = np.random.default_rng(0).poisson(9.0, (2, 24, 24))
    return diffraction.azimuthal_average(images, [(11.5, 11.5), (11.0, 12.0)], **options)


def spots():
    y, x = np.indices((64, 64))
    image = sum(400 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 4) for a, b in ((20, 18), (40, 45), (32, 32)))
    return np.random.default_rng(1).poisson(image + 5)


RESULTS = {
    "CropResult": (crop_result, 6, ("center_y", "retention", "scan_x", "flags"), "radius"),
    "RegistrationResult": (registration, 1, ("dy", "sigma_dx", "angle", "score"), "dy"),
    "RegistrationStack": (registrations, 3, ("pair", "dy", "sigma_dx", "flags"), "dx"),
    "DriftResult": (drift, 5, ("frame", "dy", "sigma_dx", "evidence", "flags"), "dy"),
    "CoalignmentResult": (coalignment, 1, ("dx", "sigma_dy", "shift_tx", "sigma_ty", "flags"), "shift_tx"),
    "BraggPeaks": (lambda: diffraction.bragg_peaks(spots()), 3, ("row", "col", "snr"), "row"),
    "Center": (lambda: diffraction.autocenter(np.stack([spots(), spots()])), 2, ("row", "kind", "reason"), "sigma"),
    "Alignment": (lambda: diffraction.align(np.roll(spots(), 2, 0), spots()), 1, ("row", "score", "flags"), "col"),
    "AzimuthalProfile": (profile, None, ("image", "radius", "intensity", "standard_error"), "radius"),
    "polar": (lambda: profile(n_angles=4), None, ("image", "angle", "radius", "weight"), "angle"),
}


DRAWN = ("CropResult", "RegistrationStack", "DriftResult", "CoalignmentResult")


@pytest.fixture(scope="module", params=sorted(RESULTS))
def case(request):
    make, rows, names, with_unit = RESULTS[request.param]
    return make(), rows, names, with_unit


def test_columns_become_a_table_with_units(case) -> None:
    table_module = pytest.importorskip("astropy.table", reason="tables need astropy")
    result, rows, names, with_unit = case
    table = result.to_table()
    assert isinstance(table, table_module.Table)
    assert set(names) <= set(table.colnames)
    assert rows is None or len(table) == rows
    assert table[with_unit].unit is not None
    for name, values in result.columns().items():
        np.testing.assert_array_equal(np.asarray(table[name]), values)


def test_columns_become_a_data_frame(case, monkeypatch) -> None:
    """pandas is no dependency: what it is given is looked at through a stand-in, or through itself."""
    result, rows, names, with_unit = case
    if not _has_pandas():
        stand_in = ModuleType("pandas")
        stand_in.DataFrame = Frame
        monkeypatch.setitem(sys.modules, "pandas", stand_in)
    frame = result.to_dataframe()
    assert set(names) <= set(frame.columns)
    assert frame.attrs["units"][with_unit]
    lengths = {len(frame[name]) for name in frame.columns}
    assert len(lengths) == 1
    assert rows is None or lengths == {rows}


def test_rows_of_a_refinement() -> None:
    """One row for each refined parameter, of which each has a unit of its own."""
    from refine.configuration import images
    from stackalign.refine import ROI, CoarseRefine

    truth = images()
    refiner = CoarseRefine(truth.simulator, truth.data, ROI.rectangle(30, 30), grid=3, fine_grid=3, beam_check=1)
    result = refiner.optimize_orientation_thickness((550, 680))
    table = result.columns()
    assert list(table["parameter"]) == list(result.names)
    for name, value, sigma in zip(table["parameter"], table["value"], table["sigma"], strict=True):
        assert value == result.values[name]
        assert sigma == pytest.approx(result.sigma[name])
    assert dict(zip(table["parameter"], table["value"], strict=True))["thickness"] == pytest.approx(612, rel=0.01)
    assert "thickness" in result._repr_html_()


class Frame:
    def __init__(self, columns) -> None:
        self.data, self.columns, self.attrs = columns, list(columns), {}

    def __getitem__(self, name):
        return self.data[name]


def _has_pandas() -> bool:
    import importlib.util

    return importlib.util.find_spec("pandas") is not None


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        crop_result().to_dataframe()
    monkeypatch.setitem(sys.modules, "astropy.table", None)
    with pytest.raises(MissingDependencyError, match=r"stackalign\[solar\]"):
        crop_result().to_table()
    monkeypatch.setitem(sys.modules, "skimage.transform", None)
    with pytest.raises(MissingDependencyError, match=r"stackalign\[image\]"):
        registration().to_skimage()


class Balance(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open, self.cells = [], 0

    def handle_starttag(self, tag, attributes):
        if tag != "img":
            self.open.append(tag)
        self.cells += tag == "td"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_notebooks_show_table_and_picture(case) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    result, *_ = case
    shown = result._repr_html_()
    balance = Balance()
    balance.feed(shown)
    assert not balance.open
    columns = result.columns()
    assert balance.cells == len(columns) * min(20, len(next(iter(columns.values()))))
    drawn = type(result).__name__ in DRAWN or getattr(result, "angle", 0) is None
    assert ("data:image/png" in shown) == drawn


def test_notebooks_need_no_matplotlib(monkeypatch) -> None:
    result = crop_result()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "<img" not in result._repr_html_()
    assert "<table" in result._repr_html_()


def test_rows_of_profiles_are_where_they_were_measured() -> None:
    polar = profile(n_angles=4)
    table = polar.columns()
    k = int(np.flatnonzero((table["image"] == 1) & (table["angle"] == polar.angle[2]) & (table["radius"] == 5))[0])
    assert table["intensity"][k] == polar.intensity[1, 2, list(polar.radius).index(5)]


@pytest.mark.parametrize("model", ["shift", "rigid", "affine"])
@pytest.mark.parametrize("shapes", [((64, 80), (64, 80)), ((64, 80), (50, 70)), ((48, 60), (64, 66))])
def test_transforms_of_other_packages_are_the_same(model, shapes) -> None:
    from scipy import ndimage

    from stackalign import transforms

    moving_shape, output_shape = shapes
    free = {"shift": (), "rigid": (4.0,), "affine": (1.05, 0.97, 3.0, 0.02)}[model]
    matrix = transforms.matrices_from_parameters((1.3, -2.6, *free), model, (31.5, 39.5))
    made = registration()
    result = type(made)(**{**vars(made), "model": model, "matrix": np.asarray(matrix, np.float64)})
    moving = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=moving_shape), 1.5).astype(np.float64)
    ours = np.asarray(result.apply(moving, output_shape=output_shape))
    valid = np.isfinite(ours)
    assert valid.mean() > 0.4
    theirs = ndimage.affine_transform(moving, **result.to_scipy(), output_shape=output_shape, order=1, cval=np.nan)
    np.testing.assert_allclose(theirs[valid], ours[valid], atol=1e-9)
    transform = pytest.importorskip("skimage.transform", reason="needs scikit-image")
    warped = transform.warp(moving, result.to_skimage(), output_shape=output_shape, order=1, cval=np.nan)
    np.testing.assert_allclose(warped[valid], ours[valid], atol=1e-9)
    torch = pytest.importorskip("torch", reason="needs torch")
    for corners in (False, True):
        theta = torch.from_numpy(result.to_theta(moving_shape, output_shape, align_corners=corners))[None]
        grid = torch.nn.functional.affine_grid(theta, (1, 1, *output_shape), align_corners=corners)
        sampled = torch.nn.functional.grid_sample(torch.from_numpy(moving)[None, None], grid, align_corners=corners)
        np.testing.assert_allclose(sampled[0, 0].numpy()[valid], ours[valid], atol=1e-9)


def test_a_stack_gives_a_batch_of_grids() -> None:
    stack = registrations()
    batch = stack.to_theta((80, 96))
    assert batch.shape == (3, 2, 3)
    np.testing.assert_array_equal(batch[1], stack[1].to_theta((80, 96)))


def test_html_is_escaped() -> None:
    from stackalign._results import _html_table

    shown = _html_table({"<b>": np.array(["<script>"])}, {}, "x")
    assert "<script>" not in shown
    assert re.search("&lt;script&gt;", shown)
