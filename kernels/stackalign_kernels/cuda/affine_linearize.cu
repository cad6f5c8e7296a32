// SPDX-License-Identifier: BSD-3-Clause
// Sums for a Gauss-Newton step on the masked normalised cross-correlation. Compile without fused multiply-add:
// coordinates have the bits that the backend protocol gives them; sums ask for it by name.
//
// A warp takes a tile of the reference, a lane one of its columns at a time, so that x is a constant of the lane: it
// adds products with 1, y and y^2 in float32, and x enters when the lanes are added in float64. The sums of a tile are
// written plainly, and `affine_linearize_finish` adds tiles in a fixed order.

#define WARPS 4
#define SUMS 42
#define GROUPS 6  // of threads that add tiles, each every sixth, in `affine_linearize_finish`
#define FULL_WARP 0xffffffffu

typedef long long i64;

// Position on an axis of `size` pixels. `first` is the first tap, `cell` the first pixel of the cell for the
// derivative.
struct Position {
  int first, cell;
  float weight;
  bool inside;

  __device__ Position(double q, int size) : first(0), cell(0), weight(0.0f), inside(false) {
    if (q >= 0.0 && q <= double(size - 1)) {
      const double k = floor(q);
      first = int(k);
      weight = float(q - k);
      cell = first < size - 2 ? first : (size > 1 ? size - 2 : 0);
      inside = true;
    }
  }
};

__device__ inline float number_or_zero(float d) { return d == d ? d : 0.0f; }

// A sample and its derivatives along the axes of the moving image.
struct Sample {
  float v, gy, gx;

  __device__ Sample(const float* image, int height, int width, const Position& y, const Position& x) {
    const int right = width > 1 ? 1 : 0, down = height > 1 ? width : 0;
    const float* p = image + y.cell * width + x.cell;
    const float p00 = p[0], p01 = p[right], p10 = p[down], p11 = p[down + right];
    // A tap of weight 0 is no tap. At the last pixel of an axis the first tap is the second pixel of the cell.
    const bool low_x = x.first != x.cell, low_y = y.first != y.cell;
    const float a0 = low_x ? p01 : p00, a1 = low_x ? p11 : p10;
    const float upper = x.weight > 0.0f ? a0 + x.weight * (p01 - p00) : a0;
    const float lower = x.weight > 0.0f ? a1 + x.weight * (p11 - p10) : a1;
    const float first = low_y ? lower : upper;
    v = y.weight > 0.0f ? first + y.weight * (lower - upper) : first;
    gy = number_or_zero(lower - upper);
    const float s0 = number_or_zero(p01 - p00), s1 = number_or_zero(p11 - p10), s = low_y ? s1 : s0;
    gx = y.weight > 0.0f ? s + y.weight * (s1 - s0) : s;
  }
};

// Sums over one column: a factor with 1, y (and y^2).
struct Linear {
  float one, y;
  __device__ void add(float f, float at) {
    one += f;
    y = __fmaf_rn(f, at, y);
  }
};

struct Square {
  float one, y, yy;
  __device__ void add(float f, float at) {
    one += f;
    const float g = f * at;
    y += g;
    yy = __fmaf_rn(g, at, yy);
  }
};

struct Column {
  float n, r, v, rr, vv, rv;
  Linear gy, gx, r_gy, r_gx, v_gy, v_gx;
  Square yy, yx, xx;

  __device__ void add(float p, const Sample& s, float at) {
    const float q = s.v;
    if ((p < q) || (p >= q)) {  // neither is NaN
      n += 1.0f;
      r += p;
      v += q;
      rr = __fmaf_rn(p, p, rr);
      vv = __fmaf_rn(q, q, vv);
      rv = __fmaf_rn(p, q, rv);
      gy.add(s.gy, at);
      gx.add(s.gx, at);
      r_gy.add(p * s.gy, at);
      r_gx.add(p * s.gx, at);
      v_gy.add(q * s.gy, at);
      v_gx.add(q * s.gx, at);
      yy.add(s.gy * s.gy, at);
      yx.add(s.gy * s.gx, at);
      xx.add(s.gx * s.gx, at);
    }
  }
};

// Adds a column's sums to the 42 of the tile, as (factor * y, factor * x, factor) and so on.
__device__ inline void add_linear(double* out, const Linear& gy, const Linear& gx, double x) {
  out[0] += double(gy.y);
  out[1] += x * double(gy.one);
  out[2] += double(gy.one);
  out[3] += double(gx.y);
  out[4] += x * double(gx.one);
  out[5] += double(gx.one);
}

__device__ inline void add_square(double* out, const Square& s, double x) {
  out[0] += double(s.yy);
  out[1] += x * double(s.y);
  out[2] += double(s.y);
  out[3] += x * x * double(s.one);
  out[4] += x * double(s.one);
  out[5] += double(s.one);
}

// Block (b, c) takes WARPS tiles of problem c.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_linearize_tiles(const float* reference, const float* moving, const float* slopes, int given, int height,
                           int width, int moving_height, int moving_width, const double* matrices, int tile,
                           int tiles_across, int n_tiles, double* partial) {
  const int index = blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= n_tiles) return;
  const int lane = threadIdx.x % 32;
  const i64 problem = blockIdx.y;
  const double* m = matrices + 6 * problem;
  const float* pixels = reference + problem * height * width;
  const float* image = moving + problem * moving_height * moving_width;
  const int top = index / tiles_across * tile, left = index % tiles_across * tile;
  const int bottom = top + tile < height ? top + tile : height, end = left + tile < width ? left + tile : width;

  double sums[SUMS];
#pragma unroll
  for (int i = 0; i < SUMS; ++i) sums[i] = 0.0;
  for (int x = left + lane; x < end; x += 32) {
    const double beside_y = m[1] * double(x), beside_x = m[4] * double(x);
    Column c = {};
    for (int y = top; y < bottom; ++y) {
      const Position down((m[0] * double(y) + m[2]) + beside_y, moving_height);
      const Position across((m[3] * double(y) + m[5]) + beside_x, moving_width);
      if (down.inside && across.inside) {
        const float at = float(double(y) - 0.5 * double(height - 1));
        Sample s(image, moving_height, moving_width, down, across);
        if (given) {
          const i64 size = i64(height) * width, pixel = i64(y) * width + x;
          s.gy = slopes[2 * problem * size + pixel];
          s.gx = slopes[(2 * problem + 1) * size + pixel];
          if (!(s.gy == s.gy && s.gx == s.gx)) continue;
        }
        c.add(pixels[y * width + x], s, at);
      }
    }
    const double at = double(x) - 0.5 * double(width - 1);
    sums[0] += double(c.n);
    sums[1] += double(c.r);
    sums[2] += double(c.v);
    sums[3] += double(c.rr);
    sums[4] += double(c.vv);
    sums[5] += double(c.rv);
    add_linear(sums + 6, c.gy, c.gx, at);
    add_linear(sums + 12, c.r_gy, c.r_gx, at);
    add_linear(sums + 18, c.v_gy, c.v_gx, at);
    add_square(sums + 24, c.yy, at);
    add_square(sums + 30, c.yx, at);
    add_square(sums + 36, c.xx, at);
  }
  double* out = partial + (problem * n_tiles + index) * SUMS;
#pragma unroll
  for (int i = 0; i < SUMS; ++i) {
    double sum = sums[i];
    for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(FULL_WARP, sum, d);
    if (lane == 0) out[i] = sum;
  }
}

// One block per problem: thread (g, i) adds sum i of the tiles g, g + GROUPS, ..., and then the groups are added.
extern "C" __global__ void __launch_bounds__(SUMS* GROUPS)
    affine_linearize_finish(const double* partial, int n_tiles, double* total) {
  __shared__ double groups[GROUPS][SUMS];
  const int group = threadIdx.x / SUMS, i = threadIdx.x % SUMS;
  const double* tiles = partial + i64(blockIdx.x) * n_tiles * SUMS;
  double sum = 0.0;
  for (int tile = group; tile < n_tiles; tile += GROUPS) sum += tiles[i64(tile) * SUMS + i];
  groups[group][i] = sum;
  __syncthreads();
  if (group > 0) return;
  for (int g = 1; g < GROUPS; ++g) sum += groups[g][i];
  total[i64(blockIdx.x) * SUMS + i] = sum;
}
