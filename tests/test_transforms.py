"""Parameters, pull matrices and what they do to a picture."""

import numpy as np
import pytest
from scipy import ndimage

from stackalign import transforms
from stackalign.transforms import MODELS

SHAPE = (33, 41)
CENTER = transforms.image_center(SHAPE)

every_model = pytest.mark.parametrize("model", MODELS)


def some_parameters(rng: np.random.Generator, model: str, shape: tuple[int, ...] = (4, 5)) -> np.ndarray:
    """Parameters with every angle, unlike scales, and shifts beyond the frame."""
    ranges = {
        "dy": (-50, 50),
        "dx": (-50, 50),
        "sy": (0.3, 3),
        "sx": (0.3, 3),
        "scale": (0.3, 3),
        "angle": (-179, 179),
        "shear": (-1, 1),
    }
    return np.stack([rng.uniform(*ranges[name], shape) for name in MODELS[model]], axis=-1)


def linear(name: str, values: dict[str, float]) -> np.ndarray:
    """One factor of A = R K S on (y, x), from the module's description."""
    if name == "R":
        cos, sin = np.cos(np.deg2rad(values["angle"])), np.sin(np.deg2rad(values["angle"]))
        return np.array([[cos, -sin], [sin, cos]])
    if name == "K":
        return np.array([[1.0, 0.0], [values["shear"], 1.0]])
    return np.diag([values["sy"], values["sx"]])


# Parameters and matrices


def test_center_of_an_image() -> None:
    np.testing.assert_array_equal(transforms.image_center((33, 41)), [16.0, 20.0])
    np.testing.assert_array_equal(transforms.image_center((7, 4, 6)), [1.5, 2.5])


@every_model
def test_identity_maps_every_point_to_itself(model: str) -> None:
    matrix = transforms.matrices_from_parameters(transforms.identity(model), model, CENTER)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, 0]])


@every_model
def test_parameters_survive_the_round_trip(rng, model: str) -> None:
    parameters = some_parameters(rng, model)
    matrices = transforms.matrices_from_parameters(parameters, model, CENTER)
    assert matrices.shape == (4, 5, 2, 3)
    found = transforms.parameters_from_matrices(matrices, CENTER, model)
    np.testing.assert_allclose(found, parameters, rtol=1e-10, atol=1e-10)


@every_model
def test_matrices_survive_the_round_trip_through_affine_parameters(rng, model: str) -> None:
    matrices = transforms.matrices_from_parameters(some_parameters(rng, model), model, CENTER)
    again = transforms.matrices_from_parameters(transforms.parameters_from_matrices(matrices, CENTER), "affine", CENTER)
    np.testing.assert_allclose(again, matrices, rtol=1e-11, atol=1e-10)


@every_model
def test_one_set_of_parameters_is_a_stack_of_one(rng, model: str) -> None:
    parameters = some_parameters(rng, model, (3,))
    matrices = transforms.matrices_from_parameters(parameters, model, CENTER)
    single = transforms.matrices_from_parameters(parameters[1], model, CENTER)
    assert single.shape == (2, 3)
    np.testing.assert_array_equal(single, matrices[1])
    assert transforms.parameters_from_matrices(single, CENTER, model).shape == (len(MODELS[model]),)


@every_model
def test_no_sets_of_parameters_are_no_matrices(model: str) -> None:
    none = np.empty((0, len(MODELS[model])))
    matrices = transforms.matrices_from_parameters(none, model, CENTER)
    assert matrices.shape == (0, 2, 3)
    assert transforms.parameters_from_matrices(matrices, CENTER, model).shape == none.shape
    assert transforms.matrix_jacobian(none, model, CENTER).shape == (0, len(MODELS[model]), 2, 3)


def test_matrix_is_the_inverse_of_the_model(rng) -> None:
    """The moving pixel q appears at p = c + A (q - c) + d; the pull matrix leads from p to q."""
    for row in some_parameters(rng, "affine", (20,)):
        values = dict(zip(MODELS["affine"], row, strict=True))
        a = linear("R", values) @ linear("K", values) @ linear("S", values)
        q = rng.uniform(-20, 60, (6, 2))
        p = CENTER + (q - CENTER) @ a.T + row[:2]
        matrix = transforms.matrices_from_parameters(row, "affine", CENTER)
        np.testing.assert_allclose(transforms.apply(matrix, p), q, rtol=1e-10, atol=1e-9)


def test_smaller_models_are_cases_of_the_affine_one(rng) -> None:
    for model, names in MODELS.items():
        row = some_parameters(rng, model, ())
        values = dict(zip(names, row, strict=True))
        if "scale" in values:
            values |= {"sy": values["scale"], "sx": values["scale"]}
        neutral = dict(zip(MODELS["affine"], transforms.identity("affine"), strict=True))
        full = [values.get(name, neutral[name]) for name in MODELS["affine"]]
        np.testing.assert_array_equal(
            transforms.matrices_from_parameters(row, model, CENTER),
            transforms.matrices_from_parameters(full, "affine", CENTER),
        )


def test_angle_of_half_a_turn(rng) -> None:
    matrix = transforms.matrices_from_parameters([0.0, 0.0, 540.0], "rigid", CENTER)
    found = transforms.parameters_from_matrices(matrix, CENTER, "rigid")
    assert abs(found[2]) == pytest.approx(180.0)
    both = transforms.matrices_from_parameters([0, 0, -2.0, -2.0, 0, 0], "affine", CENTER)  # two mirrors are a turn
    np.testing.assert_allclose(np.abs(transforms.parameters_from_matrices(both, CENTER)), [0, 0, 2, 2, 180, 0])


@every_model
def test_jacobian_is_what_central_differences_say(rng, model: str) -> None:
    parameters = some_parameters(rng, model, (3,))
    found = transforms.matrix_jacobian(parameters, model, CENTER)
    assert found.shape == (3, len(MODELS[model]), 2, 3)
    for k in range(len(MODELS[model])):
        step = np.zeros(len(MODELS[model]))
        step[k] = 1e-5
        plus, minus = (
            transforms.matrices_from_parameters(parameters + sign * step, model, CENTER) for sign in (1.0, -1.0)
        )
        # Rounding of the offsets, some hundred pixels, divided by the step: 1e2 * 2**-53 / 1e-5 = 1e-9.
        np.testing.assert_allclose(found[:, k], (plus - minus) / 2e-5, rtol=1e-7, atol=2e-8, err_msg=MODELS[model][k])


# Points


def test_apply_broadcasts(rng) -> None:
    matrices = transforms.matrices_from_parameters(some_parameters(rng, "affine", (3,)), "affine", CENTER)
    points = rng.uniform(0, 30, (7, 1, 2))
    found = transforms.apply(matrices, points)
    assert found.shape == (7, 3, 2)
    for i in range(7):
        for k in range(3):
            wanted = matrices[k, :, :2] @ points[i, 0] + matrices[k, :, 2]
            np.testing.assert_allclose(found[i, k], wanted, rtol=1e-12)


def test_compose_is_one_after_the_other(rng) -> None:
    inner, outer = (
        transforms.matrices_from_parameters(some_parameters(rng, "affine", (4,)), "affine", CENTER) for _ in range(2)
    )
    points = rng.uniform(0, 30, (4, 2))
    found = transforms.apply(transforms.compose(outer, inner), points)
    np.testing.assert_allclose(found, transforms.apply(outer, transforms.apply(inner, points)), rtol=1e-9, atol=1e-9)
    other = transforms.apply(transforms.compose(inner, outer), points)
    assert not np.allclose(found, other), "the order must count"


def test_compose_broadcasts(rng) -> None:
    one = transforms.matrices_from_parameters(some_parameters(rng, "affine", ()), "affine", CENTER)
    many = transforms.matrices_from_parameters(some_parameters(rng, "affine", (4,)), "affine", CENTER)
    found = transforms.compose(one, many)
    np.testing.assert_array_equal(found, [transforms.compose(one, m) for m in many])
    np.testing.assert_array_equal(transforms.compose(many, one), [transforms.compose(m, one) for m in many])


def test_invert_is_the_way_back(rng) -> None:
    matrices = transforms.matrices_from_parameters(some_parameters(rng, "affine"), "affine", CENTER)
    neutral = np.broadcast_to(np.eye(2, 3), matrices.shape)
    inverse = transforms.invert(matrices)
    np.testing.assert_allclose(transforms.compose(inverse, matrices), neutral, atol=1e-10)
    np.testing.assert_allclose(transforms.compose(matrices, inverse), neutral, atol=1e-10)


# Pictures: signs. A small asymmetric image, an L about the centre: three pixels down, one to the right.


@pytest.fixture
def picture() -> np.ndarray:
    image = np.zeros(SHAPE)
    image[16, 20] = 1.0  # the centre
    image[19, 20] = 2.0  # points down
    image[16, 21] = 3.0  # points right
    return image


def resampled(image: np.ndarray, model: str, order: int = 0, **values: float) -> np.ndarray:
    parameters = dict(zip(MODELS[model], transforms.identity(model), strict=True)) | values
    matrix = transforms.matrices_from_parameters(list(parameters.values()), model, CENTER)
    return ndimage.affine_transform(image, matrix[:, :2], matrix[:, 2], order=order)


def position(image: np.ndarray, value: float) -> tuple[int, int]:
    (place,) = np.argwhere(image == value).tolist()
    return tuple(place)


@every_model
def test_positive_shifts_move_content_down_and_right(picture: np.ndarray, model: str) -> None:
    moved = resampled(picture, model, dy=4, dx=6)
    np.testing.assert_array_equal(moved, np.roll(picture, (4, 6), axis=(0, 1)))
    np.testing.assert_array_equal(resampled(picture, model, dy=4), np.roll(picture, 4, axis=0))
    np.testing.assert_array_equal(resampled(picture, model, dx=-3), np.roll(picture, -3, axis=1))


@pytest.mark.parametrize(("model", "names"), [("shift+scale", ("sy", "sx")), ("affine", ("sy", "sx"))])
def test_scales_above_one_magnify_along_their_axis(picture: np.ndarray, model: str, names: tuple[str, str]) -> None:
    tall = resampled(picture, model, **{names[0]: 3.0})
    assert [np.count_nonzero(tall == v) for v in (1, 2, 3)] == [3, 3, 3]
    assert np.argwhere(tall == 2).mean(axis=0).tolist() == [16 + 3 * 3, 20]
    assert np.argwhere(tall == 3).mean(axis=0).tolist() == [16, 21]
    wide = resampled(picture, model, **{names[1]: 3.0})
    assert np.argwhere(wide == 2).mean(axis=0).tolist() == [19, 20]
    assert np.argwhere(wide == 3).mean(axis=0).tolist() == [16, 20 + 3 * 1]


def test_a_scale_magnifies_both_axes(picture: np.ndarray) -> None:
    large = resampled(picture, "similarity", scale=3.0)
    assert [np.count_nonzero(large == v) for v in (1, 2, 3)] == [9, 9, 9]
    assert np.argwhere(large == 2).mean(axis=0).tolist() == [16 + 3 * 3, 20]
    assert np.argwhere(large == 3).mean(axis=0).tolist() == [16, 20 + 3 * 1]
    assert np.argwhere(large == 1).mean(axis=0).tolist() == CENTER.tolist(), "the centre stays"


@pytest.mark.parametrize("model", [m for m, names in MODELS.items() if "angle" in names])
def test_positive_angles_turn_down_towards_right(picture: np.ndarray, model: str) -> None:
    turned = resampled(picture, model, angle=90.0)
    assert position(turned, 1) == (16, 20)
    assert position(turned, 2) == (16, 23), "what pointed down points right"
    assert position(turned, 3) == (15, 20), "what pointed right points up"
    slightly = resampled(picture, model, order=1, angle=10.0)
    below = slightly[18:21]
    column = (below * np.arange(SHAPE[1])).sum() / below.sum()
    assert column == pytest.approx(20 + 3 * np.sin(np.deg2rad(10.0)), abs=0.1)


def test_shear_moves_what_is_below_to_the_right(picture: np.ndarray) -> None:
    moved = resampled(picture, "affine", shear=2.0)
    assert position(moved, 1) == (16, 20)
    assert position(moved, 2) == (19, 20 + 2 * 3)
    assert position(moved, 3) == (16, 21)


def test_shifts_come_after_turns(picture: np.ndarray) -> None:
    moved = resampled(picture, "rigid", dy=5, angle=90.0)
    assert position(moved, 1) == (21, 20)
    assert position(moved, 2) == (21, 23)


# Refusals


@every_model
def test_number_of_columns(model: str) -> None:
    p = len(MODELS[model])
    for wrong in (np.ones(p + 1), np.ones((4, p - 1)), 1.0):
        with pytest.raises(ValueError, match=rf"must have {p} columns \(dy, dx") as caught:
            transforms.matrices_from_parameters(wrong, model, CENTER)
        assert repr(model) in str(caught.value)
        with pytest.raises(ValueError, match=f"must have {p} columns"):
            transforms.matrix_jacobian(wrong, model, CENTER)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="parameters must be finite, got 2 that are not"):
        transforms.matrices_from_parameters([[0.0, value, 0.0], [value, 0.0, 0.0]], "rigid", CENTER)


@pytest.mark.parametrize(("model", "name"), [("shift+scale", "sy"), ("similarity", "scale"), ("affine", "sx")])
def test_scales_must_not_be_zero(model: str, name: str) -> None:
    parameters = np.tile(transforms.identity(model), (3, 1))
    parameters[1, MODELS[model].index(name)] = 0.0
    for function in (transforms.matrices_from_parameters, transforms.matrix_jacobian):
        with pytest.raises(ValueError, match="scales must not be 0"):
            function(parameters, model, CENTER)


def test_unknown_models_are_named() -> None:
    message = (
        "model must be one of shift, shift\\+scale, rigid, similarity, shift\\+scale\\+angle, affine, got 'projective'"
    )
    with pytest.raises(ValueError, match=message):
        transforms.identity("projective")
    with pytest.raises(ValueError, match=message):
        transforms.matrices_from_parameters([0.0, 0.0], "projective", CENTER)
    with pytest.raises(ValueError, match=message):
        transforms.parameters_from_matrices(np.eye(2, 3), CENTER, "projective")


@pytest.mark.parametrize("linear_part", [[[-1, 0], [0, 1]], [[0, 1], [1, 0]], [[1, 2], [2, 4]], [[0, 0], [0, 0]]])
def test_mirrored_and_singular_matrices_have_no_parameters(linear_part) -> None:
    matrices = np.tile(np.eye(2, 3), (2, 1, 1))
    matrices[1, :, :2] = linear_part
    with pytest.raises(ValueError, match="singular or mirrors the image"):
        transforms.parameters_from_matrices(matrices, CENTER)


def test_singular_matrices_have_no_way_back() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        transforms.invert([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"shear": 1e-3}, ("shift", "shift+scale", "rigid", "similarity", "shift+scale+angle")),
        ({"angle": 1.0}, ("shift", "shift+scale")),
        ({"sy": 1.1}, ("shift", "rigid", "similarity")),
        ({"sy": 1.1, "sx": 1.1}, ("shift", "rigid")),
    ],
)
def test_matrices_beyond_a_model_are_refused(values: dict[str, float], refused: tuple[str, ...]) -> None:
    full = dict(zip(MODELS["affine"], transforms.identity("affine"), strict=True)) | values
    matrix = transforms.matrices_from_parameters(list(full.values()), "affine", CENTER)
    for model in MODELS:
        if model in refused:
            with pytest.raises(
                ValueError, match=f"not one of the model '{model.replace('+', '.')}'; use model='affine'"
            ):
                transforms.parameters_from_matrices(matrix, CENTER, model)
        else:
            again = transforms.matrices_from_parameters(
                transforms.parameters_from_matrices(matrix, CENTER, model), model, CENTER
            )
            np.testing.assert_allclose(again, matrix, rtol=1e-12, atol=1e-12)


def test_a_large_matrix_does_not_excuse_its_neighbours() -> None:
    matrices = transforms.matrices_from_parameters([[1e6, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 1e-6]], "affine", CENTER)
    assert transforms.parameters_from_matrices(matrices[0], CENTER, "shift").tolist() == [1e6, 0.0]
    with pytest.raises(ValueError, match="not one of the model"):
        transforms.parameters_from_matrices(matrices, CENTER, "shift")


@pytest.mark.parametrize("matrices", [np.eye(2), np.eye(3), np.ones(6), np.full((2, 3), np.nan)], ids=str)
def test_matrices_must_be_two_by_three_and_finite(matrices: np.ndarray) -> None:
    message = r"matrices must be finite and have the shape \(\.\.\., 2, 3\), got"
    for call in (
        lambda: transforms.apply(matrices, [0.0, 0.0]),
        lambda: transforms.invert(matrices),
        lambda: transforms.compose(matrices, np.eye(2, 3)),
        lambda: transforms.compose(np.eye(2, 3), matrices),
        lambda: transforms.parameters_from_matrices(matrices, CENTER),
    ):
        with pytest.raises(ValueError, match=message):
            call()
