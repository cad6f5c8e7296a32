"""Every figure of the tutorial on diffraction images, on one page: ``make gallery DATA=FOLDER``.

``python benchmarks/gallery.py FOLDER [OUTPUT]``; FOLDER holds Cr_1.tif, Cr_2.tif, graphite.tif,
ab_initio_monolayer_mos2.tif and hotspots.tif. OUTPUT (gallery-output) gets a picture each and index.html.
"""

import html
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import stackalign as sa
from stackalign import diffraction as d
from stackalign.plot import diffraction as plots
from stackalign.plot._canvas import new_figure


def chromium(folder: Path) -> tuple[Any, Any, Any]:
    images = [d.diffread(folder / f"Cr_{k}.tif").images for k in (1, 2)]
    mask = np.ones(images[0].shape, bool)
    mask[:1250, 975:1225] = False
    return images[0], images[1], mask


def graphite(folder: Path) -> tuple[Any, Any]:
    image = d.diffread(folder / "graphite.tif").images
    mask = np.ones(image.shape, bool)
    mask[1100:, 442:480] = mask[:1260, 900:1140] = False
    return image, mask


Figure = tuple[str, str, Any]


def figures(folder: Path) -> Iterator[Figure]:
    """Name, sentence and figure, in the tutorial's order."""
    first, second, mask = chromium(folder)
    powder = d.autocenter(first, mask=mask)
    words = f"Centre of chromium's rings, confidence {float(powder.confidence):.2f}"
    yield "centre-powder", words, centre(first, mask, powder)
    image, valid = graphite(folder)
    crystal = d.autocenter(image, mask=valid)
    words = f"Centre of graphite by {crystal.kind[0]}, confidence {float(crystal.confidence):.2f}"
    yield "centre-crystal", words, centre(image, valid, crystal)
    yield from alignment(first, second, mask)
    yield from symmetry_and_peaks(image, valid, crystal)
    yield from persistence_and_zones(folder)
    yield from profiles(first, mask, powder)
    yield from hot_spots(folder)


def centre(image: Any, mask: Any, found: Any) -> Any:
    figure = new_figure(5, 4.5)
    plots.plot_pattern(image, mask=mask, center=found.center, vmin=0, vmax=200, ax=figure.subplots())
    return figure


def alignment(first: Any, second: Any, mask: Any) -> Iterator[Figure]:
    figure = new_figure(12, 3.6)
    aligned = d.align(second, first, mask=mask, background=True)
    shown = (
        (first, "reference"), (second, "data"), (first.astype(float) - second, "difference"),
        (first - np.asarray(aligned.image, float), "difference after alignment"),
    )  # fmt: skip
    for k, (picture, words) in enumerate(shown):
        low, high = (0, 200) if k < 2 else (-100, 100)
        plots.plot_pattern(picture, mask=mask, vmin=low, vmax=high, words=words, ax=figure.add_subplot(1, 4, k + 1))
    row, column = aligned.shift
    yield "align", f"Chromium before and after its drift of ({row:.1f}, {column:.1f}) pixels", figure


def symmetry_and_peaks(image: Any, valid: Any, middle: Any) -> Iterator[Figure]:
    figure = new_figure(10, 4.2)
    average = d.nfold(image, 6, center=middle.center, mask=valid)
    for k, (picture, words) in enumerate(((np.where(valid, image, np.nan), "graphite"), (average, "six-fold average"))):
        plots.plot_pattern(np.asarray(picture), vmin=0, vmax=150, words=words, ax=figure.add_subplot(1, 2, k + 1))
    yield "nfold", "Six-fold average of graphite; what the beam block hides comes from its equivalents", figure

    figure = new_figure(6, 5)
    peaks = d.bragg_peaks(image, mask=valid)
    plots.plot_peaks(image, peaks, figure.subplots())
    yield "peaks", f"Bragg peaks of graphite without centre or template, spots of sigma {peaks.width:.1f} px", figure


def persistence_and_zones(folder: Path) -> Iterator[Figure]:
    mos2 = d.diffread(folder / "ab_initio_monolayer_mos2.tif").images
    figure = new_figure(10, 4.4)
    left, right = figure.subplots(1, 2)
    persistent = d.bragg_peaks_persistence(mos2, prominence=0.1)
    plots.plot_peaks(mos2, persistent, left)
    plots.plot_persistence(sa.persistence_pairs(mos2), 0.1, right)
    yield "persistence", "Peaks of simulated molybdenum disulphide by persistence", figure

    figure = new_figure(5, 4.5)
    ax = figure.subplots()
    zones = d.brillouin_zones(persistent, mos2.shape)
    plots.plot_pattern(mos2, vmin=0, vmax=1, words="Brillouin zones", ax=ax)
    zones.render(ax, zones.visible_zones(6), edgecolor="white")
    yield "zones", f"{len(zones.visible_zones(6))} hexagonal zones", figure


def profiles(first: Any, mask: Any, found: Any) -> Iterator[Figure]:
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.4])
    profile = d.azimuthal_average(first, found.center, mask=mask)
    plots.plot_pattern(first, mask=mask, center=found.center, vmin=0, vmax=200, ax=left)
    plots.plot_profile(profile, ax=right)
    yield "profile", "Angular average of chromium", figure

    figure = new_figure(8, 3.8)
    polar = d.azimuthal_average(first, found.center, mask=mask, n_angles=180)
    plots.plot_polar(polar, ax=figure.subplots())
    yield "polar", "The same by angle: straight rings show that the centre is right", figure


def hot_spots(folder: Path) -> Iterator[Figure]:
    hot = d.diffread(folder / "hotspots.tif").images
    figure = new_figure(13, 4)
    axes = figure.subplots(1, 3)
    plots.plot_pattern(hot, vmin=0, vmax=2000, words="with hot spots", ax=axes[0])
    base = d.baseline_dwt(hot, max_iter=250, level=1, wavelet="sym2", axis=(0, 1))
    plots.plot_pattern(base.baseline, vmin=0, vmax=2000, words="wavelet baseline", ax=axes[1])
    plots.plot_hot_spots(hot, d.remove_hot_spots(hot), ax=axes[2])
    yield "hotspots", "Hot spots, by a wavelet baseline and by masked medians, which keep the spots' photometry", figure


def main() -> None:
    folder = Path(sys.argv[1])
    output = Path(sys.argv[2] if len(sys.argv) > 2 else "gallery-output")
    output.mkdir(parents=True, exist_ok=True)
    lines = ["<!doctype html><meta charset=utf-8><title>Gallery</title><h1>Diffraction images</h1>"]
    began = time.perf_counter()
    for name, words, figure in figures(folder):
        figure.savefig(output / f"{name}.png", dpi=100, bbox_inches="tight")
        seconds, began = time.perf_counter() - began, time.perf_counter()
        print(f"{name}: {words} ({seconds:.1f} s)", flush=True)
        lines.append(f'<h2>{html.escape(words)}</h2><img src="{name}.png" alt="{html.escape(words)}">')
    (output / "index.html").write_text("\n".join(lines), encoding="utf-8")
    print(output / "index.html")


if __name__ == "__main__":
    main()
