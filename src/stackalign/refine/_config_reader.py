"""The tables of a configuration: what they may hold, and what is made of them."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from stackalign.errors import DataError
from stackalign.io import StackReader
from stackalign.io._reader import damage_as_data_error
from stackalign.runs import FileInput

from . import preprocess
from .beam import Beam
from .crystal import Crystal
from .dat import read_dat
from .data import DiffractionData
from .frames import ROI, DisplayFrame

__all__ = ["MATCHING", "SIMULATION", "ConfigReader", "Step"]

DATA = ("kind", "file", "dataset", "reflections", "use", "mask", "variance", "radius")
FRAME = ("gl", "center", "rotation", "flip", "tilt_mrad")
CRYSTAL = ("cif", "dat", "cell", "species", "positions", "b_iso", "u_aniso", "occupancy")
BEAM = ("kv", "zone", "x_axis", "normal")
ROI_KEYS = ("rectangles", "height", "width", "center")
SIMULATION = ("absorption", "absorptive_ratio", "refraction")
_FITTING = ("thickness", "search_radius", "grid", "fine_grid", "metric", "weights", "blur", "beam_check")
_HELD = ("check_held", "held_sigma")
MATCHING = (*_FITTING, *_HELD, "preprocess", "device")
STEP = ("orientation", "refine", "n_scan", "method", "name")
PRESETS = ("ridge", "high_pass", "local_normalise", "log1p")


@dataclass(frozen=True)
class Step:
    """One call: which parameters within which bounds, and settings that differ for it.

    Parameters
    ----------
    title : str
    orientation : (float, float) or None
        Bounds of the thickness of a search for the orientation.
    parameters, options : mapping
        For `CoarseRefine.optimize`.
    settings : mapping
        Of `CoarseRefine`, for this step alone.
    """

    title: str
    orientation: tuple[float, float] | None
    parameters: Mapping[str, Any]
    options: Mapping[str, Any]
    settings: Mapping[str, Any]


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) for v in value)


class ConfigReader:
    """The tables of one file; mistakes are said with the table's name."""

    def __init__(self, path: Path, table: Mapping[str, Any], open_file: Callable[..., StackReader]) -> None:
        self.path, self.table, self.open_file = path, table, open_file
        self.inputs = dict[Path, FileInput]()

    def stop(self, text: str) -> NoReturn:
        msg = f"{self.path}: {text}"
        raise DataError(msg)

    def checked(self, name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except DataError:
            raise
        except (ValueError, TypeError) as error:
            msg = f"{self.path}: {name if ' ' in name else f'[{name}]'} {error}"
            raise DataError(msg) from error

    def known(self, table: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
        for name in table:
            if name not in names:
                self.stop(f"{where}unknown {name!r}; known are {', '.join(names)}")

    def needs(self, table: Mapping[str, Any], names: tuple[str, ...], section: str) -> None:
        for name in names:
            if name not in table:
                self.stop(f"[{section}] needs {name}")

    def section(self, name: str, known: tuple[str, ...], *, needed: bool = True) -> dict[str, Any]:
        table = self.table.get(name, {})
        if not isinstance(table, dict) or (needed and not table):
            self.stop(f"there is no table [{name}]")
        self.known(table, known, f"[{name}] ")
        return dict(table)

    def file(self, name: str) -> Path:
        """A file beside the configuration, or an absolute one; its content is noted before it is read."""
        path = self.path.parent / name
        if path not in self.inputs:
            self.inputs[path] = FileInput(path)
        return path

    def crystal_and_beam(self) -> tuple[Crystal, Beam]:
        table = self.section("crystal", CRYSTAL)
        beam = self.section("beam", BEAM, needed="dat" not in table)
        if sum(name in table for name in ("cif", "dat", "cell")) != 1:
            self.stop("[crystal] needs one of cif, dat, or cell with species and positions")
        if "dat" in table:
            self.known(table, ("dat",), "[crystal] beside dat: ")
            original = read_dat(self.file(table["dat"]))
            defaults = {f.name: getattr(original.beam, f.name) for f in fields(Beam)}
            return original.crystal, self.checked("beam", lambda: Beam(**defaults | beam))
        if "cif" in table:
            self.known(table, ("cif", "b_iso"), "[crystal] beside cif: ")
            crystal = Crystal.from_cif(self.file(table["cif"]))
            if "b_iso" in table:
                crystal = self.checked("crystal", lambda: crystal.with_parameters({"b_iso": table["b_iso"]}))
        else:
            self.needs(table, ("species", "positions"), "crystal")
            crystal = self.checked("crystal", lambda: Crystal(**table))
        self.needs(beam, ("kv", "zone", "x_axis"), "beam")
        return crystal, self.checked("beam", lambda: Beam(**beam))

    def data(self, crystal: Crystal, beam: Beam) -> DiffractionData:
        table = self.section("data", (*DATA, *FRAME))
        self.needs(table, ("kind", "file", "reflections", "gl", "center"), "data")
        if table["kind"] not in ("cbed", "larbed"):
            self.stop(f'[data] kind must be "cbed" or "larbed", got {table["kind"]!r}')
        image = self.array(table["file"], table.get("dataset"))
        listed = table["reflections"]
        if isinstance(listed, str):
            hkl = self.array(table["file"], listed)
        else:
            if not (isinstance(listed, list) and listed and all(_is_triple(one) for one in listed)):
                self.stop("[data] reflections must be triples of whole numbers, such as [[0, 0, 0], [1, -1, 1]]")
            hkl = np.asarray(listed)
        self.checked("beam", lambda: DisplayFrame.for_beam(crystal, beam, 1.0, (0.0, 0.0)))
        others: dict[str, Any] = {}
        if "mask" in table:
            others["mask"] = self.array(table["mask"], None) != 0
        if "variance" in table:
            others["variance"] = self.array(table["variance"], None)

        def make() -> DiffractionData:
            tilt = beam.tilts_from_mrad(table.get("tilt_mrad", (0.0, 0.0)))
            options = {name: table[name] for name in ("rotation", "flip") if name in table}
            frame = DisplayFrame.for_beam(
                crystal, beam, table["gl"], tuple(table["center"]), tilt=(float(tilt[0]), float(tilt[1])), **options
            )
            if table["kind"] == "larbed":
                data = DiffractionData.from_larbed(image, hkl.tolist(), frame, **others)
            else:
                self.needs(table, ("radius",), "data")
                flat = image[0] if image.ndim == 3 and len(image) == 1 else image
                squeezed = {name: np.squeeze(value) for name, value in others.items()}
                data = DiffractionData.from_cbed(
                    flat, hkl.tolist(), frame, crystal, beam, radius=table["radius"], **squeezed
                )
            return data.select(table["use"]) if "use" in table else data

        made: DiffractionData = self.checked("data", make)
        return made

    def array(self, name: str, dataset: str | None) -> Any:
        """Read all of a file; `.npz` by the name of its array."""
        path = self.file(name)
        if path.suffix != ".npz":
            with closing(self.open_file(path, dataset=dataset)) as reader:
                out = np.empty(reader.info.shape, reader.info.dtype)
                reader.read(0, len(out), out)
                return out[0] if reader.info.metadata.get("single") else out
        # Opened here: NumPy would leave a damaged one open.
        with damage_as_data_error(str(path), "the archive"), path.open("rb") as file, np.load(file) as held:
            if dataset is None and len(held.files) == 1:
                dataset = held.files[0]
            if dataset not in held.files:
                msg = f"{path} has no array {dataset!r}; it has {', '.join(held.files)}"
                raise DataError(msg)
            return held[dataset]

    def roi(self) -> ROI:
        """What is compared: rectangles, or one of a size."""
        area = self.section("roi", ROI_KEYS)
        sized = any(name in area for name in ("height", "width", "center"))
        if ("rectangles" in area) == sized:
            self.stop("[roi] needs either rectangles = [[top, left, bottom, right], ...], or height and width")
        if "rectangles" not in area:
            self.needs(area, ("height", "width"), "roi")
        roi: ROI = self.checked(
            "roi",
            lambda: (
                ROI(tuple(area["rectangles"]))
                if "rectangles" in area
                else ROI.rectangle(area["height"], area["width"], area.get("center", (0, 0)))
            ),
        )
        return roi

    def settings(self, table: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Arguments of `CoarseRefine`; a preset by its name, as "ridge" or {ridge = [2, 3]}."""
        settings = dict(table)
        hook = settings.get("preprocess")
        if hook is not None:
            name, sigmas = (hook, None) if isinstance(hook, str) else next(iter(hook.items()), ("", None))
            if name not in PRESETS:
                self.stop(f"[{where}] preprocess must be one of {', '.join(PRESETS)}, got {name!r}")
            make = getattr(preprocess, name)
            widths = () if sigmas is None else np.atleast_1d(sigmas).tolist()
            settings["preprocess"] = self.checked(
                where, lambda: make(*([widths] if name == "ridge" and widths else widths))
            )
        return settings

    def pair(self, value: Any, where: str) -> tuple[float, float]:
        """Bounds."""
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)):
            self.stop(f'{where} needs bounds [low, high], or "auto", got {value!r}')
        return float(value[0]), float(value[1])

    def steps(self) -> tuple[Step, ...]:
        listed = self.table.get("step")
        if not isinstance(listed, list) or not listed:
            self.stop("there is no [[step]] that says what to refine, such as refine = { thickness = [200, 3000] }")
        steps: list[Step] = []
        for k, table in enumerate(listed, start=1):
            self.known(table, (*STEP, *MATCHING), f"[[step]] {k}: ")
            if ("orientation" in table) == ("refine" in table):
                self.stop(f"[[step]] {k} needs refine = {{ thickness = [200, 3000] }} or orientation = [200, 3000]")
            settings = self.settings({name: value for name, value in table.items() if name in MATCHING}, f"step {k}")
            options = {name: table[name] for name in ("n_scan", "method") if name in table}
            bounds = table.get("orientation")
            if bounds is not None:
                title = "orientation, thickness, tilt"
                bounds = self.pair(bounds, f"[[step]] {k}: orientation")
            parameters = {}
            for name, value in table.get("refine", {}).items():
                parameters[name] = None if value == "auto" else self.pair(value, f"[[step]] {k}: {name}")
            if bounds is None:
                if not parameters:
                    self.stop(f"[[step]] {k}: refine names no parameter")
                title = ", ".join((*parameters, "tilt"))
            steps.append(Step(table.get("name", title), bounds, parameters, options, settings))
        return tuple(steps)
