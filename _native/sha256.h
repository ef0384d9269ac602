/* SHA-256 (FIPS 180-4) of one tag byte followed by a buffer: the only shape this project hashes. */
#ifndef HOTSTUFF_SHA256_H
#define HOTSTUFF_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

/* Picks the code that hashes from now on and returns its name: "sha-ni" where the CPU has it and
 * `portable` is 0, else "portable". Call it once at start, before any other thread can hash. */
const char *sha256_select(int portable);

/* digest = SHA256(tag | data[0..size)). `digest` may overlap `data`: it is written last. */
void sha256_tagged(uint8_t tag, const uint8_t *data, size_t size, uint8_t digest[SHA256_BYTES]);

/* Two buffers of the same size at once, which takes little longer than one: digests[0..32) of the first, the rest of the
 * second. `digests` may overlap the data: it is written last. */
void sha256_tagged_pair(
    uint8_t tag, const uint8_t *data0, const uint8_t *data1, size_t size, uint8_t digests[2 * SHA256_BYTES]);

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
