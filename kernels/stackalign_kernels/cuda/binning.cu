// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// Means of the valid pixels of blocks, one thread per block of pixels. Compile without fused multiply-add.

template <typename T>
struct RealOf {
  typedef float Type;
};
template <>
struct RealOf<double> {
  typedef double Type;
};
typedef RealOf<ELEMENT>::Type Real;

// Columns are added first, then along x. Bins run along x, then down, then from image to image.
extern "C" __global__ void __launch_bounds__(256)
    bin_mean(const ELEMENT* images, const u8* mask, long long mask_frames, long long n_bins, int height, int width,
             int fy, int fx, Real* means, long long* counts) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_bins) return;
  const int across = width / fx, down = height / fy;
  const long long n = i / ((long long)across * down);
  const int by = int(i / across % down), bx = int(i % across);
  const Frame f = frame_of(images, mask, mask_frames, n, height, width);
  double sum = 0.0;
  long long count = 0;
  for (int x = bx * fx; x < bx * fx + fx; ++x) {
    double column = 0.0;
    for (int y = by * fy; y < by * fy + fy; ++y) {
      const long long k = (long long)y * width + x;
      const ELEMENT v = f.pixels[k];
      if ((f.mask == nullptr || f.mask[k]) && Element::valid(v)) {
        column += widened<double>(v);
        ++count;
      }
    }
    sum += column;
  }
  counts[i] = count;
  means[i] = count > 0 ? Real(sum / double(count)) : Real(nan(""));
}
