// SPDX-License-Identifier: BSD-3-Clause
// Masked normalised cross-correlation from correlation planes, and the highest score of each map. Planes are float32
// but for the overlap, which is int32; their rows and columns are shifts. Twin of ``cpu/masked_ncc.py``.

#define THREADS 256
#define EMPTY -2.0f
#define FULL_WARP 0xffffffffu

typedef long long i64;

__device__ inline float not_a_number() { return __int_as_float(0x7fc00000); }

// The planes of one image; a lag is a row and a column in them.
struct Planes {
  const int* n;
  const float *mean_r, *var_r, *rv, *v, *vv;
  int pitch, least;
  float flat_r, flat_v;

  __device__ float score(int row, int column, int least_overlap) const {
    const i64 i = (i64)row * pitch + column;
    const int count = n[i];
    const float sum_v = v[i], mean_v = sum_v / float(count > 0 ? count : 1);
    const float covariance = rv[i] - mean_r[i] * sum_v;
    const float var_v = vv[i] - mean_v * sum_v;
    if (!(count >= least_overlap && var_r[i] > flat_r && var_v > flat_v)) return 0.0f;
    const float s = covariance / sqrtf(var_r[i] * var_v);
    return s > 1.0f ? 1.0f : s < -1.0f ? -1.0f : s;
  }
};

// `fixed_step` is 0 where all images share the planes n, mean_r and var_r. `flat` holds two numbers per image.
__device__ inline Planes planes_of(int image, const int* n, const float* mean_r, const float* var_r, const float* rv,
                                   const float* v, const float* vv, i64 fixed_step, i64 step, int pitch,
                                   const int* least, const float* flat) {
  Planes p;
  p.n = n + image * fixed_step;
  p.mean_r = mean_r + image * fixed_step;
  p.var_r = var_r + image * fixed_step;
  p.rv = rv + image * step;
  p.v = v + image * step;
  p.vv = vv + image * step;
  p.pitch = pitch;
  p.least = least[image];
  p.flat_r = flat[2 * image];
  p.flat_v = flat[2 * image + 1];
  return p;
}

// Scores of the lags whose planes begin at (row, column), height x width of them, written to maps of `out_pitch`
// columns and `out_step` elements from element `out_first` on. Block (b, image): one thread per lag.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    masked_ncc_scores(const int* n, const float* mean_r, const float* var_r, const float* rv, const float* v,
                      const float* vv, i64 fixed_step, i64 step, int pitch, const int* least, const float* flat,
                      int row, int column, int height, int width, float* out, i64 out_first, i64 out_step,
                      int out_pitch) {
  const i64 lag = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (lag >= (i64)height * width) return;
  const int image = blockIdx.y, y = int(lag / width), x = int(lag % width);
  const Planes p = planes_of(image, n, mean_r, var_r, rv, v, vv, fixed_step, step, pitch, least, flat);
  out[out_first + image * out_step + (i64)y * out_pitch + x] = p.score(row + y, column + x, p.least);
}

// A score and where it is; the first of equal ones wins.
struct Best {
  float score;
  int at;

  __device__ void meet(float other, int place) {
    if (other > score || (other == score && place < at)) {
      score = other;
      at = place;
    }
  }

  __device__ void meet_lanes() {
    for (int d = 16; d > 0; d /= 2) {
      const float other = __shfl_down_sync(FULL_WARP, score, d);
      const int place = __shfl_down_sync(FULL_WARP, at, d);
      meet(other, place);
    }
  }
};

// Best of the block, in thread 0.
__device__ inline Best block_best(Best b) {
  __shared__ float scores[THREADS / 32];
  __shared__ int places[THREADS / 32];
  b.meet_lanes();
  if (threadIdx.x % 32 == 0) {
    scores[threadIdx.x / 32] = b.score;
    places[threadIdx.x / 32] = b.at;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < int(blockDim.x) / 32; ++w) b.meet(scores[w], places[w]);
  }
  return b;
}

// Block (strip, image): the best of one of the strips of a map of `size` scores.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    masked_ncc_strips(const float* scores, int size, float* best, int* place) {
  const int strips = gridDim.x, length = (size + strips - 1) / strips, first = blockIdx.x * length;
  const int last = first + length < size ? first + length : size;
  const float* map = scores + (i64)blockIdx.y * size;
  Best b = {EMPTY, size};
  for (int i = first + int(threadIdx.x); i < last; i += blockDim.x) b.meet(map[i], i);
  b = block_best(b);
  if (threadIdx.x == 0) {
    best[blockIdx.y * strips + blockIdx.x] = b.score;
    place[blockIdx.y * strips + blockIdx.x] = b.at;
  }
}

// Block (ring, image): the highest score at a distance of `ring` from the best one, among the lags low_y..high_y and
// low_x..high_x. Those that the map of height x width scores lacks, which begins at the lag (top, left), have a score
// of 0. The block of ring 0 also writes what the best one is, and `anchor` where it is not above 0.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    masked_ncc_rings(const float* scores, const float* best, const int* place, int strips, int height, int width,
                     int top, int left, int low_y, int low_x, int high_y, int high_x, int anchor_y, int anchor_x,
                     i64* lags, float* peaks, float* rings) {
  __shared__ float peak;
  __shared__ int at;
  const int image = blockIdx.y, k = blockIdx.x;
  if (threadIdx.x < 32) {
    Best b = {EMPTY, height * width};
    for (int i = threadIdx.x; i < strips; i += 32) b.meet(best[image * strips + i], place[image * strips + i]);
    b.meet_lanes();
    if (threadIdx.x == 0) {
      peak = b.score;
      at = b.at;
    }
  }
  __syncthreads();
  const bool found = peak > 0.0f;
  const int y = top + at / width, x = left + at % width;
  if (k == 0 && threadIdx.x == 0) {
    lags[2 * image] = found ? y : anchor_y;
    lags[2 * image + 1] = found ? x : anchor_x;
    peaks[image] = found ? peak : 0.0f;
  }
  const float* map = scores + (i64)image * height * width;
  Best b = {EMPTY, 0};
  // Two rows of 2k + 1 lags, and two columns of 2k - 1 between them.
  const int side = 2 * k + 1, count = k == 0 ? 1 : 8 * k;
  for (int i = threadIdx.x; found && i < count; i += blockDim.x) {
    int dy, dx;
    if (i < 2 * side) {
      dy = i < side ? -k : k;
      dx = i % side - k;
    } else {
      dy = (i - 2 * side) / 2 - k + 1;
      dx = i % 2 ? k : -k;
    }
    const int ly = y + dy, lx = x + dx;
    if (ly < low_y || ly > high_y || lx < low_x || lx > high_x) continue;
    const int row = ly - top, column = lx - left;
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    b.meet(inside ? map[(i64)row * width + column] : 0.0f, 0);
  }
  b = block_best(b);
  if (threadIdx.x == 0) rings[(i64)image * gridDim.x + k] = b.score;
}

// Block (image): the overlap at its best lag, and the scores around it whatever their overlap is; NaN where no score
// is above 0, and beyond the lags top..bottom and left..right, whose planes begin at (row, column).
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    masked_ncc_neighbours(const int* n, const float* mean_r, const float* var_r, const float* rv, const float* v,
                          const float* vv, i64 fixed_step, i64 step, int pitch, const int* least, const float* flat,
                          int row, int column, int top, int left, int bottom, int right, const i64* lags,
                          const float* peaks, int reach, i64* overlap, float* neighbours) {
  const int image = blockIdx.x, side = 2 * reach + 1;
  const Planes p = planes_of(image, n, mean_r, var_r, rv, v, vv, fixed_step, step, pitch, least, flat);
  const bool found = peaks[image] > 0.0f;
  const int y = int(lags[2 * image]), x = int(lags[2 * image + 1]);
  if (threadIdx.x == 0) overlap[image] = found ? p.n[(i64)(row + y - top) * pitch + column + x - left] : 0;
  for (int i = threadIdx.x; i < side * side; i += blockDim.x) {
    const int ly = y + i / side - reach, lx = x + i % side - reach;
    const bool known = found && ly >= top && ly <= bottom && lx >= left && lx <= right;
    neighbours[(i64)image * side * side + i] = known ? p.score(row + ly - top, column + lx - left, 1) : not_a_number();
  }
}
