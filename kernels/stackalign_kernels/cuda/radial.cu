// SPDX-License-Identifier: BSD-3-Clause
// requires: common.cuh
// requires: disk.cuh
// Moments, extrema and retention radii of patterns, and cumulative radial sums. Compile without fused multiply-add: the
// order of the sums and the rule that puts a pixel on a radius are those of the backend protocol, to the bit.
//
// pattern_summary reads a pattern once, by columns, and leaves the running column sums of every STRIP rows in
// `scratch`. The sum over a disk is then two differences per column plus a few pixels at the ends of each chord, so the
// search for a radius costs a few percent of the read: each warp sums the disk of another candidate, and a step narrows
// the bracket by the number of warps.

#define GROUP 8
#define STRIP 16
#define LANES 256
#define MAX_WARPS (LANES / 32)
#define FAR_AWAY 1e6
#define UNDECIDED (-2)
#define N_GUESSES 8

enum Verdict { BELOW, REACHED, UNKNOWN, NO_CANDIDATE };

typedef Element::Group Group;
typedef Element::Prefix Prefix;
typedef Element::Chord Chord;

// --- moments --------------------------------------------------------------------------------------------------------

struct Moments {
  Acc total;
  double my, mx;
  int n_valid;  // a frame has fewer than 2^31 pixels
  ELEMENT low, high;
};

// Adds the rows of one group of a column to the extrema and returns their sum c, and the sum s of k times row k.
template <bool MASKED, bool WHOLE>
__device__ inline void add_group(const Frame& f, long long first, int rows, Moments& m, Group& c, Group& s) {
  ELEMENT v[GROUP];
  bool ok[GROUP];
#pragma unroll
  for (int k = 0; k < GROUP; ++k) {  // all loads before the first use
    ok[k] = WHOLE || k < rows;
    v[k] = ok[k] ? f.pixels[first + (long long)k * f.width] : ELEMENT(0);
    if (MASKED && ok[k]) ok[k] = f.mask[first + (long long)k * f.width] != 0;
  }
  c = 0;
  s = 0;
#pragma unroll
  for (int k = GROUP - 1; k >= 0; --k) {
    const bool good = ok[k] && Element::valid(v[k]);
    if (MASKED || Element::is_float) m.n_valid += good;
    if (good && v[k] < m.low) m.low = v[k];
    if (good && v[k] > m.high) m.high = v[k];
    c += good ? widened<Group>(v[k]) : Group(0);
    if (k > 0) s += c;
  }
  if (!MASKED && !Element::is_float) m.n_valid += rows;
}

// What one thread adds up: the columns t, t + blockDim.x, ...
template <bool MASKED>
__device__ inline Moments column_moments(const Frame& f, Prefix* scratch) {
  Moments m = {0, 0.0, 0.0, 0, Element::highest(), Element::lowest()};
  for (int x = threadIdx.x; x < f.width; x += blockDim.x) {
    Acc s0 = 0, s1 = 0;
    for (int y0 = 0; y0 < f.height; y0 += GROUP) {
      const int rows = f.height - y0 < GROUP ? f.height - y0 : GROUP;
      const long long first = (long long)y0 * f.width + x;
      Group c, s;
      if (rows == GROUP) {
        add_group<MASKED, true>(f, first, GROUP, m, c, s);
      } else {
        add_group<MASKED, false>(f, first, rows, m, c, s);
      }
      s0 += Acc(c);
      s1 += Acc(y0) * Acc(c) + Acc(s);
      const int end = y0 + rows;
      if (scratch != nullptr && (end % STRIP == 0 || (end == f.height && end % STRIP >= STRIP / 2))) {
        scratch[(long long)((end - 1) / STRIP) * f.width + x] = Prefix(s0);
      }
    }
    m.total += s0;
    m.my += double(s1);
    m.mx += double(x) * double(s0);
  }
  return m;
}

__device__ inline Moments block_moments(const Frame& f, Prefix* scratch) {
  __shared__ Acc totals[LANES];
  __shared__ double mys[LANES], mxs[LANES];
  __shared__ int counts[LANES];
  __shared__ ELEMENT lows[LANES], highs[LANES];
  const int t = threadIdx.x;
  Moments m = f.mask == nullptr ? column_moments<false>(f, scratch) : column_moments<true>(f, scratch);
  totals[t] = m.total;
  mys[t] = m.my;
  mxs[t] = m.mx;
  counts[t] = m.n_valid;
  lows[t] = m.low;
  highs[t] = m.high;
  __syncthreads();
  // A block of fewer threads than lanes has no column in the others: adding their zeros would change nothing.
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (t < half) {
      totals[t] += totals[t + half];
      mys[t] += mys[t + half];
      mxs[t] += mxs[t + half];
      counts[t] += counts[t + half];
      if (lows[t + half] < lows[t]) lows[t] = lows[t + half];
      if (highs[t + half] > highs[t]) highs[t] = highs[t + half];
    }
    __syncthreads();
  }
  m.total = totals[0];
  m.my = mys[0];
  m.mx = mxs[0];
  m.n_valid = counts[0];
  m.low = lows[0];
  m.high = highs[0];
  __syncthreads();
  return m;
}

// --- search for a radius --------------------------------------------------------------------------------------------

// Sum of the rows [0, y) of a column: the nearest stored sum, plus or minus the at most STRIP / 2 rows between.
__device__ inline Prefix above(const Frame& f, const Prefix* scratch, int x, int y) {
  const int level = (y + STRIP / 2) / STRIP;
  const int row = level * STRIP < f.height ? level * STRIP : f.height;
  const Prefix base = level > 0 ? scratch[(long long)(level - 1) * f.width + x] : Prefix(0);
  const int start = y < row ? y : row;
  const int count = y < row ? row - y : y - row;
  Prefix edge = 0;
#pragma unroll
  for (int k = 0; k < STRIP / 2; ++k) {
    if (k < count) edge += widened<Prefix>(f.at((long long)(start + k) * f.width + x));
  }
  return y < row ? base - edge : base + edge;
}

// Sum of the pixels within a radius, by one warp; valid in its lane 0.
__device__ inline Acc disk_sum(const Frame& f, const Prefix* scratch, double cy, double cx, int radius) {
  const double rr = double(radius) * double(radius);
  const Rows columns = columns_of(cx, double(radius), f.width);
  Acc sum = 0;
  for (int x = columns.begin + int(threadIdx.x % 32); x < columns.end; x += 32) {
    const double dx = double(x) - cx;
    const Rows rows = chord(cy, dx * dx, rr, f.height);
    if (rows.begin < rows.end) {
      sum += Acc(Chord(above(f, scratch, x, rows.end) - above(f, scratch, x, rows.begin)));
    }
  }
  return warp_sum(sum);
}

struct Goal {
  double value;  // fl(fraction * total)
  double error;  // bound on what summation in another order can do to the difference; not used for integers

  __device__ Verdict judge(Acc sum) const {
    const double d = double(sum) - value;
    if (!Element::is_float) return double(sum) >= value ? REACHED : BELOW;
    return d > error ? REACHED : (d < -error ? BELOW : UNKNOWN);
  }
};

// The radius that a warp tries: around a guess, dense in its middle, or spread evenly between lo and hi; -1 for none.
__device__ inline int candidate(int warp, int warps, int lo, int hi, int guess) {
  int c;
  if (guess >= 0) {
    const int k = warp - warps / 2;
    c = guess + k * (k < 0 ? -k : k);
  } else {
    const int between = hi - lo - 1;
    c = between <= warps ? lo + 1 + warp : lo + 1 + int((long long)(warp + 1) * between / (warps + 1));
  }
  return lo < c && c < hi ? c : -1;
}

__device__ inline Verdict try_radius(const Frame& f, const Prefix* scratch, double cy, double cx, int radius,
                                     const Goal& goal) {
  return radius < 0 ? NO_CANDIDATE : goal.judge(disk_sum(f, scratch, cy, cx, radius));
}

// Non-negative pattern: sums grow with the radius; the sum is below the goal at lo, and hi is the answer if no smaller
// radius reaches it.
__device__ inline int bisect(const Frame& f, const Prefix* scratch, double cy, double cx, const Goal& goal, int lo,
                             int hi, int guess, Verdict* verdicts) {
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
  while (hi - lo > 1) {
    const Verdict v = try_radius(f, scratch, cy, cx, candidate(warp, warps, lo, hi, guess), goal);
    if (threadIdx.x % 32 == 0) verdicts[warp] = v;
    __syncthreads();
    int new_lo = lo, new_hi = hi;
    bool unknown = false;
    for (int w = 0; w < warps; ++w) {
      const int c = candidate(w, warps, lo, hi, guess);
      if (verdicts[w] == BELOW && c > new_lo) new_lo = c;
      if (verdicts[w] == REACHED && c < new_hi) new_hi = c;
      unknown = unknown || verdicts[w] == UNKNOWN;
    }
    __syncthreads();
    if (unknown) return UNDECIDED;
    lo = new_lo;
    hi = new_hi;
    guess = -1;
  }
  return hi;
}

// Pattern with negative pixels: the sums are not monotone and the first crossing counts.
__device__ inline int first_crossing(const Frame& f, const Prefix* scratch, double cy, double cx, const Goal& goal,
                                     int last, Verdict* verdicts) {
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
  int answer = last;
  for (int base = 0; base < last && answer == last; base += warps) {
    const Verdict v = try_radius(f, scratch, cy, cx, base + warp < last ? base + warp : -1, goal);
    if (threadIdx.x % 32 == 0) verdicts[warp] = v;
    __syncthreads();
    for (int w = warps - 1; w >= 0; --w) {
      if (verdicts[w] == REACHED) answer = base + w;
      if (verdicts[w] == UNKNOWN) answer = UNDECIDED;
    }
    __syncthreads();
  }
  return answer;
}

// The smallest radius that holds every pixel that is not zero.
__device__ inline int support_radius(const Frame& f, double cy, double cx) {
  __shared__ double scratch[MAX_WARPS];
  double farthest = 0.0;
  for (int x = threadIdx.x; x < f.width; x += blockDim.x) {
    const double dx = double(x) - cx;
    const double dx2 = dx * dx;
    for (int y = 0; y < f.height; ++y) {
      const double dy = double(y) - cy;
      const double d2 = dy * dy + dx2;
      if (d2 > farthest && f.at((long long)y * f.width + x) != ELEMENT(0)) farthest = d2;
    }
  }
  return ring_of(block_max(farthest, scratch));
}

// --- entries --------------------------------------------------------------------------------------------------------

// Blocks of 128 or 256 threads, the latter where the width exceeds 128; each takes the patterns blockIdx.x, +
// gridDim.x, ... scratch holds ((height + 8) / 16) * width sums per block; fractions ascend. A radius is UNDECIDED
// where rounding could decide it; -1 where the centre is too far away.
extern "C" __global__ void __launch_bounds__(256, 4)
    pattern_summary(const ELEMENT* patterns, const u8* mask, long long mask_frames, long long n_patterns, int height,
                    int width, const double* fractions, int n_fractions, int centers_given, double* centers,
                    Prefix* scratch, Acc* total, double* minimum, double* maximum, long long* n_valid,
                    long long* radii) {
  __shared__ Verdict verdicts[MAX_WARPS];
  __shared__ int guesses[N_GUESSES];  // radii of this block's previous pattern: neighbours are alike
  const int t = threadIdx.x;
  if (t < N_GUESSES) guesses[t] = -1;
  Prefix* sums = n_fractions > 0 ? scratch + (long long)blockIdx.x * ((height + STRIP / 2) / STRIP) * width : nullptr;
  for (long long n = blockIdx.x; n < n_patterns; n += gridDim.x) {
    const Frame f = frame_of(patterns, mask, mask_frames, n, height, width);
    const Moments m = block_moments(f, sums);
    const double sum = double(m.total);
    double cy, cx;
    if (centers_given) {
      cy = centers[2 * n];
      cx = centers[2 * n + 1];
    } else {
      cy = sum == 0.0 ? (height - 1) / 2.0 : m.my / sum;
      cx = sum == 0.0 ? (width - 1) / 2.0 : m.mx / sum;
    }
    if (t == 0) {
      total[n] = m.total;
      minimum[n] = m.n_valid > 0 ? widened<double>(m.low) : nan("");
      maximum[n] = m.n_valid > 0 ? widened<double>(m.high) : nan("");
      n_valid[n] = m.n_valid;
      if (!centers_given) {
        centers[2 * n] = cy;
        centers[2 * n + 1] = cx;
      }
    }
    const bool near = fabs(cy) <= FAR_AWAY && fabs(cx) <= FAR_AWAY;  // false for NaN
    const bool signless = !(m.n_valid > 0 && widened<double>(m.low) < 0.0);
    const int last = near ? last_radius(height, width, cy, cx) : 0;
    // The sum of the magnitudes is at most the total plus twice what the negative pixels can hold. Twice the bound for
    // adding all pixels one by one, for the total and for the differences of column sums each.
    const double magnitude = signless ? sum : fabs(sum) + 2.0 * double(m.n_valid) * fabs(widened<double>(m.low));
    const double error = (double(height) * double(width) + 64.0) * magnitude * 8.8817841970012523e-16;  // 2^-50
    int lo = -1;
    for (int k = 0; k < n_fractions; ++k) {
      const Goal goal = {fractions[k] * sum, error};
      int radius;
      if (!near) {
        radius = -1;
      } else if (signless && sum == 0.0) {
        radius = 0;
      } else if (!signless) {
        radius = first_crossing(f, sums, cy, cx, goal, last, verdicts);
      } else {
        int hi = last;
        int guess = guesses[k % N_GUESSES];
        // Near the whole sum the bound decides nothing, but the radius that leaves only zeros outside reaches it
        // exactly.
        if (Element::is_float && fractions[k] <= 1.0 && sum - goal.value <= error) {
          hi = support_radius(f, cy, cx);
          guess = hi - 1;
        }
        radius = bisect(f, sums, cy, cx, goal, lo, hi, guess, verdicts);
        if (radius > lo) lo = radius - 1;
        __syncthreads();  // everyone has read the guess
        if (t == 0 && radius >= 0) guesses[k % N_GUESSES] = radius;
      }
      if (t == 0) radii[n * n_fractions + k] = radius;
    }
    __syncthreads();
  }
}

// Sums over the disks of radius 0 .. n_radii - 1. A warp adds up a ring, lanes along x, so that nothing cancels; then
// the first warp adds up the rings.
#define RINGS 256

extern "C" __global__ void __launch_bounds__(256, 4)
    radial_cumulative(const ELEMENT* patterns, const u8* mask, long long mask_frames, long long n_patterns, int height,
                      int width, const double* centers, int n_radii, double* out) {
  __shared__ Acc rings[RINGS];
  const int t = threadIdx.x, lane = t % 32, warp = t / 32, warps = blockDim.x / 32;
  for (long long n = blockIdx.x; n < n_patterns; n += gridDim.x) {
    const Frame f = frame_of(patterns, mask, mask_frames, n, height, width);
    const double cy = centers[2 * n], cx = centers[2 * n + 1];
    Acc before = 0;
    for (int base = 0; base < n_radii; base += RINGS) {
      const int count = n_radii - base < RINGS ? n_radii - base : RINGS;
      for (int i = warp; i < RINGS; i += warps) {
        const double radius = double(base + i);
        const double rr = radius * radius;
        const double inner = base + i > 0 ? (radius - 1.0) * (radius - 1.0) : -1.0;
        const Rows columns = columns_of(cx, radius, width);
        Acc sum = 0;
        for (int x = columns.begin + lane; i < count && x < columns.end; x += 32) {
          const double dx = double(x) - cx;
          const Rows rows = chord(cy, dx * dx, rr, height);
          Rows hole = chord(cy, dx * dx, inner, height);
          if (hole.begin == hole.end) hole.begin = hole.end = rows.end;
          for (int y = rows.begin; y < hole.begin; ++y) sum += widened<Acc>(f.at((long long)y * width + x));
          for (int y = hole.end; y < rows.end; ++y) sum += widened<Acc>(f.at((long long)y * width + x));
        }
        sum = warp_sum(sum);
        if (lane == 0) rings[i] = sum;
      }
      __syncthreads();
      if (warp == 0) {
        for (int i = lane; i < RINGS; i += 32) {
          Acc sum = rings[i];
          for (int d = 1; d < 32; d *= 2) {
            const Acc left = __shfl_up_sync(FULL_WARP, sum, d);
            if (lane >= d) sum += left;
          }
          sum += before;
          if (i < count) out[n * n_radii + base + i] = double(sum);
          before = __shfl_sync(FULL_WARP, sum, 31);
        }
      }
      __syncthreads();
    }
  }
}
