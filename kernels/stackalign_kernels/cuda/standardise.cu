// SPDX-License-Identifier: BSD-3-Clause
// Planes centred and scaled, and smoothed by fitting a plane about each pixel, all in float64. A warp adds up a row
// and another the rows of an image, in a fixed order: sums do not depend on how many images a call is given.

#define WARPS 8
#define FULL_WARP 0xffffffffu

typedef long long i64;

__device__ inline double warp_total(double v) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(FULL_WARP, v, d);
  return __shfl_sync(FULL_WARP, v, 0);
}

// Of each row: valid pixels, their mean and the sum of the squares of their deviations from it. NaN is not valid.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    standardise_rows(const double* values, i64 n_rows, int width, double* sums) {
  const i64 row = i64(blockIdx.x) * WARPS + threadIdx.x / 32;
  if (row >= n_rows) return;
  const int lane = threadIdx.x % 32;
  const double* pixels = values + row * width;
  double n = 0.0, total = 0.0, squares = 0.0;
  for (int x = lane; x < width; x += 32) {
    const double v = pixels[x];
    if (v == v) {
      n += 1.0;
      total += v;
    }
  }
  n = warp_total(n);
  total = warp_total(total);
  const double mean = n > 0.0 ? total / n : 0.0;
  for (int x = lane; x < width; x += 32) {
    const double d = pixels[x] - mean;
    if (d == d) squares += d * d;
  }
  squares = warp_total(squares);
  if (lane == 0) {
    sums[3 * row] = n;
    sums[3 * row + 1] = mean;
    sums[3 * row + 2] = squares;
  }
}

// Of each image, one warp: valid pixels, mean and deviation.
extern "C" __global__ void __launch_bounds__(32) standardise_moments(const double* sums, int height, double* moments) {
  const double* rows = sums + 3 * i64(blockIdx.x) * height;
  double n = 0.0, total = 0.0, squares = 0.0;
  for (int y = threadIdx.x; y < height; y += 32) {
    n += rows[3 * y];
    total += rows[3 * y] * rows[3 * y + 1];
  }
  n = warp_total(n);
  const double some = n > 0.0 ? n : 1.0;
  const double mean = warp_total(total) / some;
  for (int y = threadIdx.x; y < height; y += 32) {
    const double d = rows[3 * y + 1] - mean;
    squares += rows[3 * y + 2] + rows[3 * y] * d * d;
  }
  squares = warp_total(squares);
  if (threadIdx.x == 0) {
    double* out = moments + 3 * i64(blockIdx.x);
    out[0] = n;
    out[1] = mean;
    out[2] = sqrt(squares / some);
  }
}

// Moments along x about each pixel, with weights at the distances 0 .. radius times the powers of the distance: three
// of the mask, two of the deviations from the mean. An image's are planes of `size` pixels, one after the other.
extern "C" __global__ void __launch_bounds__(256)
    standardise_along(const double* values, const double* moments, const double* weights, int radius, i64 n_pixels,
                      i64 size, int width, double* along) {
  const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n_pixels) return;
  const i64 image = i / size;
  const int x = int(i % width);
  const double mean = moments[3 * image + 1];
  const double *one = weights, *t = weights + radius + 1, *tt = weights + 2 * (radius + 1);
  const int first = x < radius ? -x : -radius, last = width - 1 - x < radius ? width - 1 - x : radius;
  double n = 0.0, m = 0.0, mm = 0.0, v = 0.0, mv = 0.0;
  for (int k = first; k <= last; ++k) {
    const double d = values[i + k] - mean;
    if (d == d) {
      const int at = k < 0 ? -k : k;
      const double odd = k < 0 ? -t[at] : t[at];
      n += one[at];
      m += odd;
      mm += tt[at];
      v += one[at] * d;
      mv += odd * d;
    }
  }
  double* out = along + 5 * size * image + i % size;
  out[0] = n;
  out[size] = m;
  out[2 * size] = mm;
  out[3 * size] = v;
  out[4 * size] = mv;
}

// The value at each valid pixel of the plane that fits the valid pixels around it, from their moments along x.
extern "C" __global__ void __launch_bounds__(256)
    standardise_plane(const double* values, const double* along, const double* moments, const double* weights,
                      int radius, double ridge, i64 n_pixels, int height, int width, double* fitted) {
  const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n_pixels) return;
  if (!(values[i] == values[i])) {
    fitted[i] = values[i];
    return;
  }
  const i64 size = i64(height) * width, image = i / size;
  const int row = int(i % size / width);
  const double *one = weights, *t = weights + radius + 1, *tt = weights + 2 * (radius + 1);
  const int first = row < radius ? -row : -radius, last = height - 1 - row < radius ? height - 1 - row : radius;
  double n = 0.0, y = 0.0, x = 0.0, yy = 0.0, xx = 0.0, yx = 0.0, mean = 0.0, along_y = 0.0, along_x = 0.0;
  for (int k = first; k <= last; ++k) {
    const double* from = along + 5 * size * image + i % size + i64(k) * width;
    const int at = k < 0 ? -k : k;
    const double odd = k < 0 ? -t[at] : t[at];
    n += one[at] * from[0];
    y += odd * from[0];
    yy += tt[at] * from[0];
    x += one[at] * from[size];
    yx += odd * from[size];
    xx += one[at] * from[2 * size];
    mean += one[at] * from[3 * size];
    along_y += odd * from[3 * size];
    along_x += one[at] * from[4 * size];
  }
  const double c = 1.0 / n;
  y *= c;
  x *= c;
  mean *= c;
  yy = yy * c - y * y + ridge;
  xx = xx * c - x * x + ridge;
  yx = yx * c - y * x;
  along_y = along_y * c - y * mean;
  along_x = along_x * c - x * mean;
  const double determinant = yy * xx - yx * yx;
  const double slope_y = (xx * along_y - yx * along_x) / determinant;
  const double slope_x = (yy * along_x - yx * along_y) / determinant;
  fitted[i] = mean - slope_y * y - slope_x * x + moments[3 * image + 1];
}

extern "C" __global__ void __launch_bounds__(256)
    standardise_scale(const double* values, const double* moments, const double* factors, i64 n_pixels, i64 size,
                      float* out) {
  const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n_pixels) return;
  const i64 image = i / size;
  out[i] = float((values[i] - moments[3 * image + 1]) * factors[image]);
}
