"""Draw `static/overview.png`, the picture of the README: ``python docs/overview.py``."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Circle, Rectangle

import stackalign as sa
from stackalign import solar
from stackalign.crop import CroppingConfig, create_test_data, crop_array
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    DiffractionData,
    DisplayFrame,
)
from stackalign.registration import create_test_pair, random_scene


def crop(ax: plt.Axes) -> None:
    patterns = create_test_data(200, 128, 0.0, seed=0, counts=1e5, radius=0.06, dtype=np.uint16)
    _, result = crop_array(patterns, CroppingConfig(verbose=False, visualization=False))
    mean = patterns[:, 0].mean(axis=0)
    ax.imshow(np.log(mean + 0.5), cmap="magma")
    (y, x), radius = result.analysis.centers.mean(axis=0), result.analysis.global_radius
    ax.add_patch(Circle((x, y), radius, fill=False, color="w", linewidth=1.5))
    height, width = result.analysis.window
    ax.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, fill=False, color="w", linestyle="--"))
    ax.set_title("crop: the radius that keeps 98 %")


def align(axes: tuple[plt.Axes, plt.Axes]) -> None:
    drift = np.array([[1.1 * k, -0.7 * k] for k in range(1, 9)])
    scene = random_scene((300, 300))
    pairs = [create_test_pair((160, 160), "shift", -d, scene=scene, noise=0.4, seed=k) for k, d in enumerate(drift)]
    frames = np.stack([pair.moving for pair in pairs])
    aligned = sa.register_stack(pairs[0].reference, frames).apply(frames)
    part = slice(20, 140)
    for ax, stack, words in zip(axes, (frames, aligned), ("drifting", "aligned"), strict=True):
        ax.imshow(sa.stack_statistics(stack).mean[part, part], cmap="gray")
        ax.set_title(f"align: mean of 8 frames, {words}", fontsize=9)


def coalign(ax: plt.Axes) -> None:
    made = solar.create_test_observation(error=(35.0, -20.0))
    result = solar.coalign(made.raster, frames=made.frames)
    _, after = result.reference_images()
    raster = made.raster.data
    ax.imshow(raster, cmap="afmhot", origin="lower", aspect=0.4, vmax=np.nanpercentile(raster, 99.5))
    ax.contour(after, levels=np.nanpercentile(after, [80, 95]), colors=["c", "w"], linewidths=0.8)
    ax.set_title("coalign: raster, contours of the imager")


def refine(axes: list[plt.Axes]) -> None:
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    silicon = Crystal((5.431,) * 3 + (90,) * 3, ["Si"] * 8, np.concatenate([fcc, fcc + 0.25]), b_iso=0.4668)
    beam = Beam(200, zone=(1, 1, 0), x_axis=(0, 0, 2))
    hkl = [(0, 0, 0), (1, -1, 1), (0, 0, 2)]
    simulator = BlochSimulator(silicon, beam, hkl, BeamSelection(strong=0.1, weak=0.01))
    start = DisplayFrame.for_beam(silicon, beam, gl=44.0, center=(31.5, 31.5))
    hidden = start.with_(tilt=(3.4 * start.step, -2.2 * start.step))
    pixels = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij"), -1)
    tilts = hidden.to_tilt(hidden.to_display(pixels)).reshape(-1, 2)
    images = simulator.prepare({}, tilts).intensities([812.0])[0].reshape(len(hkl), 64, 64)
    images = np.random.default_rng(0).poisson(200 / images.mean() * images)
    coarse = CoarseRefine(simulator, DiffractionData.from_larbed(images, hkl, start), ROI.rectangle(44, 44))
    result = coarse.optimize_orientation_thickness(bounds=(200, 2000))
    disks = coarse.disks(result)
    for row, words, shown in zip(axes, ("measured", "simulated"), disks, strict=True):
        for ax, disk in zip(row, shown, strict=True):
            ax.imshow(disk, cmap="viridis")
        row[1].set_title(f"refine: {words}", fontsize=9)


def main() -> None:
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 9.5})
    fig = plt.figure(figsize=(12, 3.4), layout="constrained", facecolor="w")
    first, second, third, fourth = fig.subfigures(1, 4, width_ratios=[1, 0.62, 1, 1.1])
    axes = [first.subplots()]
    pair = second.subplots(2, 1)
    axes += [*pair, third.subplots()]
    disks = fourth.subplots(2, 3)
    axes += [*disks.ravel()]
    crop(axes[0])
    align((pair[0], pair[1]))
    coalign(axes[3])
    refine(list(disks))
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    path = Path(__file__).parent / "static" / "overview.png"
    fig.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
