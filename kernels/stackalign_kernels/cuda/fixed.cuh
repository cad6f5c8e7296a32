// SPDX-License-Identifier: BSD-3-Clause
// What kernels that sample planes share, without doubles, of which most GPUs do 64 times fewer than floats.
//
// Positions in fixed point, in units of 2**-bits pixels: sums of integers are exact, so that validity is the same on
// every backend. From 32 to 44 bits: the upper half of a position then holds the whole pixels.

typedef long long i64;
typedef unsigned int u32;

__device__ inline float not_a_number() { return __int_as_float(0x7fc00000); }

__device__ inline float mix(float a, float b, float w) { return __fmaf_rn(w, b - a, a); }

// Position on an axis of `size` pixels: tap and weight of the next, which is NaN outside. A position on a pixel has no
// second tap, so that neither a NaN nor the border beside an exact hit matters; `step` leads to the other tap.
struct Tap {
  int first, step;
  float weight;

  __device__ Tap(i64 q, int bits, int size) : first(0), step(0), weight(not_a_number()) {
    const int high = int(q >> 32), pixel = high >> (bits - 32);
    const u32 rest = u32(q) | (u32(high) & ((1u << (bits - 32)) - 1u));
    const int more = rest != 0u ? 1 : 0;
    if (u32(pixel) < u32(size) && pixel + more < size) {
      first = pixel;
      step = more;
      weight = float(u32(q >> (bits - 32))) * 2.3283064365386963e-10f;  // 2**-32
    }
  }
};

// A sum with twice the digits of a float: what `high` has lost is in `low`. Two-sum after Knuth, The Art of Computer
// Programming 2, 4.2.2; products by fused multiply-add.
struct Wide {
  float high, low;

  __device__ Wide() : high(0.0f), low(0.0f) {}

  __device__ void add(float v, float lost = 0.0f) {
    const float sum = high + v, part = sum - high;
    low += lost + ((high - (sum - part)) + (v - part));
    high = sum;
  }

  __device__ void add_product(float a, float b) {
    const float product = a * b;
    add(product, __fmaf_rn(a, b, -product));
  }

  __device__ double value() const { return double(high) + double(low); }
};
