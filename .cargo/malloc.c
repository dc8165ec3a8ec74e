/* Run before main: memory of 2 MiB and more goes back to the system as soon as it is free.
 *
 * The GNU allocator raises that bound, up to 32 MiB, whenever something larger is freed. From then on every thread that
 * ever held a pack keeps room for one: a restore of incompressible data came to 191 MiB, and comes to 69 this way. The
 * bound is set here because from Rust it would take `unsafe`. Other C libraries have no such habit. */
#include <malloc.h>

#ifdef __GLIBC__
__attribute__((constructor)) static void give_memory_back(void) {
    mallopt(M_MMAP_THRESHOLD, 2 << 20);
}
#endif
