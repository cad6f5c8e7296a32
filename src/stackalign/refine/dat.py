"""The `.dat` files in which the first implementation keeps crystal and beam; the format is that of its manual."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError, MissingDependencyError, StackalignWarning
from stackalign.io._gate import refuse_special

from ._space_groups import settings_by_number
from ._symmetry import COLUMNS, ROWS, Site, fill_cell, operation_matrices, rounding_of
from .beam import Beam
from .bloch.selection import BeamList
from .bloch.simulator import BlochSimulator
from .crystal import Crystal
from .scattering import kirkland
from .simulator import Reflection

__all__ = ["DatFile", "read_dat"]

TABLES = {"hkl": 3, "out": 3, "adj": 7}
"""Keywords that are followed by rows, and the numbers of a row."""
NUMBERS = {
    "cell": 6, "spg": 2, "hv": 1, "zone": 3, "norm": 3, "kt": 3, "xaxis": 3, "conv": 1, "samp": 1, "sele": 4,
    "sgmax": 1, "sgmin": 1, "omeg": 1, "aper": 1, "abs": 1, "v0": 1, "pix": 1,
}  # fmt: skip
"""Keywords with numbers, and how many."""
NEEDED = ("cell", "atom", "spg", "hv", "zone", "xaxis")


@dataclass(frozen=True, eq=False)
class DatFile:
    """What a `.dat` file says.

    Parameters
    ----------
    name : str
        Name of the crystal.
    crystal : Crystal
        All atoms of the cell.
    beam : Beam
        Energy, zone axis, x-axis and normal of the foil.
    tilt : numpy.ndarray
        (2,) `kt`, the centre of the pattern, in 1/angstrom in the frame of the beam.
    hkl : tuple of (h, k, l)
        Beams listed under `hkl`; empty where the file leaves the choice to the program.
    output : tuple of (h, k, l)
        Beams listed under `out`, empty unless given.
    convergence : float or None
        `conv`, the semi-angle in lengths of the x-axis' reciprocal vector.
    adjusted : dict
        `adj`: (h, k, l) to the complex (U, U') that a refinement of structure factors put there. They are not used.
    settings : dict
        Numbers of all other keywords (`samp`, `sele`, `sgmax`, `sgmin`, `omeg`, `aper`, `abs`, `v0`, `pix`) as they
        stand. Beams are chosen and potentials calculated by rules of our own; `read_dat` warns of `abs`, `v0` and `adj`
        where they ask for another simulation.
    """

    name: str
    crystal: Crystal
    beam: Beam
    tilt: FloatArray
    hkl: tuple[Reflection, ...] = ()
    output: tuple[Reflection, ...] = ()
    convergence: float | None = None
    adjusted: dict[Reflection, tuple[complex, complex]] = field(default_factory=dict)
    settings: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def simulator(
        self, reflections: Sequence[Reflection] | None = None, *, listed: bool = False, **options: Any
    ) -> BlochSimulator:
        """Return a simulator of this crystal in this beam.

        Parameters
        ----------
        reflections : sequence of (h, k, l), optional
            Reflections to keep; those of `out` unless given.
        listed : bool
            Use all beams of `hkl`, and no others, in place of a choice for the region of tilts: hundreds of beams are
            slow.
        **options
            Further parameters of `BlochSimulator`.

        Returns
        -------
        BlochSimulator
            Ready for `CoarseRefine`.

        Raises
        ------
        ValueError
            `listed` without a list in the file.
        """
        if listed:
            if not self.hkl:
                msg = "the file lists no beams under hkl: leave `listed` away, beams are then chosen for the tilts"
                raise ValueError(msg)
            rest = [item for item in self.hkl if item != (0, 0, 0)]
            none = np.zeros((0, 3), dtype=np.int64)
            options["beams"] = BeamList(np.array([(0, 0, 0), *rest], dtype=np.int64), none, none)
        kept = tuple(reflections or self.output) or None
        return BlochSimulator(self.crystal, self.beam, kept, **options)


class _Line(NamedTuple):
    number: int
    words: list[str]


def read_dat(path: str | Path) -> DatFile:
    """Read crystal and beam from a `.dat` file.

    Parameters
    ----------
    path : path-like
        Text: one keyword a line, in any order; ``#`` begins a remark.

    Returns
    -------
    DatFile
        What the file says.

    Raises
    ------
    MissingDependencyError
        gemmi, which knows the space groups, is not installed.
    DataError
        A line cannot be understood, or something is missing; the text names the line.
    """
    path = Path(path)
    refuse_special(path)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise DataError(msg) from error
    stripped = ((i, re.split(r"(?<!\S)#", line)[0].split()) for i, line in enumerate(text.splitlines(), 1))
    return _Parser(path, [_Line(i, words) for i, words in stripped if words]).read()


class _Parser:
    """The lines of one file, as they are taken off it."""

    def __init__(self, path: Path, lines: list[_Line]) -> None:
        self.path, self.lines = path, lines
        self.numbers: dict[str, Any] = {}
        self.at: dict[str, int] = {}
        self.tables: dict[str, list[list[float]]] = {}
        self.atoms: list[_Line] = []
        self.crystal: _Line | None = None

    def stop(self, text: str, line: int | None = None) -> NoReturn:
        msg = f"{self.path}{'' if line is None else f', line {line}'}: {text}"
        raise DataError(msg)

    def read(self) -> DatFile:
        i = 0
        while i < len(self.lines):
            number, words = line = self.lines[i]
            key, rest = words[0].lower(), words[1:]
            i += 1
            if key in self.at or (key == "crystal" and self.crystal is not None):
                self.stop(f"{key} stands there a second time", number)
            if key == "atom":
                self.atoms.append(line)
            elif key == "crystal":
                self.crystal = line
            elif key in TABLES:
                (count,) = self.floats(rest, 1, number, key)
                rows = self.lines[i : i + int(count)]
                self.tables[key] = [self.floats(row.words, TABLES[key], row.number, f"a row of {key}") for row in rows]
                if len(rows) < count:
                    self.stop(f"{key} {int(count)} is followed by {len(rows)} rows only", number)
                self.at[key] = number
                i += int(count)
                more = i
                while i < len(self.lines) and re.match(r"[-+.\d]", self.lines[i].words[0]):
                    i += 1
                if i > more:
                    text = f"{self.path}, line {number}: {i - more} rows more than {key} {int(count)} says are not read"
                    warnings.warn(text, StackalignWarning, stacklevel=3)
            elif key in NUMBERS:
                count = 2 if key == "spg" and len(rest) > 1 else 1 if key == "spg" else NUMBERS[key]
                self.numbers[key] = tuple(self.floats(rest, count, number, key))
                self.at[key] = number
            else:
                listed = ", ".join(("crystal", "atom", *NUMBERS, *TABLES))
                self.stop(f"unknown keyword {words[0]!r}; known are {listed}", number)
        for key in NEEDED:
            if key not in self.numbers and not (key == "atom" and self.atoms):
                self.stop(f"there is no line {key!r}")
        return self.result()

    def floats(self, words: list[str], count: int, line: int, what: str) -> list[float]:
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != count or not np.isfinite(values).all():
            self.stop(f"{what} needs {count} number{'s' * (count > 1)}, got {' '.join(words)!r}", line)
        return values

    def result(self) -> DatFile:
        numbers = self.numbers
        crystal = self.checked("cell", self.build)
        (u, v, w), x_axis, normal = numbers["zone"], numbers["xaxis"], numbers.get("norm", numbers["zone"])
        # Of either end of the foil's normal, ours is the one on the side of the source, as the zone axis is.
        if (np.array((u, v, w)) @ crystal.direct) @ (np.array(normal) @ crystal.direct) < 0:
            normal = (-normal[0], -normal[1], -normal[2])
        beam = self.checked("hv", lambda: Beam(numbers["hv"][0], (u, v, w), x_axis, normal))
        frame = self.checked("xaxis", lambda: beam.frame(crystal))
        self.checked("norm" if "norm" in self.at else "zone", lambda: beam.inward_normal(crystal))
        tilt = frame @ crystal.g_vectors(numbers.get("kt", (0.0, 0.0, 0.0)))
        adjusted = {}
        for row in self.tables.get("adj", []):
            (item,) = self.reflections([row[:3]], "adj")
            amplitude, phase, absorptive, other = row[3:]
            pair = (amplitude * np.exp(1j * np.deg2rad(phase)), absorptive * np.exp(1j * np.deg2rad(other)))
            adjusted[item] = (complex(pair[0]), complex(pair[1]))
        self.say_what_is_not_simulated(len(adjusted))
        words = self.crystal.words[1:] if self.crystal else []
        used = ("cell", "spg", "hv", "zone", "norm", "kt", "xaxis", "conv")
        return DatFile(
            name=" ".join(words).split(":")[0].strip() or "crystal",
            crystal=crystal,
            beam=beam,
            tilt=tilt[:2],
            hkl=self.reflections(self.tables.get("hkl", []), "hkl"),
            output=self.reflections(self.tables.get("out", []), "out"),
            convergence=numbers.get("conv", (None,))[0],
            adjusted=adjusted,
            settings={key: values for key, values in numbers.items() if key not in used},
        )

    def say_what_is_not_simulated(self, n_adjusted: int) -> None:
        said = []
        if self.numbers.get("abs", (0.0,))[0]:
            options = 'absorption="exact" or "perturbative", and absorptive_ratio="thermal"'
            said.append(("abs", f"abs asks for absorption: give {options} to the simulator"))
        if n_adjusted:
            said.append(("adj", f"adj: {n_adjusted} adjusted structure factors; those of neutral atoms are simulated"))
        if self.numbers.get("v0", (0.0,))[0]:
            said.append(("v0", "v0, a mean inner potential; that of the atoms is simulated"))
        for key, text in said:
            msg = f"{self.path}, line {self.at[key]}: what is read and not simulated: {text}"
            warnings.warn(msg, StackalignWarning, stacklevel=5)

    def checked(self, key: str, make: Callable[[], Any]) -> Any:
        """Say the line where something that the line describes turns out impossible."""
        try:
            return make()
        except DataError:
            raise
        except ValueError as error:
            self.stop(str(error), self.at[key])

    def reflections(self, rows: list[list[float]], key: str) -> tuple[Reflection, ...]:
        if any(value != round(value) for row in rows for value in row):
            self.stop(f"{key} needs whole numbers h k l in each row", self.at[key])
        listed = [(int(h), int(k), int(m)) for h, k, m in rows]
        return tuple(dict.fromkeys(listed))

    def build(self) -> Crystal:
        try:
            import gemmi
        except ImportError as error:
            msg = 'the space groups of .dat files need gemmi: pip install "stackalign[refine]"'
            raise MissingDependencyError(msg) from error
        cell = self.numbers["cell"]
        Crystal(cell, ("H",), [[0, 0, 0]])  # says what is wrong with the cell, before anything is divided by it
        reciprocal = gemmi.UnitCell(*cell).reciprocal()
        lengths = np.array([reciprocal.a, reciprocal.b, reciprocal.c])
        kind, partial = self.options()
        sites = [self.site(atom, kind, partial, lengths) for atom in self.atoms]
        operations = operation_matrices(self.operations(gemmi))
        try:
            return Crystal(**fill_cell(cell, lengths, sites, operations))
        except ValueError as error:
            self.stop(str(error))

    def options(self) -> tuple[str, bool]:
        """Which displacements and occupancies the atoms have."""
        if self.crystal is None:
            return "iso", False
        text = " ".join(self.crystal.words).lower().partition(":")[2]
        options = dict(re.findall(r"(\w+)\s*=\s*(\w+)", text))
        kind, occupancy = options.get("dw", "iso"), options.get("occ", "1")
        if kind not in ("iso", "bij", "uij") or occupancy not in ("1", "par"):
            self.stop("dw must be iso, bij or uij, and occ 1 or par", self.crystal.number)
        return kind, occupancy == "par"

    def site(self, atom: _Line, kind: str, partial: bool, lengths: FloatArray) -> Site:
        number, (_, *rest) = atom
        label = rest[0] if rest else ""
        match = re.match(r"[A-Za-z]{1,2}", label)
        species = match[0].capitalize() if match else ""
        try:
            kirkland(species, np.zeros(1))
        except ValueError:
            self.stop(f"the species {label!r} is not an element", number)
        n_thermal = 1 if kind == "iso" else 6
        values = self.floats(rest[1:], 3 + n_thermal + partial, number, "atom, after its symbol,")
        thermal, tensor, b_iso = values[3 : 3 + n_thermal], np.zeros(6), 0.0
        if kind == "iso":
            b_iso = thermal[0]
        elif kind == "uij":
            tensor = np.array(thermal)
        else:  # exp(-(beta_11 h^2 + ... + 2 beta_12 h k + ...))
            tensor = np.array(thermal) / (2 * np.pi**2 * np.outer(lengths, lengths)[ROWS, COLUMNS])
        occupancy = values[-1] if partial else 1.0
        if b_iso < 0 or not 0 <= occupancy <= 1:
            self.stop("B must not be negative, and the occupancy from 0 to 1", number)
        rounding = np.array([rounding_of(word) for word in rest[1:4]])
        return Site(
            species, np.array(values[:3]), b_iso, tensor, occupancy, rounding, f"the atom {label} of line {number}"
        )

    def operations(self, gemmi: Any) -> list[Any]:
        """Symmetry of `spg NUMBER SETTING`, where settings are the two origins of the International Tables."""
        number, *more = (int(value) for value in self.numbers["spg"])
        settings = settings_by_number(gemmi, number)
        if not settings:
            self.stop(f"there is no space group {number}", self.at["spg"])
        if [group for group in settings if group.ext in ("1", "2")] and not more:
            self.stop(
                f"space group {number} has two origins: write spg {number} 1 or spg {number} 2, the origin choice of "
                "the International Tables from which the coordinates of the atoms count",
                self.at["spg"],
            )
        setting = more[0] if more else 1
        origins = [group for group in settings if group.ext in ("1", "2")]
        if origins:
            settings = [group for group in origins if group.ext == str(setting)]
        elif any(group.ext == "R" for group in settings):  # the cell tells hexagonal from rhombohedral axes
            hexagonal = abs(self.numbers["cell"][5] - 120) < 0.01
            settings = [group for group in settings if group.ext == ("H" if hexagonal else "R")]
        elif setting != 1:
            settings = []
        if not settings:
            self.stop(
                f"setting {setting} of space group {number} is not known here: write the crystal as a CIF file, for "
                "Crystal.from_cif",
                self.at["spg"],
            )
        return list(settings[0].operations())
