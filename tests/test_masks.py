"""A mask that is not boolean, or does not have the shape of the images, is refused alike by all that takes masks."""

import inspect
import types
from pathlib import Path

import numpy as np
import pytest

import stackalign as sa
from doors import IMAGE, MIDDLE, STACK, operations
from stackalign import crop, diffraction, drift, io, objectives, ops, plot, refine, registration, solar
from stackalign._masks import check_mask, stack_mask, warn_if_few
from stackalign.errors import DataError, MaskError, MaskWarning
from stackalign.registration.files import align_file
from stackalign.solar.observation import Selection

QUIET = crop.CroppingConfig(visualization=False)
SERIES = np.tile(STACK, (2, 1, 1))
FRAME = refine.DisplayFrame(0.5, 40, (10, 10))
DIFFRACTION = {
    "align": lambda m: diffraction.align(STACK, IMAGE, mask=m),
    "align reference": lambda m: diffraction.align(STACK, IMAGE, reference_mask=m),
    "autocenter": lambda m: diffraction.autocenter(IMAGE, mask=m),
    "azimuthal_average": lambda m: diffraction.azimuthal_average(STACK, MIDDLE, mask=m),
    "baseline_dwt": lambda m: diffraction.baseline_dwt(IMAGE, axis=(0, 1), mask=m),
    "bragg_peaks": lambda m: diffraction.bragg_peaks(IMAGE, mask=m),
    "bragg_peaks_persistence": lambda m: diffraction.bragg_peaks_persistence(IMAGE, mask=m),
    "combine_masks": lambda m: diffraction.combine_masks(IMAGE > 0, m),
    "find_beam_stop": lambda m: diffraction.find_beam_stop(IMAGE, mask=m),
    "nfold": lambda m: diffraction.nfold(IMAGE, 2, center=MIDDLE, mask=m),
    "reflection": lambda m: diffraction.reflection(IMAGE, 0.0, center=MIDDLE, mask=m),
    "remove_hot_spots": lambda m: diffraction.remove_hot_spots(IMAGE, mask=m),
    "track_peak": lambda m: list(diffraction.track_peak(STACK, slice(4, 20), slice(4, 20), mask=m)),
}
OPS = {
    **{
        f"{name} {argument}": call
        for name, argument, call in operations(lambda text: text == "mask" or text.endswith("_mask"))
    },
    "azimuthal_geometry": lambda m: sa.azimuthal_geometry(IMAGE.shape, MIDDLE, mask=m),
    "match_template template_mask": lambda m: sa.match_template(np.tile(IMAGE, (2, 2)), IMAGE, template_mask=m),
}
OTHERS = {
    "registration.register reference": lambda m: sa.register(IMAGE, IMAGE, reference_mask=m),
    "registration.register moving": lambda m: sa.register(IMAGE, IMAGE, moving_mask=m),
    "registration.register_stack reference": lambda m: sa.register_stack(IMAGE, STACK, reference_mask=m),
    "registration.register_stack moving": lambda m: sa.register_stack(IMAGE, STACK, moving_mask=m),
    "crop.crop_array": lambda m: crop.crop_array(STACK, QUIET, mask=m),
    "refine.DiffractionData": lambda m: refine.DiffractionData(STACK, ((0, 0, 0), (1, 0, 0)), FRAME, m),
    "refine.DiffractionData.from_larbed": lambda m: refine.DiffractionData.from_larbed(
        STACK, [(0, 0, 0), (1, -1, 1)], FRAME, mask=m
    ),
    "refine.DiffractionData.from_cbed": lambda m: refine.DiffractionData.from_cbed(
        IMAGE, [(0, 0, 0)], FRAME, None, None, radius=5.0, mask=m
    ),
    "drift.estimate_drift": lambda m: drift.estimate_drift(SERIES, mask=m),
    # What `coalign` does with its mask, without a map of the Sun.
    "solar.coalign": lambda m: Selection(m).of(types.SimpleNamespace(data=IMAGE)),
}
DOORS = (
    {f"ops.{name}": door for name, door in OPS.items()}
    | {f"diffraction.{name}": door for name, door in DIFFRACTION.items()}
    | OTHERS
)
FILES = {
    "crop.crop_file": lambda source, m: crop.crop_file(source, source.parent / "out.npy", QUIET, mask=m),
    "registration.align_file": lambda source, m: align_file(source, source.parent / "out.npy", moving_mask=m),
    "drift.drift_file": lambda source, m: drift.drift_file(source, source.parent / "out.npy", mask=m),
    "diffraction.center_file": lambda source, m: diffraction.center_file(source, source.parent / "out.csv", mask=m),
    "diffraction.mask_file": lambda source, m: diffraction.mask_file(source, source.parent / "out.npy", mask=m),
    "diffraction.nfold_file": lambda source, m: diffraction.nfold_file(source, source.parent / "out.npy", 2, mask=m),
    "diffraction.peaks_file": lambda source, m: diffraction.peaks_file(source, source.parent / "out.csv", mask=m),
    "diffraction.profile_file": lambda source, m: diffraction.profile_file(
        source, source.parent / "out.csv", center=MIDDLE, mask=m
    ),
}
MASKS = {
    "transposed": (np.ones(IMAGE.shape[::-1], np.bool_), r"must have the shape \(32, 40\).*, got \(40, 32\)"),
    "other number": (np.ones((3, *IMAGE.shape), np.bool_), r"must have the shape \(32, 40\).*, got \(3, 32, 40\)"),
    "uint8": (np.ones(IMAGE.shape, np.uint8), r"must be boolean, True = valid, got uint8; pass "),
    "float": (np.ones(IMAGE.shape), r"must be boolean, True = valid, got float64; pass "),
}
NO_CHECK = {
    "diffraction.DiffractionImages", "diffraction.HotSpots", "diffraction.PixelMask", "diffraction.SyntheticPattern",
    "io.StackInfo",  # made by the package
    "plot.plot_center", "plot.plot_mask", "plot.plot_pattern",  # pictures
}  # fmt: skip


PAIRS = [
    (door, kind)
    for door in DOORS
    for kind in MASKS
    if door != "diffraction.combine_masks" or kind in ("uint8", "float")  # its shapes are those of one another
]


@pytest.mark.parametrize(("door", "kind"), PAIRS)
def test_masks_that_do_not_fit_are_refused(door: str, kind: str) -> None:
    mask, words = MASKS[kind]
    before = mask.copy()
    with pytest.raises(MaskError, match=words) as caught:
        DOORS[door](mask)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("kind", ["transposed", "float"])
@pytest.mark.parametrize("door", FILES)
def test_files_are_not_worked_on_with_masks_that_do_not_fit(door: str, kind: str, tmp_path: Path) -> None:
    mask, words = MASKS[kind]
    np.save(tmp_path / "in.npy", SERIES)
    with pytest.raises(DataError, match=words):
        FILES[door](tmp_path / "in.npy", mask)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


def test_all_that_takes_masks_is_tested() -> None:
    faces = {"ops": ops, "registration": registration, "crop": crop, "solar": solar, "diffraction": diffraction,
             "drift": drift, "refine": refine, "io": io, "plot": plot, "objectives": objectives}  # fmt: skip
    taking = {
        f"{name}.{public}"
        for name, face in faces.items()
        for public in face.__all__
        if (thing := getattr(face, public)) is not None and callable(thing) and _takes_masks(thing)
    }
    tested = {door.split()[0] for door in [*DOORS, *FILES]}
    assert taking - tested - NO_CHECK == set()
    assert taking >= NO_CHECK


def _takes_masks(function: object) -> bool:
    try:
        names = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return False
    return any(name in ("mask", "masks") or name.endswith("_mask") for name in names)


def test_masks_that_do_not_fit_together() -> None:
    one = np.ones(IMAGE.shape, np.bool_)
    for other, words in [(one.T, "masks must have one shape"), (one[0], "masks must have one shape")]:
        with pytest.raises(MaskError, match=words):
            diffraction.combine_masks(one, other)
    with pytest.raises(MaskError, match="masks of stacks must hold the same number"):
        diffraction.combine_masks(np.stack([one, one]), np.stack([one, one, one]))


def test_errors_of_masks_are_those_that_were_raised_before() -> None:
    assert issubclass(MaskError, DataError)
    assert issubclass(MaskError, ValueError)
    assert issubclass(MaskError, TypeError)
    assert sa.MaskError is MaskError


def test_masks_that_fit() -> None:
    mask = IMAGE > 30
    assert check_mask(mask, mask.shape) is mask
    for given, shape in [(mask, (1, 32, 40)), (mask[None], (1, 32, 40)), (np.stack([mask, ~mask]), (2, 32, 40))]:
        np.testing.assert_array_equal(stack_mask(given, STACK.shape), given.reshape(shape))
    with pytest.raises(MaskError, match=r"flat must have the shape \(32, 40\) or \(2, 32, 40\) of them, got \(1280,\)"):
        stack_mask(mask.ravel(), STACK.shape, name="flat", of="them")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "door", ["registration.register moving", "registration.register_stack moving", "diffraction.nfold"]
)
def test_a_mask_that_leaves_next_to_nothing_is_warned_about_where_it_was_given(door: str) -> None:
    inverted = np.zeros(IMAGE.shape, np.bool_)
    inverted[:4, :10] = True
    with pytest.warns(MaskWarning, match=r"mask leaves 3\.1% of the pixels; True means valid here: pass ~") as caught:
        DOORS[door](inverted)
    assert [w.filename for w in caught if w.category is MaskWarning] == [__file__]


def test_a_mask_that_leaves_enough_is_not_warned_about() -> None:
    warn_if_few(0.05)
    with pytest.warns(MaskWarning, match=r"^part leaves 4\.9% of the pixels"):
        warn_if_few(0.049, "part")
