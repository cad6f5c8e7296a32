// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Mean of an image over several affine transforms, made of what is valid; a thread per pixel. Compile without fused
// multiply-add: coordinates have the bits that the backend protocol gives them.

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

// Adds a tap and its weight where the pixel is valid.
__device__ inline void add_tap(const Frame& f, long long i, Real w, Real& sum, Real& weight) {
  if (w == Real(0) || (f.mask != nullptr && !f.mask[i])) return;
  const Real v = Real(f.pixels[i]);
  if (!Traits<Real>::valid(v)) return;
  sum += w * v;
  weight += w;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    affine_average(const ELEMENT* images, const u8* mask, long long mask_frames, long long first, int height, int width,
                   const double* matrices, int n_transforms, int for_all, Real least, Real* out) {
  const int across = (width + 31) / 32;
  const int py = blockIdx.x / across * WARPS + threadIdx.x / 32, px = blockIdx.x % across * 32 + threadIdx.x % 32;
  if (py >= height || px >= width) return;
  const long long n = first + blockIdx.y;
  const Frame f = frame_of(images, mask, mask_frames, n, height, width);
  const double* m = matrices + (for_all ? 0 : n * n_transforms * 6);
  Real total = Real(0), weight = Real(0);
  for (int t = 0; t < n_transforms; ++t, m += 6) {
    const double y = (m[0] * double(py) + m[2]) + m[1] * double(px);
    const double x = (m[3] * double(py) + m[5]) + m[4] * double(px);
    if (!(y >= 0.0 && y <= double(height - 1) && x >= 0.0 && x <= double(width - 1))) continue;
    const double y0 = floor(y), x0 = floor(x);
    const Real fy = Real(y - y0), fx = Real(x - x0), gy = Real(1) - fy, gx = Real(1) - fx;
    const long long upper = (long long)y0 * width + (long long)x0;
    Real sum = Real(0), part = Real(0);
    add_tap(f, upper, gy * gx, sum, part);
    add_tap(f, upper + 1, gy * fx, sum, part);
    add_tap(f, upper + width, fy * gx, sum, part);
    add_tap(f, upper + width + 1, fy * fx, sum, part);
    total += sum;
    weight += part;
  }
  const Real v = weight >= least ? total / weight : Real(nan(""));
  out[(n * height + py) * width + px] = Traits<Real>::valid(v) ? v : Real(nan(""));
}
