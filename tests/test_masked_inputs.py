"""Whatever carries a mask of its own is refused at every public door, or used with it: a mask is never lost."""

import types
from inspect import signature

import numpy as np
import pytest

import stackalign as sa
from doors import IMAGE, IMAGES, STACK, operations
from stackalign import diffraction, refine
from stackalign.compat import skued
from stackalign.crop import CroppingConfig, crop_array
from stackalign.errors import DataError

BAD = np.zeros(IMAGE.shape, np.bool_)
BAD[10:20, 12:30] = True

DOORS = {
    "asarray": sa.asarray,
    "to_numpy": sa.to_numpy,
    "device_of": sa.device_of,
    **{
        name if argument == next(iter(signature(getattr(sa, name)).parameters)) else f"{name} {argument}": call
        for name, argument, call in operations(IMAGES.__contains__)
        if (name, argument) != ("match_template", "templates")
    },
    "match_template templates": lambda x: sa.match_template(np.tile(IMAGE, (2, 2)), x),
    "register": lambda x: sa.register(x, IMAGE),
    "register moving": lambda x: sa.register(IMAGE, x),
    "register_stack": lambda x: sa.register_stack(IMAGE, x),
    "diffraction.autocenter": diffraction.autocenter,
    "diffraction.find_beam_stop": diffraction.find_beam_stop,
    "diffraction.align": lambda x: diffraction.align(x, IMAGE),
    "diffraction.align reference": lambda x: diffraction.align(STACK, x),
    "diffraction.nfold": lambda x: diffraction.nfold(x, 2, center=(15.5, 19.5)),
    "diffraction.reflection": lambda x: diffraction.reflection(x, 0.0, center=(15.5, 19.5)),
    "diffraction.azimuthal_average": lambda x: diffraction.azimuthal_average(x, (15.5, 19.5)),
    "diffraction.bragg_peaks": diffraction.bragg_peaks,
    "diffraction.bragg_peaks_persistence": diffraction.bragg_peaks_persistence,
    "diffraction.remove_hot_spots": diffraction.remove_hot_spots,
    "diffraction.mask_from_collection": lambda x: diffraction.mask_from_collection([x, x, x]),
    "diffraction.track_peak": lambda x: list(diffraction.track_peak([x, x], slice(4, 20), slice(4, 20))),
    "diffraction.ialign": lambda x: list(diffraction.ialign([x, x])),
    "skued.align": lambda x: skued.align(x, IMAGE),
    "skued.align reference": lambda x: skued.align(IMAGE, x),
    "skued.autocenter": skued.autocenter,
    "skued.nfold": lambda x: skued.nfold(x, 2),
    "skued.reflection": lambda x: skued.reflection(x, 0.0),
    "skued.azimuthal_average": lambda x: skued.azimuthal_average(x, (19.5, 15.5)),
    "skued.bragg_peaks": skued.bragg_peaks,
    "skued.bragg_peaks_persistence": skued.bragg_peaks_persistence,
    "skued.mask_from_collection": lambda x: skued.mask_from_collection([x, x], (0, 100)),
    "skued.itrack_peak": lambda x: list(skued.itrack_peak([x, x])),
    "skued.ialign": lambda x: list(skued.ialign([x, x])),
    "skued.isnr": lambda x: list(skued.isnr([x, x])),
    "skued.snr_from_collection": lambda x: skued.snr_from_collection([x, x]),
    "skued.mask_image": lambda x: skued.mask_image(x, ~BAD),
    "refine.high_pass": lambda x: refine.high_pass(3.0)(x, ~BAD),
    "crop_array": lambda x: crop_array(x, CroppingConfig(visualization=False)),
}


def nddata():
    """Return what looks like astropy's NDData: data and a mask, True = hidden, and no conversion to arrays."""
    return types.SimpleNamespace(data=IMAGE, mask=BAD)


@pytest.mark.parametrize("carrier", ["numpy.ma", "NDData"])
@pytest.mark.parametrize("door", DOORS)
def test_masks_of_other_kinds_are_not_lost(door, carrier) -> None:
    given = np.ma.array(IMAGE, mask=BAD) if carrier == "numpy.ma" else nddata()
    if door == "register_stack" and carrier == "numpy.ma":
        given = given[None]
    with pytest.raises((TypeError, DataError)) as caught:
        DOORS[door](given)
    if carrier == "numpy.ma":
        assert "mask" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_masks_within_lists_and_behind_dask_are_not_lost() -> None:
    hidden = np.ma.array(IMAGE, mask=BAD)
    for given in ([hidden, hidden], [[hidden]], types.SimpleNamespace(_meta=hidden[:0, :0], mask=None)):
        with pytest.raises(TypeError, match=r"mask=~numpy\.ma\.getmaskarray"):
            sa.asarray(given)


def test_the_masks_of_images_for_refinement_are_not_lost() -> None:
    given = np.ma.array(STACK, mask=np.stack([BAD, BAD]))
    with pytest.raises(TypeError, match="images must be a plain array"):
        refine.DiffractionData(given, ((0, 0, 0), (1, 0, 0)), None, ~given.mask)


def test_what_hides_nothing_is_taken() -> None:
    plain = types.SimpleNamespace(data=IMAGE, mask=None)
    np.testing.assert_array_equal(sa.asarray(plain), IMAGE)
    np.testing.assert_array_equal(sa.asarray(types.SimpleNamespace(data=IMAGE, mask=~np.ones_like(BAD))), IMAGE)
    np.testing.assert_array_equal(sa.asarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    with pytest.raises(TypeError, match=r"must be an array of numbers, got builtins\.object"):
        sa.asarray(object())


def test_carriers_of_astropy() -> None:
    nddata = pytest.importorskip("astropy.nddata")
    units = pytest.importorskip("astropy.units")
    masked = pytest.importorskip("astropy.utils.masked")
    with pytest.raises(TypeError, match="carries a mask"):
        sa.register(nddata.NDData(IMAGE, mask=BAD), IMAGE)
    with pytest.raises(TypeError, match="carries a mask"):
        sa.asarray(nddata.CCDData(IMAGE, unit="adu", mask=BAD))
    with pytest.raises(TypeError, match="carries a mask"):
        sa.asarray(masked.Masked(IMAGE, mask=BAD))
    np.testing.assert_array_equal(sa.asarray(nddata.NDData(IMAGE)), IMAGE)
    np.testing.assert_array_equal(sa.asarray(IMAGE * units.adu), IMAGE)


def test_sunkit_images_keep_their_masks() -> None:
    pytest.importorskip("sunpy")
    from stackalign.solar import sunkit

    found = sunkit._plain(np.ma.array(IMAGE, mask=BAD))
    assert np.isnan(found[BAD]).all()
    np.testing.assert_array_equal(found[~BAD], IMAGE[~BAD])
