/* Sixteen SHA-256 at once, one in each 32-bit lane of AVX-512: twice as fast as pairs with SHA-NI. */
#ifndef HOTSTUFF_SHA256_LANES_H
#define HOTSTUFF_SHA256_LANES_H

#include "sha256.h"

#define SHA256_LANES 16

extern const uint32_t SHA256_INITIAL[8];
extern const uint32_t SHA256_K[64];

/* Has this CPU got the instructions, and may we use them? */
int sha256_have_lanes(void);

/* `sha256_tree` of SHA256_LANES leaves or more. */
void sha256_tree_by_lanes(const uint8_t *const leaves[], size_t count, size_t size, uint8_t root[SHA256_BYTES]);

#endif
