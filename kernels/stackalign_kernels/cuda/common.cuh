// SPDX-License-Identifier: BSD-3-Clause
// What every kernel shares: element types, validity of a pixel, sums over a block. ELEMENT comes from the command line.

#ifndef __CUDA_HOST_SHIM__
#define DYN_SHARED(T, n) extern __shared__ T n[]
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef short i16;
typedef int i32;
typedef float f32;
typedef double f64;

#define FULL_WARP 0xffffffffu

// Element types. Acc holds the sum of a pattern, Group that of 8 rows with their weights, Prefix the sum of the top of
// a column and Chord that of a part of a column. Prefixes of small integers wrap around, which their differences do not
// feel as long as a chord fits 32 bits: up to 65535 rows.
template <typename T>
struct Traits;

template <typename AccT, typename GroupT, typename PrefixT, typename ChordT>
struct IntegerTraits {
  typedef AccT Acc;
  typedef GroupT Group;
  typedef PrefixT Prefix;
  typedef ChordT Chord;
  static constexpr bool is_float = false;
  template <typename T>
  static __device__ bool valid(T) {
    return true;
  }
};

struct FloatTraits {
  typedef double Acc;
  typedef double Group;
  typedef double Prefix;
  typedef double Chord;
  static constexpr bool is_float = true;
};

template <>
struct Traits<u8> : IntegerTraits<long long, int, unsigned int, unsigned int> {
  static __device__ u8 lowest() { return 0; }
  static __device__ u8 highest() { return 255; }
};
template <>
struct Traits<u16> : IntegerTraits<long long, int, unsigned int, unsigned int> {
  static __device__ u16 lowest() { return 0; }
  static __device__ u16 highest() { return 65535; }
};
template <>
struct Traits<i16> : IntegerTraits<long long, int, unsigned int, int> {
  static __device__ i16 lowest() { return -32768; }
  static __device__ i16 highest() { return 32767; }
};
template <>
struct Traits<u32> : IntegerTraits<long long, long long, long long, long long> {
  static __device__ u32 lowest() { return 0; }
  static __device__ u32 highest() { return 4294967295u; }
};
template <>
struct Traits<i32> : IntegerTraits<long long, long long, long long, long long> {
  static __device__ i32 lowest() { return -2147483647 - 1; }
  static __device__ i32 highest() { return 2147483647; }
};
template <>
struct Traits<f32> : FloatTraits {
  static __device__ f32 lowest() { return -3.402823466385288598e+38f; }
  static __device__ f32 highest() { return 3.402823466385288598e+38f; }
  static __device__ bool valid(f32 v) { return v >= lowest() && v <= highest(); }  // false for NaN
};
template <>
struct Traits<f64> : FloatTraits {
  static __device__ f64 lowest() { return -1.797693134862315708e+308; }
  static __device__ f64 highest() { return 1.797693134862315708e+308; }
  static __device__ bool valid(f64 v) { return v >= lowest() && v <= highest(); }
};

// A pixel or a weight in a wider type. A subnormal float32 stays what it is, whatever the compiler was told about them.
template <typename To, typename T>
__device__ __forceinline__ To widened(T v) {
  return To(v);
}
template <typename To>
__device__ __forceinline__ To widened(f32 v) {
#ifdef __CUDA_HOST_SHIM__
  return To(v);
#else
  f64 wide;
  asm("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(v));
  return To(wide);
#endif
}

typedef Traits<ELEMENT> Element;
typedef Element::Acc Acc;

// One frame and its mask, null where there is none.
struct Frame {
  const ELEMENT* pixels;
  const u8* mask;
  int height, width;

  __device__ ELEMENT at(long long i) const {
    const ELEMENT v = pixels[i];
    return (mask == nullptr || mask[i]) && Element::valid(v) ? v : ELEMENT(0);
  }
};

// mask_frames is 0 (no mask), 1 (one mask for all) or the number of patterns.
__device__ inline Frame frame_of(const ELEMENT* patterns, const u8* mask, long long mask_frames, long long n,
                                 int height, int width) {
  const long long size = (long long)height * width;
  Frame f;
  f.pixels = patterns + n * size;
  f.mask = mask_frames == 0 ? nullptr : mask + (mask_frames == 1 ? 0 : n * size);
  f.height = height;
  f.width = width;
  return f;
}

template <typename T>
__device__ inline T warp_sum(T v) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(FULL_WARP, v, d);
  return v;  // in lane 0
}

// Sum over the block by halving, a[i] += a[i + n/2]. The block is a power of two of at least 32 threads and `scratch`
// has one place per thread. Every thread gets the sum.
template <typename T>
__device__ inline T block_sum(T v, T* scratch) {
  const int t = threadIdx.x;
  scratch[t] = v;
  __syncthreads();
  for (int half = blockDim.x / 2; half >= 32; half /= 2) {
    if (t < half) scratch[t] += scratch[t + half];
    __syncthreads();
  }
  if (t < 32) {
    const T sum = warp_sum(scratch[t]);
    if (t == 0) scratch[0] = sum;
  }
  __syncthreads();
  const T sum = scratch[0];
  __syncthreads();  // scratch may be used again
  return sum;
}

template <typename T>
__device__ inline T block_max(T v, T* scratch) {
  for (int d = 16; d > 0; d /= 2) {
    const T other = __shfl_down_sync(FULL_WARP, v, d);
    v = other > v ? other : v;
  }
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  T largest = scratch[0];
  for (int w = 1; w < int(blockDim.x) / 32; ++w) largest = scratch[w] > largest ? scratch[w] : largest;
  __syncthreads();
  return largest;
}
