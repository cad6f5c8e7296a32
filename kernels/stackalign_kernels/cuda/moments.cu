// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Sums of p, p*dy*dy, p*dy*dx and p*dx*dx over each pattern: a block takes one pattern after the other, a warp every
// eighth row, and a row adds up its own sums before the distance along y is known to it.

extern "C" __global__ void __launch_bounds__(256)
    second_moments(const ELEMENT* patterns, const u8* mask, long long mask_frames, long long n_patterns, int height,
                   int width, const double* centers, double* out) {
  __shared__ double scratch[256];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (long long n = blockIdx.x; n < n_patterns; n += gridDim.x) {
    const Frame f = frame_of(patterns, mask, mask_frames, n, height, width);
    const double cy = centers[2 * n], cx = centers[2 * n + 1];
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    for (int y = warp; y < height; y += warps) {
      const double dy = double(y) - cy;
      double s0 = 0.0, s1 = 0.0;
      for (int x = lane; x < width; x += 32) {
        const double v = widened<double>(f.at((long long)y * width + x));
        const double dx = double(x) - cx, first = v * dx;
        s0 += v;
        s1 += first;
        sums[3] += first * dx;
      }
      sums[0] += s0;
      sums[1] += dy * dy * s0;
      sums[2] += dy * s1;
    }
    for (int k = 0; k < 4; ++k) {
      const double sum = block_sum(sums[k], scratch);
      if (threadIdx.x == 0) out[4 * n + k] = sum;
    }
  }
}
