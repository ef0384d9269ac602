/* SHA-256 (FIPS 180-4) of one tag byte followed by a buffer, and RFC 6962 trees of them: all that this project hashes
 * here. */
#ifndef HOTSTUFF_SHA256_H
#define HOTSTUFF_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
/* The most leaves of one `sha256_tree`. */
#define SHA256_TREE_LEAVES 128

/* Tags of a tree's hashes. */
enum { SHA256_LEAF = 0, SHA256_NODE = 1 };

/* What may hash, from the slowest to the fastest. */
enum { SHA256_PORTABLE, SHA256_SHA_NI, SHA256_AVX512 };

/* Picks the fastest that this CPU has, up to `at_most`, and returns it. Call it once at start, before any other thread
 * can hash. */
int sha256_select(int at_most);

/* digest = SHA256(tag | data[0..size)). `digest` may overlap `data`: it is written last. */
void sha256_tagged(uint8_t tag, const uint8_t *data, size_t size, uint8_t digest[SHA256_BYTES]);

/* Root over `count` leaves, a power of two up to SHA256_TREE_LEAVES, which are all `size` bytes long: hashes that do not
 * depend on each other are computed side by side. */
void sha256_tree(const uint8_t *const leaves[], size_t count, size_t size, uint8_t root[SHA256_BYTES]);

/* Big-endian loads that touch memory exactly once. Without `volatile` the compiler may read a length again
 * after it was checked, and another thread may have changed it in between if the buffer is a bytearray. */
static inline uint32_t load32(const uint8_t *bytes)
{
    const volatile uint8_t *b = bytes;
    uint32_t high = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16;
    return high | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

static inline uint64_t load64(const uint8_t *bytes)
{
    return (uint64_t)load32(bytes) << 32 | load32(bytes + 4);
}

static inline void store32(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (24 - 8 * i));
}

static inline void store64(uint8_t *bytes, uint64_t value)
{
    store32(bytes, (uint32_t)(value >> 32));
    store32(bytes + 4, (uint32_t)value);
}

#endif
