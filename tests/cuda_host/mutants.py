"""Deliberate mistakes in the project's kernels, to see whether the checks would notice.

All mutants of a kernel file are compiled at once, each behind a switch that the host sets before a run: hundreds of
mutants then cost one compilation. ``python -m cuda_host.mutants SANITIZER|plain FILE,FILE... DTYPE...`` tries them in
turn, each in a forked process, because a mutant may crash or never end, and prints one line of JSON for each.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from conformance.inputs import samples
from conformance.operations import Question, kernel_differences, questions
from cuda_host.backend import HostArrays, host_runtime
from stackalign.backends.cuda import CudaBackend
from stackalign.backends.cuda._runtime import Runtime
from stackalign_kernels import cuda_names, cuda_source

__all__ = [
    "ALL_SPARE",
    "BARRIER",
    "NO_MUTATION",
    "RULES",
    "SHARING",
    "Mutant",
    "Rule",
    "asked_of",
    "mutants",
    "switched",
]

BARRIER = "barrier deleted"
NO_MUTATION = "no mutation"
ALL_SPARE = "all surviving deletions of barriers at once"
SECONDS = 20
"""Of processor time for a mutant: a busy machine must not kill what is right."""
WRONG, FAILED = 4, 3  # 1 is an error of this program
VERDICTS = {0: "survived", WRONG: "result differs", FAILED: "the shim reports", 66: "data race"}
SHAPES = ((3, 37, 41), (3, 12, 300))
SWITCH = """
__device__ unsigned char ch_mutant[1000];
extern "C" __global__ void choose_mutant(int n) { ch_mutant[n] = 1; }
"""


class Rule(NamedTuple):
    """What to look for, an expression, and what to put in its place."""

    name: str
    pattern: str
    replacement: str
    files: tuple[str, ...]
    """Kernel files that the mistake is made in."""


def _own(kernel_file: str) -> str:
    """Text of a kernel file without headers and comments."""
    text = (files("stackalign_kernels") / "cuda" / f"{kernel_file}.cu").read_text(encoding="utf-8")
    return re.sub(r"//[^\n]*", "", text)


# What a new kernel file falls under by itself.
SHARING = tuple(name for name in cuda_names() if "__shared__" in _own(name))
TYPED = tuple(name for name in cuda_names() if re.search(r"\bELEMENT\b", cuda_source(name)))
ASKING = tuple(name for name in TYPED if "Element::valid(" in _own(name))
NCC = ("affine_ncc",)
LINEAR = ("affine_linearize",)
MAPS = ("masked_ncc",)
RESAMPLE = ("affine_resample",)
AVERAGE = ("affine_average",)
PLANES = ("standardise",)
RULES = (
    Rule(BARRIER, r"__sync(?:threads|warp)\(\)", "static_cast<void>(0)", SHARING),
    Rule(
        "load shifted by one",
        r"\b((?:f\.)?pixels|stack)\[([^][]+)\](?= :|;)",
        r"\1[\2 + 1]",
        ("crop", "radial", "statistics"),
    ),
    Rule("distance compared with <", r"((?:\([^()]+\) \* \([^()]+\) \+ )?\bdx2) <= rr\b", r"\1 < rr", ("radial",)),
    Rule("mask not asked", r"(?:f\.)?\bmask\[[^][]+\](?: != 0)?", "true", TYPED),
    Rule("first mask for all", r"mask_frames == 1 \? 0 : n", "0", ("crop", "radial")),
    Rule("first mask for all", r"mask_frames == 1 \? 0 : n_pixels", "0", ("statistics",)),
    Rule("stride of a reduction", r"\b(half|d) /= 2", r"\1 /= 4", SHARING),
    Rule("NaN not asked", r"Element::valid\([^()]+\)", "true", ASKING),
    Rule("stride of a scan", r"\bd \*= 2", "d *= 4", ("radial",)),
    Rule("stride over columns", r"\bx \+= blockDim\.x", "x += 2 * blockDim.x", ("radial",)),
    Rule("stride over rows", r"\bwy \+= warps", "wy += warps + 1", ("crop",)),
    Rule("weight of a row", r"\bk > 0\b", "k > 1", ("radial",)),
    Rule("last row left out", r"int\(b\) \+ 1", "int(b)", ("radial",)),
    Rule("border of the frame", r"\bx < width\b", "x <= width", ("crop",)),
    Rule("minimum not kept", r"v\[k\] < (?:m\.)?low", "false", ("radial", "statistics")),
    Rule(
        "load shifted by one",
        r"\b(pixels|moving|image|column|upper|lower)\[([^][]*(?:\[[^][]*\][^][]*)*)\]",
        r"\1[\2 + 1]",
        NCC,
    ),
    Rule("weight 0 is a tap", r"rest != 0u \? 1 : 0", "1", NCC),
    Rule("border of the image", r"u32\(pixel\) < u32\(size\)|pixel \+ more < size", "true", NCC),
    Rule("border of the frame", r"\bat\.x < width\b|\bi < at\.rows(?= &&)", "true", NCC),
    Rule("NaN not asked", r"\(p < q\) \|\| \(p >= q\)", "true", NCC),
    Rule("weights exchanged", r"\bb - a(?=, a\b)", "a - b", NCC),
    Rule("a sum of the other image", r"\bq(?=, (?:q, vv|vv|rv)\))", "p", NCC),
    Rule("problem not asked", r"\bproblem\[(?:group|candidate)\]", "0", NCC),
    Rule("rows that are not kept", r"high - low >= ROWS|low < top|high >= top \+ ROWS", "false", NCC),
    Rule("row left out", r"\bend <= high\b", "end < high", NCC),
    Rule("taken for consecutive", r"down\.step == 1|down\.first == low \+ at\.lane", "true", NCC),
    Rule("first member for all", r"\+\+member\b", "member", NCC),
    Rule("weight 0 is a tap", r"rest != 0u \? 1 : 0", "1", LINEAR),
    Rule("weight 0 is a tap", r"(?:across|down)\.step == 1", "true", LINEAR),
    Rule("border of the image", r"across\.first > 0|down\.first > 0", "true", LINEAR),
    Rule("border of the image", r"(?:across|down)\.first \+ 1 < (?:width|height)", "true", LINEAR),
    Rule("border of the image", r"u32\(pixel\) < u32\(size\)|pixel \+ more < size", "true", LINEAR),
    Rule("NaN not asked", r"\(p < q\) \|\| \(p >= q\)", "true", LINEAR),
    Rule("NaN not asked", r"(?:back == back|ahead == ahead)", "true", LINEAR),
    Rule("one side of an edge", r"some && more\b", "false", LINEAR),
    Rule("a sum of the other image", r"\bq(?=, (?:g|h), s\[)", "p", LINEAR),
    Rule("tile not asked", r"\bleft \+ tile_width|\btop \+ tile_height", "1000", LINEAR),
    Rule("sum of no diagonal", r"DIAGONAL && (?:axis == 0|pair == 0|pair < 2)", "false", LINEAR),
    Rule("problem not asked", r"6 \* problem\b|\bproblem(?= \* (?:moving_)?height)", "0", LINEAR),
    Rule("given slopes not asked", r"at\.gy != at\.gy|at\.gx != at\.gx", "false", LINEAR),
    Rule("overlap not asked", r"count >= least_overlap", "true", MAPS),
    Rule("variance not asked", r"var_r\[i\] > flat_r|var_v > flat_v", "true", MAPS),
    Rule("a sum of the other image", r"\bmean_v \* sum_v", "mean_r[i] * sum_v", MAPS),
    Rule("first planes for all", r"image \* (?:fixed_)?step", "0", MAPS),
    Rule("lags beyond the window", r"l[yx] [<>] (?:low|high)_[yx]", "false", MAPS),
    Rule("neighbours unknown", r"l[yx] [<>]= (?:top|left|bottom|right)", "true", MAPS),
    Rule("nothing found not asked", r"peak > 0\.0f|peaks\[image\] > 0\.0f", "true", MAPS),
    Rule("weight 0 is a tap", r"w[yx] == Real\(0\) \? 0 : (\w+)", r"\1", RESAMPLE),
    Rule("weight 0 is a tap", r"wx\[j\] != Real\(0\)", "true", RESAMPLE),
    Rule("weight 0 is a tap", r"wy\[i\] == Real\(0\)", "false", RESAMPLE),
    Rule("border of the image", r"\b[yx] >= 0\.0|[yx] <= double\((?:height|width) - 1\)", "true", RESAMPLE),
    Rule("halfway goes to the smaller index", r"s\.([yx]) \+ 0\.5\b", r"s.\1 + 0.499", RESAMPLE),
    Rule("border not mirrored", r"k < size \? k : period - k|i < 0 \? -i : i", "0", RESAMPLE),
    Rule("infinity not asked", r"Traits<Real>::valid\(v\)", "true", RESAMPLE),
    Rule("first matrix for all", r"matrices \+ 6 \* n", "matrices", RESAMPLE),
    Rule("first image for all", r"n_images == 1 \? 0 : first \+ blockIdx\.y", "0", RESAMPLE),
    Rule("holes not bridged", r"slope \* double\(j - known\)", "0.0", RESAMPLE),
    Rule("bins in the other order", r"\bi / across % down\b", "i % down", ("binning",)),
    Rule("columns left out", r"\bsum \+= column", "sum = column", ("binning",)),
    Rule("first image for all", r"\bn(?=, height, width\);)", "0", AVERAGE),
    Rule(
        "first image for all",
        r"frame_of\(images, mask, mask_frames, n,",
        "frame_of(images, mask, mask_frames, 0,",
        AVERAGE,
    ),
    Rule("first matrix for all", r"for_all \? 0 : n \* n_transforms \* 6", "0", AVERAGE),
    Rule("weights exchanged", r"\bgy \* gx(?=, sum)", "fy * gx", AVERAGE),
    Rule("weight not asked", r"weight >= least", "true", AVERAGE),
    Rule("weight not asked", r"weighted \? widened<double>\(weights\[i\]\) : 1\.0", "1.0", ("bins",)),
    Rule("entries left out", r"\bi \+= 32", "i += 64", ("bins",)),
    Rule("first image for all", r"\bimages \+ n \* n_pixels", "images", ("bins",)),
    Rule("first mask for all", r"mask_frames == 1 \? 0 : n \* n_pixels", "0", ("bins",)),
    Rule("mean forgotten", r"widened<double>\(v\) - middle", "widened<double>(v)", ("bins",)),
    Rule("pixel counted twice", r"\+\+count\b", "count += 2", ("binning",)),
    Rule(
        "neighbours beyond the row",
        r"x < radius \? -x : -radius|width - 1 - x < radius \? width - 1 - x : radius",
        "0",
        PLANES,
    ),
    Rule("neighbours beyond the image", r"row < radius \? -row : -radius", "0", PLANES),
    Rule("odd weight taken for even", r"k < 0 \? -t\[at\] : t\[at\]", "t[at]", PLANES),
    Rule("NaN not asked", r"\b[vd] == [vd]\b", "true", PLANES),
    Rule("first image for all", r"(?<=\] - moments\[)3 \* image \+ 1(?=\]\))", "1", PLANES),
    Rule("stride of a reduction", r"\bd /= 2", "d /= 4", PLANES),
    Rule("constant image not asked", r"\bvar_[rv] > FLAT \* square_[rv]", "true", NCC),
    Rule("mean far from 0 not asked", r"far \? float\(s\[[12]\] / n\) : 0\.0f", "0.0f", NCC),
    Rule("pivot forgotten", r"\bv - q(?= : v)", "v", NCC),
    Rule("NaN taken for whole", r"\bwhole && v == v|\bfull(?=;)", "true", NCC),
)


class Mutant(NamedTuple):
    """Where a rule applies. Places in a header are the same for all kernel files that it goes into."""

    rule: str
    place: str
    line: str


def _text(kernel_file: str) -> str:
    """Return the flattened text without comments, in which rules must find nothing."""
    return re.sub(r"//[^\n]*", "", cuda_source(kernel_file))


def _matches(text: str, kernel_file: str) -> list[tuple[re.Match[str], Rule]]:
    """Find what the rules apply to; where two rules want the same text, the first has it."""
    found: list[tuple[re.Match[str], Rule]] = []
    for rule in RULES:
        if kernel_file in rule.files:
            for match in re.finditer(rule.pattern, text):
                if all(match.end() <= m.start() or m.end() <= match.start() for m, _ in found):
                    found.append((match, rule))
    return sorted(found, key=lambda pair: pair[0].start())


def mutants(kernel_file: str) -> list[Mutant]:
    """Name the mutants of a kernel file, in the order of their numbers."""
    text = _text(kernel_file)
    own = (files("stackalign_kernels") / "cuda" / f"{kernel_file}.cu").read_text(encoding="utf-8")
    header_lines = text.count("\n") - own.count("\n")

    def name(match: re.Match[str], rule: Rule) -> Mutant:
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
        if rule.name == BARRIER:  # says nothing by itself: show what follows it
            end = text.find("\n", end + 1)
        line = text.count("\n", 0, start) + 1
        where = f"headers:{line}" if line <= header_lines else f"{kernel_file}.cu:{line - header_lines}"
        return Mutant(rule.name, f"{where}:{match.start() - start + 1}", " ".join(text[start:end].split()))

    return [name(match, rule) for match, rule in _matches(text, kernel_file)]


def switched(kernel_file: str) -> str:
    """Return the text with every mutant behind its switch."""
    text, pieces, position = _text(kernel_file), [SWITCH], 0
    for number, (match, rule) in enumerate(_matches(text, kernel_file)):
        mutated = match.expand(rule.replacement)
        pieces += [text[position : match.start()], f"(ch_mutant[{number}] ? ({mutated}) : ({match[0]}))"]
        position = match.end()
    return "".join([*pieces, text[position:]])


def _modules(kernel_file: str, dtypes: Iterable[Any]) -> set[np.dtype[Any] | None]:
    """Return the element types that a kernel file is built for: those given, or None for a file without."""
    typed = "ELEMENT" in _text(kernel_file)
    return {np.dtype(d) if typed else None for d in dtypes}


def _try(
    runtime: Runtime, kernel_file: str, dtypes: Iterable[str], asked: Sequence[Question], numbers: Sequence[int]
) -> int:
    """Choose mutants and ask the questions until an answer is wrong."""
    backend = CudaBackend(HostArrays(runtime))
    try:
        for dtype in _modules(kernel_file, dtypes):
            choose = runtime.get_function(kernel_file, "choose_mutant", dtype)
            for number in numbers:
                choose((1,), (1,), (np.int32(number),))
        return WRONG if any(kernel_differences(backend, asked)) else 0
    except RuntimeError:
        return FAILED


def _verdict(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return VERDICTS.get(os.WEXITSTATUS(status), f"exit status {os.WEXITSTATUS(status)}")


def asked_of(sanitizer: str, kernel_file: str, dtypes: Iterable[str]) -> list[Question]:
    """The questions by which a mutant is to be noticed."""
    shapes, masks = (SHAPES, ("none", "each")) if sanitizer == "plain" else (SHAPES[:1], ("none",))
    return [
        question
        for dtype in dtypes
        for sample in samples(dtype, shapes, masks)
        for question in questions(sample, (kernel_file,))
    ]


def main(sanitizer: str, kernel_files: str, *dtypes: str) -> None:
    """Try the mutants of some files, in one process: to import what asks the questions takes longer than most files."""
    for kernel_file in kernel_files.split(","):
        _try_all(sanitizer, kernel_file, dtypes)


def _try_all(sanitizer: str, kernel_file: str, dtypes: Sequence[str]) -> None:
    """Try the mutants: only those of barriers under a sanitizer, the others without."""
    plain = sanitizer == "plain"
    runtime = host_runtime(sanitizer=None if plain else sanitizer, source=switched)
    # Built, loaded and answered here, once for all mutants; no launch, because the thread sanitizer cannot fork fibres.
    for dtype in _modules(kernel_file, dtypes):
        runtime.get_function(kernel_file, "choose_mutant", dtype)
    asked = asked_of(sanitizer, kernel_file, dtypes)

    def verdict(mutant: Mutant, numbers: Sequence[int]) -> str:
        child = os.fork()
        if child == 0:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(20 * SECONDS)  # for a mutant that waits
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os._exit(_try(runtime, kernel_file, dtypes, asked, numbers))
        text = _verdict(os.waitpid(child, 0)[1])
        sys.stdout.write(json.dumps([*mutant, text]) + "\n")
        sys.stdout.flush()
        return text

    # Without a mutant all must be well, or the verdicts would mean nothing.
    verdict(Mutant(NO_MUTATION, "", ""), ())
    chosen = {i: m for i, m in enumerate(mutants(kernel_file)) if (m.rule == BARRIER) != plain}
    spare = [i for i, m in chosen.items() if verdict(m, [i]) == VERDICTS[0]]
    if not plain:  # a barrier may be spare because of another that is spare because of it
        verdict(Mutant(ALL_SPARE, "", ""), spare)


if __name__ == "__main__":
    main(*sys.argv[1:])
