// The fibres on which CUDA threads run, the state of a launch, and the switching between a fibre and the scheduler.
// Switching is _setjmp and _longjmp, which make no system call; under a sanitizer it is swapcontext, which the
// sanitizers understand, with their calls that announce a change of stack.
#ifndef CUDA_HOST_FIBERS_H
#define CUDA_HOST_FIBERS_H

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

// <string> would take the compiler longer than most kernels.
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define CH_SANITIZED 1
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define CH_SANITIZED 1
#endif
// The shim's own bookkeeping is shared by all fibres on purpose; the thread sanitizer must look at the kernels only.
#define CH_INTERNAL __attribute__((no_sanitize("thread"), noinline))
#define CH_EXPORTED extern "C" __attribute__((visibility("default")))

struct uint3 {
  unsigned x, y, z;
};
using dim3 = uint3;

namespace {
namespace cuda_host {

enum Error {
  OK = 0,
  DEADLOCK = 1,
  BARRIER_WITHOUT_ALL = 2,
  BAD_WARP_OPERATION = 3,
  BAD_LAUNCH = 4,
  BARRIERS_DIFFER = 5
};

#ifdef CH_SANITIZED
constexpr size_t STACK_BYTES = 256 << 10;  // red zones make frames larger
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif
constexpr size_t GUARD_BYTES = 4096;
constexpr unsigned MAX_THREADS = 1024, WARP = 32, MAX_MASKS = 8, MAX_DYNAMIC_SHARED = 48 << 10;

struct Barrier {
  unsigned arrived, generation;
  int line;
  char order[2];  // addresses of the happens-before edges; by parity, or a fast thread's next arrival would order this
                  // one
};

// The lanes of one warp that name the same mask. A value stays readable until the second exchange after it, which no
// lane can finish before all have arrived at the first: hence two sets of slots and one barrier per exchange.
struct Group {
  unsigned mask;
  Barrier barrier;
  uint64_t slots[2][WARP];
};

struct Warp {
  unsigned lanes, returned, n_groups;
  Group groups[MAX_MASKS];
};

struct Fiber {
  uint3 thread;
  unsigned linear;
  bool started, returned;
  const unsigned* waits_for;  // a generation that must move on from `seen`
  unsigned seen;
  char* stack;
  ucontext_t context;
  jmp_buf jump;
  void* sanitizer;
};

struct Launch {
  uint3 grid, block, block_index;
  unsigned n_threads, n_returned, votes[2];
  Barrier barrier;
  void (*invoke)(void*, void**);
  void* kernel;
  void** args;
  void* dynamic_shared;
  uint64_t random;
  char begin, end;  // addresses of the happens-before edges at the borders of a block
  int error;
  char message[256];
};

static Launch launch;
static Fiber fibers[MAX_THREADS];
static Warp warps[MAX_THREADS / WARP];
static Fiber* current;

// ---- switching ----
#ifdef CH_SANITIZED
static ucontext_t scheduler;
#else
static jmp_buf scheduler;
#endif
#if defined(__SANITIZE_ADDRESS__)
static const void* scheduler_stack;
static size_t scheduler_bytes;
#elif defined(__SANITIZE_THREAD__)
static void* scheduler_fiber;
#endif

CH_INTERNAL static void releases(void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(address);
#endif
  (void)address;
}

CH_INTERNAL static void acquires(void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(address);
#endif
  (void)address;
}

CH_INTERNAL static void give_way() {
  Fiber* self = current;
#ifdef CH_SANITIZED
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&self->sanitizer, scheduler_stack, scheduler_bytes);
#else
  __tsan_switch_to_fiber(scheduler_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&self->context, &scheduler);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(self->sanitizer, &scheduler_stack, &scheduler_bytes);
#endif
#else
  if (_setjmp(self->jump) == 0) _longjmp(scheduler, 1);
#endif
}

CH_INTERNAL static void resume(Fiber* fiber) {
  current = fiber;
#ifdef CH_SANITIZED
#ifdef __SANITIZE_ADDRESS__
  void* own = nullptr;
  __sanitizer_start_switch_fiber(&own, fiber->stack + GUARD_BYTES, STACK_BYTES);
#else
  __tsan_switch_to_fiber(fiber->sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&scheduler, &fiber->context);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
#else
  if (_setjmp(scheduler) == 0) {
    if (fiber->started) _longjmp(fiber->jump, 1);
    fiber->started = true;
    setcontext(&fiber->context);
  }
#endif
}

template <class... A>
CH_INTERNAL static int note(Error error, const char* format, A... a) {
  if (launch.error == OK) {
    launch.error = error;
    snprintf(launch.message, sizeof launch.message, format, a...);
  }
  return launch.error;
}

// A thread that made a mistake goes no further; the scheduler ends the launch.
template <class... A>
CH_INTERNAL static void fail(Error error, const char* format, A... a) {
  note(error, format, a...);
  for (;;) give_way();
}

}  // namespace cuda_host
}  // namespace
#endif  // CUDA_HOST_FIBERS_H
