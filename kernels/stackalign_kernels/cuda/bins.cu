// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Sums of the pixels of images over bins, entries sorted by bin, one warp per bin and image: lanes take entries in
// turns and halve their sums in a fixed order. Compile without fused multiply-add.

__device__ inline double sum_to_all(double v) { return __shfl_sync(FULL_WARP, warp_sum(v), 0); }

extern "C" __global__ void __launch_bounds__(256)
    bin_sums(const ELEMENT* images, const u8* mask, long long mask_frames, long long first_image, long long n_pixels,
             long long n_bins, const long long* starts, const int* pixels, const float* weights, int weighted,
             double* weight, double* mean, double* m2) {
  const int lane = threadIdx.x % 32;
  const long long b = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (b >= n_bins) return;  // the whole warp
  const long long n = first_image + blockIdx.y;
  const ELEMENT* image = images + n * n_pixels;
  const u8* valid = mask_frames == 0 ? nullptr : mask + (mask_frames == 1 ? 0 : n * n_pixels);
  const long long end = starts[b + 1];
  double total = 0.0, sum = 0.0;
  for (long long i = starts[b] + lane; i < end; i += 32) {
    const int p = pixels[i];
    const ELEMENT v = image[p];
    if ((valid == nullptr || valid[p]) && Element::valid(v)) {
      const double w = weighted ? widened<double>(weights[i]) : 1.0;
      total += w;
      sum += w * widened<double>(v);
    }
  }
  total = sum_to_all(total);
  sum = sum_to_all(sum);
  const double middle = total > 0.0 ? sum / total : nan("");
  double squares = 0.0;
  for (long long i = starts[b] + lane; i < end; i += 32) {
    const int p = pixels[i];
    const ELEMENT v = image[p];
    if ((valid == nullptr || valid[p]) && Element::valid(v)) {
      const double w = weighted ? widened<double>(weights[i]) : 1.0;
      const double d = widened<double>(v) - middle;
      if (w > 0.0) squares += w * d * d;
    }
  }
  squares = sum_to_all(squares);
  if (lane == 0) {
    weight[n * n_bins + b] = total;
    mean[n * n_bins + b] = middle;
    m2[n * n_bins + b] = squares;
  }
}
