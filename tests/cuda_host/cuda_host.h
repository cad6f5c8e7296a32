// CUDA C++ on the host: enough of the language to run a kernel on one CPU thread and to see its mistakes.
//
// Blocks run one after another; the CUDA threads of a block are fibres that give way only at barriers and warp
// operations, so a run is deterministic. CUDA_HOST_ORDER=fwd|rev|<seed> chooses the order of blocks and threads: a
// result that depends on it is a defect. Shared memory is filled with 0xFF (NaN, -1) before each block, so that a read
// before the first write shows. The thread sanitizer is told about the fibres and about what each barrier orders, and
// nothing else: two accesses without a barrier between them are reported even where this schedule happened to give the
// right answer.
//
// Not modelled: races between blocks, memory order within them, limits of registers, textures, cooperative groups. A
// kernel that waits in a loop for another thread's write never ends here. Linux with glibc on x86-64.
#ifndef CUDA_HOST_H
#define CUDA_HOST_H
#define __CUDA_HOST_SHIM__ 1

#include "cuda_host_fibers.h"

namespace {
namespace cuda_host {

// ---- barriers ----
CH_INTERNAL static void wait_for_all(Barrier& barrier, unsigned expected, bool ordered) {
  const unsigned generation = barrier.generation;
  if (ordered) releases(&barrier.order[generation & 1]);
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    barrier.generation++;
  } else {
    current->waits_for = &barrier.generation;
    current->seen = generation;
    give_way();
    current->waits_for = nullptr;
  }
  if (ordered) acquires(&barrier.order[generation & 1]);
}

// The number of threads of the block with a true predicate.
CH_INTERNAL static int sync_threads(int line, bool predicate = false) {
  Barrier& barrier = launch.barrier;
  if (launch.n_returned)
    fail(BARRIER_WITHOUT_ALL,
         "thread %u came to the barrier in line %d after %u of the block's %u threads had returned", current->linear,
         line, launch.n_returned, launch.n_threads);
  if (barrier.arrived && barrier.line != line)
    fail(BARRIERS_DIFFER, "thread %u came to the barrier in line %d while others wait at the one in line %d",
         current->linear, line, barrier.line);
  barrier.line = line;
  const unsigned parity = barrier.generation & 1;
  launch.votes[parity] += predicate;
  if (barrier.arrived + 1 == launch.n_threads) launch.votes[parity ^ 1] = 0;  // all have read it: they are here
  wait_for_all(barrier, launch.n_threads, true);
  return static_cast<int>(launch.votes[parity]);
}

// Wait for the lanes of mask and return their values; only __syncwarp orders memory, as in CUDA.
CH_INTERNAL static const uint64_t* exchange(unsigned mask, uint64_t value, bool ordered) {
  const unsigned lane = current->linear % WARP;
  Warp& warp = warps[current->linear / WARP];
  if (!(mask >> lane & 1)) fail(BAD_WARP_OPERATION, "thread %u is not in its own mask %#x", current->linear, mask);
  if (mask & warp.returned)
    fail(BAD_WARP_OPERATION, "thread %u came to a warp operation after lanes %#x of its mask had returned",
         current->linear, mask & warp.returned);
  unsigned g = 0;
  while (g < warp.n_groups && warp.groups[g].mask != mask) g++;
  if (g == MAX_MASKS) fail(BAD_WARP_OPERATION, "more than %u different warp masks in one block", MAX_MASKS);
  Group& group = warp.groups[g];
  if (g == warp.n_groups) {
    memset(&group, 0xff, sizeof group);  // a lane that does not exist gives NaN
    group.mask = mask;
    group.barrier.arrived = group.barrier.generation = 0;
    warp.n_groups++;
  }
  uint64_t* slots = group.slots[group.barrier.generation & 1];
  slots[lane] = value;
  wait_for_all(group.barrier, __builtin_popcount(mask & warp.lanes), ordered);
  return slots;
}

template <class T>
CH_INTERNAL static T shuffle(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  const uint64_t* slots = exchange(mask, bits, false);
  bits = source < WARP ? slots[source] : slots[current->linear % WARP];
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

CH_INTERNAL static unsigned ballot(unsigned mask, bool predicate) {
  const uint64_t* slots = exchange(mask, predicate, false);
  unsigned set = 0;
  for (unsigned lane = 0; lane < WARP; lane++)
    if (mask & warps[current->linear / WARP].lanes & 1u << lane) set |= static_cast<unsigned>(slots[lane]) << lane;
  return set;
}

// ---- the life of a launch ----
CH_INTERNAL static void returned() {
  Warp& warp = warps[current->linear / WARP];
  const unsigned lane = current->linear % WARP;
  for (unsigned g = 0; g < warp.n_groups; g++)
    if (warp.groups[g].barrier.arrived && warp.groups[g].mask >> lane & 1)
      note(BAD_WARP_OPERATION, "thread %u returned while %u lanes wait for it in a warp operation", current->linear,
           warp.groups[g].barrier.arrived);
  if (launch.barrier.arrived)
    note(BARRIER_WITHOUT_ALL, "thread %u returned while %u threads wait at the barrier in line %d", current->linear,
         launch.barrier.arrived, launch.barrier.line);
  current->returned = true;
  warp.returned |= 1u << lane;
  launch.n_returned++;
}

CH_INTERNAL static void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
  for (;;) {  // once per block
    acquires(&launch.begin);
    launch.invoke(launch.kernel, launch.args);
    releases(&launch.end);
    returned();
    give_way();
  }
}

CH_INTERNAL static void make_fiber(Fiber& fiber) {
  fiber.stack = static_cast<char*>(mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (fiber.stack == MAP_FAILED || mprotect(fiber.stack, GUARD_BYTES, PROT_NONE)) abort();
  fiber.context = first_context(fiber.stack + GUARD_BYTES + STACK_BYTES, fiber_main);
#ifdef __SANITIZE_THREAD__
  fiber.sanitizer = __tsan_create_fiber(0);
#endif
}

// After an error the fibres stand in the middle of the kernel and are of no further use.
CH_INTERNAL static void drop_fibers() {
  for (Fiber& fiber : fibers) {
    if (!fiber.stack) continue;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber.stack + GUARD_BYTES, STACK_BYTES);
#elif defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(fiber.sanitizer);
#endif
    munmap(fiber.stack, STACK_BYTES + GUARD_BYTES);
    fiber.stack = nullptr;
  }
}

extern "C" {
extern char __start_ch_shared __attribute__((weak, visibility("hidden")));
extern char __stop_ch_shared __attribute__((weak, visibility("hidden")));
}

CH_INTERNAL static unsigned random_below(unsigned n) {  // xorshift; the slight bias does not matter here
  launch.random ^= launch.random << 13;
  launch.random ^= launch.random >> 7;
  launch.random ^= launch.random << 17;
  return static_cast<unsigned>(launch.random % n);
}

CH_INTERNAL static int run_block(size_t dynamic_bytes, const unsigned* order) {
  const unsigned n = launch.n_threads;
  if (&__start_ch_shared) memset(&__start_ch_shared, 0xff, &__stop_ch_shared - &__start_ch_shared);
  launch.dynamic_shared = malloc(dynamic_bytes);
  memset(launch.dynamic_shared, 0xff, dynamic_bytes);
  memset(&launch.barrier, 0, sizeof launch.barrier);
  launch.n_returned = launch.votes[0] = launch.votes[1] = 0;
  for (unsigned w = 0; w * WARP < n; w++) {
    const unsigned lanes = n - w * WARP;
    warps[w].lanes = lanes >= WARP ? ~0u : (1u << lanes) - 1;
    warps[w].returned = warps[w].n_groups = 0;
  }
  for (unsigned i = 0; i < n; i++) fibers[i].returned = false, fibers[i].waits_for = nullptr;
  releases(&launch.begin);
  while (launch.n_returned < n && launch.error == OK) {
    bool progress = false;
    for (unsigned i = 0; i < n && launch.error == OK; i++) {
      Fiber& fiber = fibers[order[i]];
      if (fiber.returned || (fiber.waits_for && *fiber.waits_for == fiber.seen)) continue;
      resume(&fiber);
      progress = true;
    }
    if (!progress)
      note(DEADLOCK,
           "deadlock in block (%u, %u, %u): %u of %u threads wait at the block's barrier, %u have returned, the rest "
           "wait in warp operations",
           launch.block_index.x, launch.block_index.y, launch.block_index.z, launch.barrier.arrived, n,
           launch.n_returned);
  }
  acquires(&launch.end);
  free(launch.dynamic_shared);
  return launch.error;
}

CH_INTERNAL static void arrange(unsigned* order, unsigned n) {
  const char* how = getenv("CUDA_HOST_ORDER");
  const bool reversed = how && !strcmp(how, "rev"), shuffled = how && *how && !reversed && strcmp(how, "fwd");
  for (unsigned i = 0; i < n; i++) order[i] = reversed ? n - 1 - i : i;
  for (unsigned i = n; shuffled && i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
}

// dims: grid x, y, z, block x, y, z. bound: what the kernel's __launch_bounds__ promises.
CH_INTERNAL static int run_grid(const unsigned* dims, size_t dynamic_bytes, unsigned bound, void** args) {
  launch.error = OK;
  launch.args = args;
  launch.grid = {dims[0], dims[1], dims[2]};
  launch.block = {dims[3], dims[4], dims[5]};
  const uint64_t n = uint64_t{dims[3]} * dims[4] * dims[5], n_blocks = uint64_t{dims[0]} * dims[1] * dims[2];
  if (n == 0 || n > bound || dims[5] > 64)
    return note(BAD_LAUNCH, "a block of %u x %u x %u threads; the kernel is made for up to %u", dims[3], dims[4],
                dims[5], bound);
  if (n_blocks == 0 || dims[0] > INT32_MAX || dims[1] > 65535 || dims[2] > 65535 || n_blocks > INT32_MAX)
    return note(BAD_LAUNCH, "a grid of %u x %u x %u blocks", dims[0], dims[1], dims[2]);
  if (dynamic_bytes > MAX_DYNAMIC_SHARED)
    return note(BAD_LAUNCH, "%zu bytes of dynamic shared memory; 48 kB is the limit of every device", dynamic_bytes);
  launch.n_threads = static_cast<unsigned>(n);
  const char* how = getenv("CUDA_HOST_ORDER");
  launch.random = 0x9e3779b97f4a7c15u ^ (how ? strtoull(how, nullptr, 10) : 0);
#ifdef __SANITIZE_THREAD__
  scheduler_fiber = __tsan_get_current_fiber();
#endif
  for (unsigned i = 0; i < n; i++) {
    if (!fibers[i].stack) make_fiber(fibers[i]);
    fibers[i].linear = i;
    fibers[i].thread = {i % dims[3], i / dims[3] % dims[4], i / dims[3] / dims[4]};
  }
  unsigned* blocks = static_cast<unsigned*>(malloc(n_blocks * sizeof(unsigned)));
  unsigned* threads = static_cast<unsigned*>(malloc(n * sizeof(unsigned)));
  arrange(blocks, static_cast<unsigned>(n_blocks));
  for (unsigned b = 0; b < n_blocks && launch.error == OK; b++) {
    launch.block_index = {blocks[b] % dims[0], blocks[b] / dims[0] % dims[1], blocks[b] / dims[0] / dims[1]};
    arrange(threads, launch.n_threads);
    run_block(dynamic_bytes, threads);
  }
  free(blocks);
  free(threads);
  if (launch.error != OK) drop_fibers();
  return launch.error;
}

// ---- a kernel's signature, and its call from an array of pointers to the arguments ----
template <class T>
constexpr char kind() {
  return std::is_same_v<T, bool>       ? 'b'
         : std::is_floating_point_v<T> ? 'f'
         : !std::is_integral_v<T>      ? 'V'
         : std::is_signed_v<T>         ? 'i'
                                       : 'u';
}

template <class T>
constexpr size_t bytes() {
  if constexpr (std::is_void_v<T>)
    return 0;
  else
    return sizeof(T);
}

constexpr size_t PARAMETER_ROOM = 16;

// "r:f8" is a pointer to const double, "w:f8" a pointer to double, "v:f8" a double.
template <class T>
static char* write_parameter(char* text) {
  using U = std::remove_cv_t<T>;
  using Pointed = std::remove_pointer_t<U>;
  using Scalar = std::remove_cv_t<Pointed>;
  const char access = !std::is_pointer_v<U> ? 'v' : std::is_const_v<Pointed> ? 'r' : 'w';
  return text + snprintf(text, PARAMETER_ROOM, "%c:%c%zu ", access, kind<Scalar>(), bytes<Scalar>());
}

template <class... P>
static const char* signature(void (*)(P...)) {
  static char text[PARAMETER_ROOM * sizeof...(P) + 1];
  char* end = text;
  ((end = write_parameter<P>(end)), ...);
  return text;
}

template <class... P, size_t... I>
CH_INTERNAL static void call(void (*kernel)(P...), void** args, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_cv_t<P>*>(args[I])...);
}

template <class... P>
CH_INTERNAL static void invoke(void* kernel, void** args) {
  call(reinterpret_cast<void (*)(P...)>(kernel), args, std::index_sequence_for<P...>());
}

template <class... P>
static int run(void (*kernel)(P...), unsigned bound, const unsigned* dims, size_t dynamic_bytes, void** args) {
  launch.invoke = invoke<P...>;
  launch.kernel = reinterpret_cast<void*>(kernel);
  return run_grid(dims, dynamic_bytes, bound, args);
}

}  // namespace cuda_host
}  // namespace

#define CUDA_HOST_EXPORT(name, bound)                                                      \
  CH_EXPORTED const char* ch_signature_##name() { return cuda_host::signature(name); }     \
  CH_EXPORTED int ch_run_##name(const unsigned* dims, size_t dynamic_bytes, void** args) { \
    return cuda_host::run(name, bound, dims, dynamic_bytes, args);                         \
  }
CH_EXPORTED const char* ch_message() { return cuda_host::launch.message; }

#include "cuda_host_device.h"

#endif  // CUDA_HOST_H
