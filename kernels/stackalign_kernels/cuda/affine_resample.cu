// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Images sampled through pull matrices, orders 0, 1 and 3. Compile without fused multiply-add: coordinates have the
// bits that the backend protocol gives them. A warp takes 32 pixels of a row, a block a few rows below each other.

// Integers become float32, float64 stays.
template <typename T>
struct RealOf {
  typedef float Type;
};
template <>
struct RealOf<double> {
  typedef double Type;
};
typedef RealOf<ELEMENT>::Type Real;

#define WARPS 8

__device__ inline Real invalid() { return Real(nan("")); }
__device__ inline Real finite_or_nan(Real v) { return Traits<Real>::valid(v) ? v : invalid(); }

// Which pixel of which output the thread has, and where it is sampled.
struct Sample {
  bool exists, inside;
  long long output;
  double y, x;

  __device__ Sample(const double* matrices, long long first, int height, int width, int out_height, int out_width)
      : inside(false), y(0.0), x(0.0) {
    const int across = (out_width + 31) / 32;
    const int py = blockIdx.x / across * WARPS + threadIdx.x / 32, px = blockIdx.x % across * 32 + threadIdx.x % 32;
    exists = py < out_height && px < out_width;
    const long long n = first + blockIdx.y;
    output = (n * out_height + py) * out_width + px;
    if (exists) {
      const double* m = matrices + 6 * n;
      y = (m[0] * double(py) + m[2]) + m[1] * double(px);
      x = (m[3] * double(py) + m[5]) + m[4] * double(px);
      inside = y >= 0.0 && y <= double(height - 1) && x >= 0.0 && x <= double(width - 1);
    }
  }
};

// Infinity is found in what comes of it.
__device__ inline Real pixel(const Frame& f, long long i) {
  return f.mask == nullptr || f.mask[i] ? Real(f.pixels[i]) : invalid();
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    resample_nearest(const ELEMENT* images, const u8* mask, long long mask_frames, long long n_images, int height,
                     int width, const double* matrices, long long first, int out_height, int out_width, Real* out) {
  const Sample s(matrices, first, height, width, out_height, out_width);
  if (!s.exists) return;
  const Frame f = frame_of(images, mask, mask_frames, n_images == 1 ? 0 : first + blockIdx.y, height, width);
  Real v = invalid();
  if (s.inside) v = finite_or_nan(pixel(f, (long long)floor(s.y + 0.5) * width + (long long)floor(s.x + 0.5)));
  out[s.output] = v;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    resample_linear(const ELEMENT* images, const u8* mask, long long mask_frames, long long n_images, int height,
                    int width, const double* matrices, long long first, int out_height, int out_width, Real* out) {
  const Sample s(matrices, first, height, width, out_height, out_width);
  if (!s.exists) return;
  Real v = invalid();
  if (s.inside) {
    const Frame f = frame_of(images, mask, mask_frames, n_images == 1 ? 0 : first + blockIdx.y, height, width);
    const double y0 = floor(s.y), x0 = floor(s.x);
    const Real wy = Real(s.y - y0), wx = Real(s.x - x0);
    // A tap of weight 0 is no tap: neither a NaN nor the border beside an exact hit matters.
    const long long upper = (long long)y0 * width + (long long)x0;
    const long long lower = upper + (wy == Real(0) ? 0 : width);
    const int beside = wx == Real(0) ? 0 : 1;
    const Real a = pixel(f, upper), b = pixel(f, upper + beside), c = pixel(f, lower), d = pixel(f, lower + beside);
    const Real top = a + wx * (b - a), low = c + wx * (d - c);
    v = finite_or_nan(top + wy * (low - top));
  }
  out[s.output] = v;
}

__device__ inline int mirror(int i, int size) {
  const int period = size > 1 ? 2 * size - 2 : 1;
  const int k = (i < 0 ? -i : i) % period;
  return k < size ? k : period - k;
}

__device__ inline void cubic_weights(Real f, Real* w) {
  const Real g = Real(1) - f;
  w[0] = g * g * g / Real(6);
  w[1] = (f * f * (f - Real(2)) * Real(3) + Real(4)) / Real(6);
  w[2] = (g * g * (g - Real(2)) * Real(3) + Real(4)) / Real(6);
  w[3] = f * f * f / Real(6);
}

// `coefficients` of the spline, NaN where a pixel is not valid.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    resample_cubic(const ELEMENT* coefficients, long long n_images, int height, int width, const double* matrices,
                   long long first, int out_height, int out_width, Real* out) {
  const Sample s(matrices, first, height, width, out_height, out_width);
  if (!s.exists) return;
  Real v = invalid();
  if (s.inside) {
    const ELEMENT* plane = coefficients + (n_images == 1 ? 0 : first + blockIdx.y) * height * width;
    const double y0 = floor(s.y), x0 = floor(s.x);
    Real wy[4], wx[4];
    cubic_weights(Real(s.y - y0), wy);
    cubic_weights(Real(s.x - x0), wx);
    v = Real(0);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (wy[i] == Real(0)) continue;
      const ELEMENT* row = plane + (long long)mirror(int(y0) + i - 1, height) * width;
      Real sum = Real(0);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (wx[j] != Real(0)) sum += wx[j] * Real(row[mirror(int(x0) + j - 1, width)]);
      }
      v += wy[i] * sum;
    }
    v = finite_or_nan(v);
  }
  out[s.output] = v;
}

// Fills what is not finite along lines of float64 numbers, linearly between the finite ones and constant beyond them; a
// line without any stays as it is. Line l of a plane begins at l * between, and its numbers are `step` apart.
extern "C" __global__ void __launch_bounds__(256)
    resample_fill(double* planes, long long n_planes, long long plane_size, int n_lines, long long between, int length,
                  long long step) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_planes * n_lines) return;
  double* line = planes + i / n_lines * plane_size + i % n_lines * between;
  int known = -1;  // the last finite one
  for (int k = 0; k < length; ++k) {
    if (!Traits<double>::valid(line[k * step])) continue;
    const double b = line[k * step], a = known < 0 ? b : line[known * step];
    const double slope = (b - a) / double(k - known);
    for (int j = known + 1; j < k; ++j) line[j * step] = known < 0 ? b : a + slope * double(j - known);
    known = k;
  }
  if (known < 0) return;
  for (int j = known + 1; j < length; ++j) line[j * step] = line[known * step];
}
