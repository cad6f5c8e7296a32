// SPDX-License-Identifier: BSD-3-Clause
// requires: fixed.cuh
// One pass over a masked normalised cross-correlation and its derivatives. Matrices are in fixed point; sums ask for
// fused multiply-add by name.
//
// The reference is cut into tiles, of which sums are wanted, and a tile into units of at most UNIT x UNIT pixels. A
// warp takes a unit, a lane one of its columns: x is then a constant, so that a lane's float32 sums need the powers of
// y alone, and x comes in where lanes are added up in float64. Units write their sums plainly, and they are added in
// their order by `affine_linearize_finish`: no bit depends on what else is in the call.

#define UNIT 32
#define WARPS 4
#define STRIDE 33  // between the sums in shared memory, where lanes then meet no bank twice
#define SUMS 42    // of the protocol
#define LANE_SUMS \
  27  // six of the score; gy and gx, times 1, r and v, times 1 and y; gy*gy, gy*gx and gx*gx, times 1, y, y*y
#define FULL_WARP 0xffffffffu

// Slope where the surface has an edge: the mean of those differences that are not NaN, 0 without any.
__device__ inline float edge(float previous, float here, float following) {
  const float back = here - previous, ahead = following - here;
  const bool some = back == back, more = ahead == ahead;
  const float total = (some ? back : 0.0f) + (more ? ahead : 0.0f);
  return some && more ? 0.5f * total : total;
}

// A row of the moving image, interpolated along x.
struct Along {
  float value, slope;

  __device__ Along(const float* row, const Tap& across, int width) {
    const float* tap = row + across.first;
    const float a = tap[0], b = tap[across.step];
    value = mix(a, b, across.weight);
    if (across.step == 1) {
      slope = b - a;
    } else {
      const float previous = across.first > 0 ? tap[-1] : not_a_number();
      slope = edge(previous, a, across.first + 1 < width ? tap[1] : not_a_number());
    }
  }
};

struct Sample {
  float v, gy, gx;

  __device__ Sample(const float* image, const Tap& down, const Tap& across, int height, int width) {
    const float* row = image + down.first * width;
    const Along here(row, across, width);
    if (down.step == 1) {
      const Along below(row + width, across, width);
      v = mix(here.value, below.value, down.weight);
      gy = below.value - here.value;
      gx = mix(here.slope, below.slope, down.weight);
    } else {
      v = mix(here.value, here.value, down.weight);  // NaN outside
      gx = here.slope;
      const float above = down.first > 0 ? Along(row - width, across, width).value : not_a_number();
      const float below = down.first + 1 < height ? Along(row + width, across, width).value : not_a_number();
      gy = edge(above, here.value, below);
    }
  }
};

// The sums of a lane over its column.
template <bool DIAGONAL>
struct Column {
  float s[LANE_SUMS];

  __device__ Column() {
#pragma unroll
    for (int i = 0; i < LANE_SUMS; ++i) s[i] = 0.0f;
  }

  __device__ void weighted(int first, float g, float y, float p, float q, bool powers) {
    s[first] += g;
    s[first + 2] = __fmaf_rn(p, g, s[first + 2]);
    s[first + 4] = __fmaf_rn(q, g, s[first + 4]);
    if (powers) {
      const float h = g * y;
      s[first + 1] += h;
      s[first + 3] = __fmaf_rn(p, h, s[first + 3]);
      s[first + 5] = __fmaf_rn(q, h, s[first + 5]);
    }
  }

  __device__ void square(int first, float gg, float y, int powers) {
    s[first] += gg;
    if (powers > 0) s[first + 1] = __fmaf_rn(y, gg, s[first + 1]);
    if (powers > 1) s[first + 2] = __fmaf_rn(y * y, gg, s[first + 2]);
  }

  __device__ void add(float p, const Sample& at, float y) {
    const float q = at.v;
    if ((p < q) || (p >= q)) {  // neither is NaN: one comparison on the device
      s[0] += 1.0f;
      s[1] += p;
      s[2] += q;
      s[3] = __fmaf_rn(p, p, s[3]);
      s[4] = __fmaf_rn(q, q, s[4]);
      s[5] = __fmaf_rn(p, q, s[5]);
      weighted(6, at.gy, y, p, q, true);
      weighted(12, at.gx, y, p, q, !DIAGONAL);
      square(18, at.gy * at.gy, y, 2);
      square(21, at.gy * at.gx, y, DIAGONAL ? 1 : 2);
      square(24, at.gx * at.gx, y, DIAGONAL ? 0 : 2);
    }
  }
};

// Sums over the lanes, of which the first is at x: a lane takes one sum with all the powers of x that it is wanted
// with.
template <bool DIAGONAL>
__device__ inline void write_sums(const Column<DIAGONAL>& column, float* shared, int lane, double x, i64 stride,
                                  double* out) {
#pragma unroll
  for (int i = 0; i < LANE_SUMS; ++i) shared[i * STRIDE + lane] = column.s[i];
  __syncwarp();
  if (lane >= LANE_SUMS) return;
  const float* addends = shared + lane * STRIDE;
  // Powers of the distance from the middle of the 32 columns, which floats hold exactly, and then those of x.
  Wide sum, first, second;
#pragma unroll 4
  for (int i = 0; i < 32; ++i) {
    const float s = addends[i], at = float(i) - 15.5f;
    sum.add(s);
    first.add_product(at, s);
    second.add_product(at * at, s);
  }
  const double middle = x + 15.5, s0 = sum.value(), f = first.value(), s1 = f + middle * s0;
  const double s2 = second.value() + middle * (f + s1);
  if (lane < 6) {
    out[lane * stride] = s0;
  } else if (lane < 18) {
    const int axis = (lane - 6) / 6, weight = (lane - 6) % 6 / 2;
    double* three = out + (6 + 6 * weight + 3 * axis) * stride;
    if (lane % 2 == 1) {
      three[0] = s0;
    } else {
      three[stride] = DIAGONAL && axis == 0 ? 0.0 : s1;
      three[2 * stride] = s0;
    }
  } else {
    const int pair = (lane - 18) / 3, power = lane % 3;
    double* six = out + (24 + 6 * pair) * stride;
    if (power == 2) {
      six[0] = s0;
    } else if (power == 1) {
      six[stride] = DIAGONAL && pair == 0 ? 0.0 : s1;
      six[2 * stride] = s0;
    } else {
      six[3 * stride] = DIAGONAL && pair < 2 ? 0.0 : s2;
      six[4 * stride] = DIAGONAL && pair == 0 ? 0.0 : s1;
      six[5 * stride] = s0;
    }
  }
}

template <bool DIAGONAL>
__device__ inline void linearize(float* scratch, const float* reference, const float* moving, const float* slopes,
                                 int given, int height, int width, int moving_height, int moving_width,
                                 const i64* matrices, int bits, int tile_height, int tile_width, int units,
                                 i64 first_problem, double* partial) {
  const int across = (width + tile_width - 1) / tile_width, down = (height + tile_height - 1) / tile_height;
  const int unit = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (unit >= down * across * units) return;
  const int tile = unit / units, part = unit % units, parts_across = (tile_width + UNIT - 1) / UNIT;
  const int top = tile / across * tile_height, left = tile % across * tile_width;
  const int y0 = top + part / parts_across * UNIT, x0 = left + part % parts_across * UNIT;
  const int y1 = min(min(y0 + UNIT, top + tile_height), height), x = x0 + lane;
  const bool inside = x < min(left + tile_width, width);
  const i64 problem = first_problem + blockIdx.y;
  const i64* m = matrices + 6 * problem;
  const float* image = moving + problem * moving_height * moving_width;
  const float* pixels = reference + problem * height * width + x;
  const float* theirs = slopes + 2 * problem * height * width + x;
  const i64 step_y = m[0], step_x = m[3];
  i64 position_y = m[2] + m[1] * x + step_y * y0, position_x = m[5] + m[4] * x + step_x * y0;

  Column<DIAGONAL> column;
  float at_y = 0.5f * float(2 * y0 - (height - 1));  // from the middle
  if (inside) {
    Tap right(position_x, bits, moving_width);
#pragma unroll 1
    for (int y = y0; y < y1; ++y, at_y += 1.0f, position_y += step_y, position_x += step_x) {
      const Tap below(position_y, bits, moving_height);
      if (!DIAGONAL) right = Tap(position_x, bits, moving_width);
      Sample at(image, below, right, moving_height, moving_width);
      if (given) {
        at.gy = theirs[y * width];
        at.gx = theirs[(height + y) * width];
        if (at.gy != at.gy || at.gx != at.gx) at.v = not_a_number();
      }
      column.add(pixels[y * width], at, at_y);
    }
  }
  double* out = partial + (i64(blockIdx.y) * (down * across) + tile) * SUMS * units + part;
  write_sums<DIAGONAL>(column, scratch, lane, double(x0) - 0.5 * double(width - 1), units, out);
}

// Block (b, p) takes WARPS units of a problem. Sums go to partial[problem][tile][sum][unit]. If `given`,
// slopes[problem][gy, gx][y][x] stand for those of the samples.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_linearize_diagonal(const float* reference, const float* moving, const float* slopes, int given, int height,
                              int width, int moving_height, int moving_width, const i64* matrices, int bits,
                              int tile_height, int tile_width, int units, i64 first_problem, double* partial) {
  __shared__ float scratch[WARPS][LANE_SUMS * STRIDE];
  linearize<true>(scratch[threadIdx.x / 32], reference, moving, slopes, given, height, width, moving_height,
                  moving_width, matrices, bits, tile_height, tile_width, units, first_problem, partial);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_linearize_general(const float* reference, const float* moving, const float* slopes, int given, int height,
                             int width, int moving_height, int moving_width, const i64* matrices, int bits,
                             int tile_height, int tile_width, int units, i64 first_problem, double* partial) {
  __shared__ float scratch[WARPS][LANE_SUMS * STRIDE];
  linearize<false>(scratch[threadIdx.x / 32], reference, moving, slopes, given, height, width, moving_height,
                   moving_width, matrices, bits, tile_height, tile_width, units, first_problem, partial);
}

// One warp per sum: lane l adds the units l, l + 32, ..., and then the lanes are added.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_linearize_finish(const double* partial, int n_tiles, int units, i64 n_sums, i64 first_problem, double* out) {
  const i64 which = blockIdx.x * i64(WARPS) + threadIdx.x / 32;
  if (which >= n_sums) return;
  const int lane = threadIdx.x % 32;
  double sum = 0.0;
  for (int unit = lane; unit < units; unit += 32) sum += partial[which * units + unit];
  for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(FULL_WARP, sum, d);
  if (lane == 0) out[first_problem * n_tiles * SUMS + which] = sum;
}
