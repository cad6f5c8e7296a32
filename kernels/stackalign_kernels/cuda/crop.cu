// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Copy a window out of each pattern, zeros outside the frame, and add up its valid pixels on the way.

extern "C" __global__ void __launch_bounds__(256)
    crop_windows(const ELEMENT* patterns, const u8* mask, long long mask_frames, long long n_patterns, int height,
                 int width, const long long* corners, int window_height, int window_width, ELEMENT* windows,
                 Acc* sums) {
  __shared__ Acc scratch[256];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (long long n = blockIdx.x; n < n_patterns; n += gridDim.x) {
    const Frame f = frame_of(patterns, mask, mask_frames, n, height, width);
    const long long top = corners[2 * n], left = corners[2 * n + 1];
    Acc sum = 0;
    for (int wy = warp; wy < window_height; wy += warps) {
      const long long y = top + wy;
      const bool in_rows = y >= 0 && y < height;
      ELEMENT* out = windows + (n * window_height + wy) * window_width;
#pragma unroll 4
      for (int wx = lane; wx < window_width; wx += 32) {
        const long long x = left + wx;
        const bool inside = in_rows && x >= 0 && x < width;
        const long long i = y * width + x;
        const ELEMENT v = inside ? f.pixels[i] : ELEMENT(0);
        const bool good = inside && (f.mask == nullptr || f.mask[i]) && Element::valid(v);
        out[wx] = v;
        sum += widened<Acc>(good ? v : ELEMENT(0));
      }
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[n] = sum;
  }
}
