// SPDX-License-Identifier: BSD-3-Clause
// requires: fixed.cuh
// Masked normalised cross-correlation of a reference with affinely sampled moving images. Matrices are in fixed point;
// sums ask for fused multiply-add by name.
//
// A warp takes a tile of TILE x TILE pixels of the reference, a lane one of its columns, so that a lane reads nothing
// of the images but what it has loaded itself. A lane adds up its column in float32, the lanes are added with twice the
// digits, and the sums of a tile are written plainly, to be added in the order of the tiles by `affine_ncc_finish`: no
// bit depends on what else is in the call. NaN marks whatever is not valid, be it a pixel, a row or a column outside
// the image.

#define TILE 32
#define WARPS 4
#define ROWS 40     // rows of the moving image, stretched to the columns of the tile, that a warp keeps
#define STRIDE 33   // between the six sums in shared memory, where lanes then meet no bank twice
#define SUMS 6      // n, r, v, rr, vv, rv
#define PER_LANE 8  // addends per lane: four lanes to each sum
#define FLAT 1e-5   // variance over mean square that rounding to float32 can feign
#define FAR 1.0     // square of a mean over the variance from which an overlap is summed again, about its means
#define FULL_WARP 0xffffffffu

struct Sums {
  float n, r, v, rr, vv, rv;

  // The sums that a sample has a part in.
  __device__ void add_sample(float p, float q) {
    v += q;
    vv = __fmaf_rn(q, q, vv);
    rv = __fmaf_rn(p, q, rv);
  }

  __device__ void add(float p, float q) {
    if ((p < q) || (p >= q)) {  // neither is NaN: one comparison on the device
      n += 1.0f;
      r += p;
      rr = __fmaf_rn(p, p, rr);
      add_sample(p, q);
    }
  }
};

// Where the warp is: tiles run along x, then down.
struct Place {
  int y, x, lane, rows;

  __device__ Place(int tile, int height, int width) : lane(threadIdx.x % 32) {
    const int across = (width + TILE - 1) / TILE;
    y = tile / across * TILE;
    x = tile % across * TILE + lane;
    rows = height - y < TILE ? height - y : TILE;
  }
};

// Sum of each of the six over the lanes: four lanes take eight addends each.
__device__ inline void write_sums(const Sums& s, float* shared, int lane, double* out) {
  __syncwarp();  // what was there has been read
  const float mine[SUMS] = {s.n, s.r, s.v, s.rr, s.vv, s.rv};
#pragma unroll
  for (int i = 0; i < SUMS; ++i) shared[i * STRIDE + lane] = mine[i];
  __syncwarp();
  const int which = lane / 4 < SUMS ? lane / 4 : 0;
  const float* addends = shared + which * STRIDE + lane % 4 * PER_LANE;
  Wide sum;
#pragma unroll
  for (int i = 0; i < PER_LANE; ++i) sum.add(addends[i]);
  for (int d = 2; d > 0; d /= 2) {
    const float high = __shfl_down_sync(FULL_WARP, sum.high, d, 4), low = __shfl_down_sync(FULL_WARP, sum.low, d, 4);
    sum.add(high, low);
  }
  if (lane % 4 == 0 && lane / 4 < SUMS) out[which] = sum.value();
}

// --- diagonal matrices ----------------------------------------------------------------------------------------------

// What a warp of the separable kernel shares.
struct Scratch {
  float stretched[ROWS * 32];
  float4 weights[TILE / 4];
  int2 taps[TILE];
  float sums[SUMS * STRIDE];
};

// Adds the pixels of a lane's column. CONSECUTIVE: each row of the tile begins where the one above it ends. WHOLE:
// nothing is NaN, and the sums of the reference alone have been taken, in the same order.
template <bool CONSECUTIVE, bool WHOLE>
__device__ inline void add_column(const float (&r)[TILE], const Scratch& s, int lane, Sums& sums) {
  const float* column = s.stretched + lane;
  float a = column[s.taps[0].x];
#pragma unroll
  for (int i = 0; i < TILE; i += 4) {
    const float4 four = s.weights[i / 4];
    const float w[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float b;
      if (CONSECUTIVE) {
        b = column[s.taps[0].x + (i + k + 1) * 32];
      } else {
        a = column[s.taps[i + k].x];
        b = column[s.taps[i + k].y];
      }
      const float v = mix(a, b, w[k]);
      if (WHOLE) {
        sums.add_sample(r[i + k], v);
      } else {
        sums.add(r[i + k], v);
      }
      if (CONSECUTIVE) a = b;
    }
  }
}

// Block (b, g) takes WARPS tiles of a group of candidates that agree along x. `problem` and the scale and offset in
// `columns` belong to a group, the matrices to a candidate; the candidates of a group are members[bounds[group]] to
// members[bounds[group + 1]], and their sums are written in that order.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 5)
    affine_ncc_separable(const float* reference, const float* moving, int height, int width, int moving_height,
                         int moving_width, int bits, const i64* problem, const i64* columns, const i64* matrices,
                         const i64* members, const i64* bounds, int n_tiles, i64 first_group, double* partial) {
  __shared__ Scratch scratch[WARPS];
  const int tile = blockIdx.x * WARPS + threadIdx.x / 32;
  if (tile >= n_tiles) return;
  const i64 group = first_group + blockIdx.y;
  Scratch& s = scratch[threadIdx.x / 32];
  const Place at(tile, height, width);
  const float* image = moving + problem[group] * moving_height * moving_width;
  const float* pixels = reference + problem[group] * height * width;

  float r[TILE];
#pragma unroll
  for (int i = 0; i < TILE; ++i) {
    const bool inside = i < at.rows && at.x < width;
    r[i] = inside ? pixels[(at.y + i) * width + at.x] : not_a_number();
  }
  // Of the reference alone.
  Sums alone = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < TILE; ++i) alone.add(r[i], 0.0f);
  const bool full = alone.n == float(TILE);
  const Tap across(columns[2 * group] * at.x + columns[2 * group + 1], bits, moving_width);
  const auto stretch = [&](int row) {
    const float* taps = image + row * moving_width + across.first;
    return mix(taps[0], taps[across.step], across.weight);
  };

  int top = 0, end = 0;  // the rows that are kept now
  bool whole = false;    // the lane has met no NaN in them
  const i64* member = members + bounds[group];
  double* out = partial + ((bounds[group] - bounds[first_group]) * n_tiles + tile) * SUMS;
  for (int left = int(bounds[group + 1] - bounds[group]); left > 0; --left, ++member, out += n_tiles * i64(SUMS)) {
    // One lane for each row of the tile.
    const i64 scale = matrices[6 * *member], offset = matrices[6 * *member + 2];
    const Tap down(scale * (at.y + at.lane) + offset, bits, moving_height);
    const bool valid = down.weight == down.weight;
    // Valid rows are without gaps, because the position is monotone: the first and the last have the extreme taps.
    const u32 lanes = __ballot_sync(FULL_WARP, valid);
    const int one = lanes ? __ffs(lanes) - 1 : 0, other = lanes ? 31 - __clz(lanes) : 0;
    const int y0 = __shfl_sync(FULL_WARP, down.first, one), y1 = __shfl_sync(FULL_WARP, down.first, other);
    const int y2 = __shfl_sync(FULL_WARP, down.first + down.step, one);
    const int y3 = __shfl_sync(FULL_WARP, down.first + down.step, other);
    const int low = min(y0, y1), high = max(y2, y3);
    Sums sums = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    if (high - low >= ROWS) {
      // The moving image is much finer: not worth keeping rows that are used once.
#pragma unroll 1
      for (int i = 0; i < at.rows; ++i) {
        const int a = __shfl_sync(FULL_WARP, down.first, i), b = a + __shfl_sync(FULL_WARP, down.step, i);
        const float w = __shfl_sync(FULL_WARP, down.weight, i);
        if (at.x < width) sums.add(pixels[(at.y + i) * width + at.x], mix(stretch(a), stretch(b), w));
      }
    } else if (lanes) {
      if (low < top || high >= top + ROWS || low > end) {
        top = end = low;
        whole = full;
      }
      for (; end <= high; ++end) {
        const float v = stretch(end);
        s.stretched[(end - top) * 32 + at.lane] = v;
        whole = whole && v == v;
      }
      // Rows that are not valid take any row that is kept: their weight is NaN.
      const int first = valid ? down.first : low;
      const bool plain = valid && down.step == 1 && down.first == low + at.lane;
      // `write_sums` has waited for those who read the last candidate's table.
      reinterpret_cast<float*>(s.weights)[at.lane] = down.weight;
      s.taps[at.lane] = make_int2((first - top) * 32, (first + down.step * int(valid) - top) * 32);
      __syncwarp();
      if (__all_sync(FULL_WARP, plain && whole)) {
        sums.n = float(TILE);
        sums.r = alone.r;
        sums.rr = alone.rr;
        add_column<true, true>(r, s, at.lane, sums);
      } else if (__all_sync(FULL_WARP, plain)) {
        add_column<true, false>(r, s, at.lane, sums);
      } else {
        add_column<false, false>(r, s, at.lane, sums);
      }
    }
    write_sums(sums, s.sums, at.lane, out);
  }
}

// --- any matrix -----------------------------------------------------------------------------------------------------

// Sums of one tile of one candidate, of the differences from p and q.
template <bool ABOUT>
__device__ inline Sums add_tile(const float* pixels, const float* image, const i64* m, int bits, int tile, int height,
                                int width, int moving_height, int moving_width, float p, float q) {
  const Place at(tile, height, width);
  const bool inside = at.x < width;
  pixels += inside ? at.y * width + at.x : 0;
  const i64 step_y = m[0], step_x = m[3];
  i64 position_y = m[2] + m[1] * at.x + step_y * at.y, position_x = m[5] + m[4] * at.x + step_x * at.y;
  Sums sums = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
  for (int i = 0; i < at.rows; ++i, position_y += step_y, position_x += step_x, pixels += width) {
    const Tap down(position_y, bits, moving_height), across(position_x, bits, moving_width);
    const float* upper = image + (down.first * moving_width + across.first);
    const float* lower = upper + moving_width;
    const bool beside = across.step == 1, below = down.step == 1;
    const float upper_left = upper[0], upper_right = beside ? upper[1] : upper_left;
    const float lower_left = below ? lower[0] : upper_left;
    const float lower_right = below ? (beside ? lower[1] : lower_left) : upper_right;
    const float a = mix(upper_left, upper_right, across.weight), b = mix(lower_left, lower_right, across.weight);
    const float v = mix(a, b, down.weight);
    if (inside) sums.add(ABOUT ? pixels[0] - p : pixels[0], ABOUT ? v - q : v);
  }
  return sums;
}

// Block (b, c) takes WARPS tiles of a candidate.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_ncc_general(const float* reference, const float* moving, int height, int width, int moving_height,
                       int moving_width, int bits, const i64* problem, const i64* matrices, const i64* members,
                       int n_tiles, i64 first_member, double* partial) {
  __shared__ float scratch[WARPS][SUMS * STRIDE];
  const int tile = blockIdx.x * WARPS + threadIdx.x / 32;
  if (tile >= n_tiles) return;
  const i64 candidate = members[first_member + blockIdx.y];
  const float* image = moving + problem[candidate] * moving_height * moving_width;
  const float* pixels = reference + problem[candidate] * height * width;
  const Sums sums = add_tile<false>(pixels, image, matrices + 6 * candidate, bits, tile, height, width, moving_height,
                                    moving_width, 0.0f, 0.0f);
  write_sums(sums, scratch[threadIdx.x / 32], threadIdx.x % 32, partial + (i64(blockIdx.y) * n_tiles + tile) * SUMS);
}

// The few candidates that `affine_ncc_finish` has given pivots, of whatever matrix: the blocks (., c) share the tiles
// of one of them.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_ncc_about(const float* reference, const float* moving, int height, int width, int moving_height,
                     int moving_width, int bits, const i64* problem, const i64* matrices, const i64* members,
                     int n_tiles, i64 first_member, const float* pivots, double* partial) {
  __shared__ float scratch[WARPS][SUMS * STRIDE];
  const i64 candidate = members[first_member + blockIdx.y];
  const float p = pivots[2 * candidate], q = pivots[2 * candidate + 1];
  if (p == 0.0f && q == 0.0f) return;
  const float* image = moving + problem[candidate] * moving_height * moving_width;
  const float* pixels = reference + problem[candidate] * height * width;
  for (int tile = blockIdx.x * WARPS + threadIdx.x / 32; tile < n_tiles; tile += gridDim.x * WARPS) {
    const Sums sums = add_tile<true>(pixels, image, matrices + 6 * candidate, bits, tile, height, width, moving_height,
                                     moving_width, p, q);
    write_sums(sums, scratch[threadIdx.x / 32], threadIdx.x % 32, partial + (i64(blockIdx.y) * n_tiles + tile) * SUMS);
  }
}

// --- coefficient ----------------------------------------------------------------------------------------------------

// One warp per candidate: lane l adds the tiles l, l + 32, ..., and then the lanes are added. A candidate whose means
// are far from 0, where float32 loses digits, is given them as pivots, the others 0; `again`: those alone are done,
// from sums about their pivots.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_ncc_finish(const double* partial, int n_tiles, const i64* members, i64 first_member, int n_members,
                      int again, float* pivots, double* scores, i64* overlap) {
  const int m = blockIdx.x * WARPS + threadIdx.x / 32;
  if (m >= n_members) return;
  const int lane = threadIdx.x % 32;
  const i64 candidate = members[first_member + m];
  const double p = again ? double(pivots[2 * candidate]) : 0.0, q = again ? double(pivots[2 * candidate + 1]) : 0.0;
  if (again && p == 0.0 && q == 0.0) return;
  double s[SUMS] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (int tile = lane; tile < n_tiles; tile += 32) {
#pragma unroll
    for (int i = 0; i < SUMS; ++i) s[i] += partial[(i64(m) * n_tiles + tile) * SUMS + i];
  }
  for (int d = 16; d > 0; d /= 2) {
#pragma unroll
    for (int i = 0; i < SUMS; ++i) s[i] += __shfl_down_sync(FULL_WARP, s[i], d);
  }
  if (lane > 0) return;
  const double n = s[0];
  double score = 0.0;
  bool far = false;
  if (n > 0.0) {
    const double cov = s[5] - s[1] * s[2] / n;
    const double var_r = s[3] - s[1] * s[1] / n;
    const double var_v = s[4] - s[2] * s[2] / n;
    far = s[1] * s[1] > FAR * n * var_r || s[2] * s[2] > FAR * n * var_v;
    const double square_r = s[3] + p * (2.0 * s[1] + p * n), square_v = s[4] + q * (2.0 * s[2] + q * n);
    // What rounding to float32 leaves of a constant overlap is not variance.
    if (var_r > FLAT * square_r && var_v > FLAT * square_v && var_r > 0.0 && var_v > 0.0) {
      score = fmin(1.0, fmax(-1.0, cov / sqrt(var_r * var_v)));
    }
  }
  scores[candidate] = score;
  overlap[candidate] = i64(n);
  if (!again) {
    pivots[2 * candidate] = far ? float(s[1] / n) : 0.0f;
    pivots[2 * candidate + 1] = far ? float(s[2] / n) : 0.0f;
  }
}
