# SPDX-License-Identifier: BSD-3-Clause
"""Sums of products over rows of pixels, with the vector registers spelled out.

A compiler that is asked for ten sums at once gives each of them several registers, runs out of them, and adds their
lanes up one sum after the other at the end of every row. Here each sum has one register, and the lanes of all sums are
added together. It is written as instructions of LLVM on vectors, which every machine has or is given in parts.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic
from numba.np import arrayobj

LANES = 16 if "+avx512f" in codegen.get_host_cpu_features() else 8

_f32, _f64, _i32, _i64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_vector = ir.VectorType(_f32, LANES)
_wide = ir.VectorType(_f64, LANES)
_mask = ir.VectorType(ir.IntType(1), LANES)
_indices = ir.VectorType(_i32, LANES)
_FUSED = ("contract",)

Term = tuple[int, ...]


def _constant(value: float, kind: ir.VectorType) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _splat(builder: Any, value: Any, kind: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _i32(0))
    return builder.shuffle_vector(one, one, ir.Constant(_indices, [0] * LANES))


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _vector.as_pointer()), align=4)


def _row(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    return builder.gep(arrayobj.make_array(kind)(context, builder, array).data, [offset])


def _halve(builder: Any, vectors: list[Any]) -> list[Any]:
    """Add neighbouring lanes: half as many vectors, each with the lanes of two."""
    even = ir.Constant(_indices, list(range(0, 2 * LANES, 2)))
    odd = ir.Constant(_indices, list(range(1, 2 * LANES, 2)))
    zero = _constant(0.0, vectors[0].type)
    pairs = [(v, vectors[i + 1] if i + 1 < len(vectors) else zero) for i, v in enumerate(vectors) if i % 2 == 0]
    return [builder.fadd(builder.shuffle_vector(u, v, even), builder.shuffle_vector(u, v, odd)) for u, v in pairs]


def _accumulate(
    builder: Any, sums: list[Any], pixels: list[Any], pivots: list[Any], terms: list[Term], keep: Any, masked: bool
) -> list[Any]:
    """Add the products of one vector of pixels; `keep` are the lanes that count, None for all."""
    if masked:
        pairs = [(pixels[max(i - 1, 0)], pixels[i]) for i in range(len(pixels) - 1, -1, -2)]
        for a, b in pairs:  # one comparison tells whether one of two is NaN
            valid = builder.fcmp_ordered("ord", a, b)
            keep = valid if keep is None else builder.and_(keep, valid)
    kind = sums[0].type
    if kind is _wide:
        pixels = [builder.fpext(x, kind) for x in pixels]
    values = [builder.fsub(x, p) if p is not None else x for x, p in zip(pixels, pivots, strict=True)]
    if keep is not None:
        values = [builder.select(keep, x, _constant(0.0, kind)) for x in values]
    out = []
    for total, term in zip(sums, terms, strict=True):
        if len(term) == 2:
            product = builder.fmul(values[term[0]], values[term[1]], flags=_FUSED)
            out.append(builder.fadd(total, product, flags=_FUSED))
        elif term:
            out.append(builder.fadd(total, values[term[0]]))
        else:
            out.append(builder.fadd(total, builder.select(keep, _constant(1.0, kind), _constant(0.0, kind))))
    return out


def row_sums(terms: list[Term], n_pivots: int, *, masked: bool, double: bool = False) -> Any:
    """Make a function (arrays, offsets, size, pivots, out, offset) that writes sums of products to `out`.

    A row begins at an offset in a contiguous array of any shape, because slices are not free: Numba counts those who
    use an array, in a way that is safe between threads, and that takes longer than a short row.

    Parameters
    ----------
    terms : list of tuple
        Which rows to multiply for each sum: ``(0, 1)`` the first and the second, ``(0,)`` the first alone, and ``()``
        none, to count the pixels. From `offset` on, ``out``, float64, has room for
        that many numbers, rounded up to a multiple of `LANES`.
    n_pivots : int
        The first rows have a number subtracted, in float32.
    masked : bool
        Pixels where any row is NaN are left out; otherwise none may be NaN.
    double : bool
        Sum in float64 rather than float32.
    """
    kind = _wide if double else _vector

    @intrinsic
    def sums(_context: Any, rows: Any, offsets: Any, size: Any, pivots: Any, out: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds, places, size = signature.args[0], cgutils.unpack_tuple(builder, args[1]), args[2]
            pointers = [
                _row(context, builder, t, v, i)
                for t, v, i in zip(kinds, cgutils.unpack_tuple(builder, args[0]), places, strict=True)
            ]
            subtract: list[Any] = [None] * len(pointers)
            for i, p in enumerate(cgutils.unpack_tuple(builder, args[3])[:n_pivots]):
                subtract[i] = _splat(builder, builder.fpext(p, _f64) if double else p, kind)
            cells = [cgutils.alloca_once_value(builder, _constant(0.0, kind)) for _ in terms]
            scratch = [cgutils.alloca_once(builder, _f32, size=_i64(LANES)) for _ in pointers]
            left = builder.and_(size, _i64(LANES - 1))
            whole = builder.sub(size, left)

            def add(where: list[Any], keep: Any) -> None:
                pixels = [_load(builder, p) for p in where]
                before = [builder.load(c) for c in cells]
                after = _accumulate(builder, before, pixels, subtract, terms, keep, masked)
                for cell, total in zip(cells, after, strict=True):
                    builder.store(total, cell)

            with cgutils.for_range_slice(builder, _i64(0), whole, _i64(LANES), _i64) as (i, _):
                add([builder.gep(p, [i]) for p in pointers], None)
            with builder.if_then(builder.icmp_signed("!=", left, _i64(0))):
                # The last pixels are read with those before them, which have been added already; or copied, where
                # there are none.
                number = ir.Constant(_indices, list(range(LANES)))
                short = builder.icmp_signed("==", whole, _i64(0))
                with builder.if_then(short), cgutils.for_range(builder, left, intp=_i64) as loop:
                    for p, s in zip(pointers, scratch, strict=True):
                        builder.store(builder.load(builder.gep(p, [loop.index])), builder.gep(s, [loop.index]))
                back = builder.sub(size, _i64(LANES))
                where = [
                    builder.select(short, s, builder.gep(p, [back])) for p, s in zip(pointers, scratch, strict=True)
                ]
                few = _splat(builder, builder.trunc(left, _i32), _indices)
                first = builder.icmp_signed("<", number, few)
                final = builder.icmp_signed(">=", number, builder.sub(ir.Constant(_indices, [LANES] * LANES), few))
                add(where, builder.select(_splat(builder, short, _mask), first, final))
            totals = [builder.load(c) for c in cells]
            for _ in range(LANES.bit_length() - 1):
                totals = _halve(builder, totals)
            target = _row(context, builder, signature.args[4], args[4], args[5])
            for i, v in enumerate(totals):
                cell = builder.bitcast(builder.gep(target, [_i64(i * LANES)]), _wide.as_pointer())
                builder.store(v if double else builder.fpext(v, _wide), cell, align=8)
            return impl_ret_untracked(context, builder, types.none, context.get_dummy_value())

        return types.none(rows, offsets, size, pivots, out, offset), generate

    return sums


@intrinsic
def blend(_context: Any, arrays: Any, offsets: Any, size: Any, pivot: Any, out: Any, offset: Any) -> Any:
    """Write ``(a - pivot) + w * (b - a)`` to `out`, in float32, of the arrays (a, b, w); see `row_sums` for offsets."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, places, size = signature.args[0], cgutils.unpack_tuple(builder, args[1]), args[2]
        pointers = [
            _row(context, builder, t, v, i)
            for t, v, i in zip(kinds, cgutils.unpack_tuple(builder, args[0]), places, strict=True)
        ]
        target = _row(context, builder, signature.args[4], args[4], args[5])
        level = _splat(builder, args[3], _vector)

        def mix(x: Any, y: Any, weight: Any, p: Any) -> Any:
            return builder.fadd(
                builder.fsub(x, p), builder.fmul(weight, builder.fsub(y, x), flags=_FUSED), flags=_FUSED
            )

        def at(i: Any) -> None:
            pixels = [_load(builder, builder.gep(p, [i])) for p in pointers]
            cell = builder.bitcast(builder.gep(target, [i]), _vector.as_pointer())
            builder.store(mix(*pixels, level), cell, align=4)

        with builder.if_else(builder.icmp_signed(">=", size, _i64(LANES))) as (long, short):
            with long:
                last = builder.sub(size, _i64(LANES))
                with cgutils.for_range_slice(builder, _i64(0), last, _i64(LANES), _i64) as (i, _):
                    at(i)
                at(last)  # some of them for the second time
            with short, cgutils.for_range(builder, size, intp=_i64) as loop:
                pixels = [builder.load(builder.gep(p, [loop.index])) for p in pointers]
                builder.store(mix(*pixels, args[3]), builder.gep(target, [loop.index]))
        return impl_ret_untracked(context, builder, types.none, context.get_dummy_value())

    return types.none(arrays, offsets, size, pivot, out, offset), generate


@intrinsic
def sample(
    _context: Any,
    image: Any,
    tap: Any,
    steps: Any,
    along_y: Any,
    along_x: Any,
    first: Any,
    size: Any,
    pivot: Any,
    out: Any,
    offset: Any,
) -> Any:
    """Sample pixels first, first + 1, ... of a row whose taps are neighbours, in float32; see `row_sums` for offsets.

    The first has its upper left tap at ``image.flat[tap]``, and `steps` lead from there to the lower and to the right
    one. An axis is (q, d, k): the position of pixel x is ``q + d * x`` in float64, and its weight what is left of that
    without ``k`` along y, or ``k + x`` along x. The pivot is
    subtracted from all pixels. Whole vectors are read and written.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        corner = _row(context, builder, signature.args[0], args[0], args[1])
        below, beside = cgutils.unpack_tuple(builder, args[2])
        y, x = ([_splat(builder, v, _wide) for v in cgutils.unpack_tuple(builder, args[i])] for i in (3, 4))
        begin, size = args[5], args[6]
        target = _row(context, builder, signature.args[8], args[8], args[9])
        numbers = ir.Constant(_wide, [float(i) for i in range(LANES)])

        def mix(a: Any, b: Any, w: Any, slope_from: Any) -> Any:
            """Return ``a + w * (b - slope_from)``."""
            return builder.fadd(a, builder.fmul(w, builder.fsub(b, slope_from), flags=_FUSED), flags=_FUSED)

        level = _splat(builder, args[7], _vector)
        with cgutils.for_range_slice(builder, _i64(0), size, _i64(LANES), _i64) as (i, _):
            here = builder.fadd(_splat(builder, builder.sitofp(builder.add(begin, i), _f64), _wide), numbers)
            position = [builder.fadd(q, builder.fmul(d, here)) for q, d, _ in (y, x)]
            wy = builder.fptrunc(builder.fsub(position[0], y[2]), _vector)
            wx = builder.fptrunc(builder.fsub(position[1], builder.fadd(here, x[2])), _vector)
            rows = []
            for pointer in (corner, builder.gep(corner, [below])):
                left = builder.gep(pointer, [i])
                a, b = (_load(builder, p) for p in (left, builder.gep(left, [beside])))
                rows.append(mix(builder.fsub(a, level), b, wx, a))
            cell = builder.bitcast(builder.gep(target, [i]), _vector.as_pointer())
            builder.store(mix(rows[0], rows[1], wy, rows[0]), cell, align=4)
        return impl_ret_untracked(context, builder, types.none, context.get_dummy_value())

    return types.none(image, tap, steps, along_y, along_x, first, size, pivot, out, offset), generate
