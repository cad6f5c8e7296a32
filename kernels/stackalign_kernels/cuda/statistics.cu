// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Statistics of each pixel over the frames of a stack, one thread per pixel, frames in order. Compile without fused
// multiply-add, so that the sums have the same bits as on the host.

#define BATCH 8  // frames whose loads are in flight together

extern "C" __global__ void __launch_bounds__(256, 4)
    stack_statistics(const ELEMENT* stack, const u8* mask, long long mask_frames, long long n_frames,
                     long long n_pixels, long long* count, double* minimum, double* maximum, double* mean, double* m2) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_pixels) return;
  const long long mask_step = mask_frames == 1 ? 0 : n_pixels;
  const auto read = [&](long long n, ELEMENT* v, bool* ok) {
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      ok[k] = n + k < n_frames;
      v[k] = ok[k] ? stack[(n + k) * n_pixels + i] : ELEMENT(0);
      if (mask_frames != 0 && ok[k]) ok[k] = mask[(n + k) * mask_step + i] != 0;
    }
  };
  ELEMENT v[BATCH];
  bool ok[BATCH];
  ELEMENT low = Element::highest(), high = Element::lowest();
  long long c = 0;
  double sum = 0.0;
  for (long long n = 0; n < n_frames; n += BATCH) {
    read(n, v, ok);
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      if (ok[k] && Element::valid(v[k])) {
        ++c;
        sum += widened<double>(v[k]);
        if (v[k] < low) low = v[k];
        if (v[k] > high) high = v[k];
      }
    }
  }
  const double average = c > 0 ? sum / double(c) : 0.0;
  double squares = 0.0;
  for (long long n = 0; n < n_frames; n += BATCH) {
    read(n, v, ok);
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      const double d = widened<double>(v[k]) - average;
      if (ok[k] && Element::valid(v[k])) squares += d * d;
    }
  }
  count[i] = c;
  minimum[i] = c > 0 ? widened<double>(low) : nan("");
  maximum[i] = c > 0 ? widened<double>(high) : nan("");
  mean[i] = average;
  m2[i] = squares;
}
