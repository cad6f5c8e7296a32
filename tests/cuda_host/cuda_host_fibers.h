// The fibres on which CUDA threads run, the state of a launch, and the switching between a fibre and the scheduler.
// A switch saves the registers that a call preserves, and no more: swapcontext makes two system calls, which were two
// thirds of the time under a sanitizer. The sanitizers are told about each change of stack.
#ifndef CUDA_HOST_FIBERS_H
#define CUDA_HOST_FIBERS_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

// Push the registers, keep where they lie in *from, and go on with those of the other stack.
extern "C" __attribute__((visibility("hidden"))) void ch_switch(void** from, void* to);
asm(R"(
.text
.hidden ch_switch
.globl ch_switch
.type ch_switch, @function
ch_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8, %rsp
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ch_switch, . - ch_switch
)");

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
  bool returned;
  const unsigned* waits_for;  // a generation that must move on from `seen`
  unsigned seen;
  char* stack;
  void* context;  // where its registers lie on its stack
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
static void* scheduler;
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
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&self->sanitizer, scheduler_stack, scheduler_bytes);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  ch_switch(&self->context, scheduler);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(self->sanitizer, &scheduler_stack, &scheduler_bytes);
#endif
}

CH_INTERNAL static void resume(Fiber* fiber) {
  current = fiber;
#if defined(__SANITIZE_ADDRESS__)
  void* own = nullptr;
  __sanitizer_start_switch_fiber(&own, fiber->stack + GUARD_BYTES, STACK_BYTES);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(fiber->sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
  ch_switch(&scheduler, fiber->context);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
}

// What ch_switch finds on the stack of a fibre that has not run yet.
CH_INTERNAL static void* first_context(char* end_of_stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(end_of_stack) - 9;  // leaves the stack aligned as after a call
  memset(top, 0, 9 * sizeof *top);
  asm volatile("stmxcsr (%0)\n\tfnstcw 4(%0)" : : "r"(top) : "memory");
  top[7] = reinterpret_cast<void*>(entry);
  return top;
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
