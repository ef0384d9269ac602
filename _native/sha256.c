#include "sha256_lanes.h"

#include <string.h>

#define BLOCK_BYTES 64

/* Folds whole 64-byte blocks into the state. */
typedef void compress_fn(uint32_t state[8], const uint8_t *data, size_t blocks);
/* The same for two buffers of one length, side by side: each round waits for the one before it, and the other buffer
 * has work for that time. */
typedef void compress_pair_fn(uint32_t state[2][8], const uint8_t *const data[2], size_t blocks);

const uint32_t SHA256_INITIAL[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotr(uint32_t word, int by)
{
    return word >> by | word << (32 - by);
}

static void compress_portable(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    for (; blocks > 0; blocks--, data += BLOCK_BYTES) {
        uint32_t w[64];
        for (int t = 0; t < 16; t++)
            w[t] = load32(data + 4 * t);
        for (int t = 16; t < 64; t++) {
            uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
            uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
#pragma GCC unroll 64
        for (int t = 0; t < 64; t++) {
            uint32_t s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
            uint32_t s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
            uint32_t t1 = h + s1 + (g ^ (e & (f ^ g))) + SHA256_K[t] + w[t];
            uint32_t t2 = s0 + ((a & b) | (c & (a | b)));
            h = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

static void compress_pair_portable(uint32_t state[2][8], const uint8_t *const data[2], size_t blocks)
{
    compress_portable(state[0], data[0], blocks);
    compress_portable(state[1], data[1], blocks);
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_SHA_NI 1

#include <cpuid.h>
#include <immintrin.h>

static int cpu_has_sha_ni(void)
{
    const unsigned needed = bit_SSSE3 | bit_SSE4_1;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & needed) != needed)
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}

#define SHA_NI __attribute__((target("sha,sse4.1,ssse3"))) static inline

/* The instructions want the state as the rows (f e b a) and (h g d c), lowest lane first. Each
 * sha256rnds2 does two rounds: it returns the new feba row, and the old one has become hgdc. */
typedef struct {
    __m128i feba, hgdc;
} rows;

SHA_NI rows load_rows(const uint32_t state[8])
{
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    return (rows){_mm_alignr_epi8(badc, hgfe, 8), _mm_blend_epi16(hgfe, badc, 0xf0)};
}

SHA_NI void store_rows(uint32_t state[8], rows r)
{
    __m128i abef = _mm_shuffle_epi32(r.feba, 0x1b);
    __m128i ghcd = _mm_shuffle_epi32(r.hgdc, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(abef, ghcd, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(ghcd, abef, 8));
}

/* Four rounds: words 4 * i to 4 * i + 3 of the schedule, which depend on the four vectors before them. */
SHA_NI rows four_rounds(rows r, __m128i w[16], int i, const uint8_t *data)
{
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    if (i < 4) {
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + i), big_endian);
    } else {
        __m128i w7 = _mm_alignr_epi8(w[i - 1], w[i - 2], 4);
        __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i - 4], w[i - 3]), w7);
        w[i] = _mm_sha256msg2_epu32(sum, w[i - 1]);
    }
    __m128i wk = _mm_add_epi32(w[i], _mm_loadu_si128((const __m128i *)(SHA256_K + 4 * i)));
    r.hgdc = _mm_sha256rnds2_epu32(r.hgdc, r.feba, wk);
    r.feba = _mm_sha256rnds2_epu32(r.feba, r.hgdc, _mm_shuffle_epi32(wk, 0x0e));
    return r;
}

SHA_NI rows add_rows(rows a, rows b)
{
    return (rows){_mm_add_epi32(a.feba, b.feba), _mm_add_epi32(a.hgdc, b.hgdc)};
}

__attribute__((target("sha,sse4.1,ssse3")))
static void compress_sha_ni(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    rows r = load_rows(state);
    for (; blocks > 0; blocks--, data += BLOCK_BYTES) {
        rows before = r;
        __m128i w[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            r = four_rounds(r, w, i, data);
        r = add_rows(r, before);
    }
    store_rows(state, r);
}

__attribute__((target("sha,sse4.1,ssse3")))
static void compress_pair_sha_ni(uint32_t state[2][8], const uint8_t *const data[2], size_t blocks)
{
    rows r = load_rows(state[0]), s = load_rows(state[1]);
    for (size_t at = 0; at < blocks * BLOCK_BYTES; at += BLOCK_BYTES) {
        rows r_before = r, s_before = s;
        __m128i v[16], w[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            r = four_rounds(r, v, i, data[0] + at);
            s = four_rounds(s, w, i, data[1] + at);
        }
        r = add_rows(r, r_before);
        s = add_rows(s, s_before);
    }
    store_rows(state[0], r);
    store_rows(state[1], s);
}
#endif

static compress_fn *compress = compress_portable;
static compress_pair_fn *compress_pair = compress_pair_portable;
static int use_lanes = 0;

int sha256_select(int at_most)
{
    int found = SHA256_PORTABLE;
    compress = compress_portable;
    compress_pair = compress_pair_portable;
#ifdef HAVE_SHA_NI
    if (at_most >= SHA256_SHA_NI && cpu_has_sha_ni()) {
        compress = compress_sha_ni;
        compress_pair = compress_pair_sha_ni;
        found = SHA256_SHA_NI;
    }
#endif
    use_lanes = at_most >= SHA256_AVX512 && sha256_have_lanes();
    return use_lanes ? SHA256_AVX512 : found;
}

/* The last block, or two, of `size` bytes that are left of a message of `bits`: `edge` has `filled` bytes already. */
static size_t last_blocks(uint8_t edge[2 * BLOCK_BYTES], size_t filled, const uint8_t *data, size_t size, uint64_t bits)
{
    memcpy(edge + filled, data, size);
    filled += size;
    edge[filled++] = 0x80;
    size_t blocks = filled + sizeof bits <= BLOCK_BYTES ? 1 : 2;
    memset(edge + filled, 0, blocks * BLOCK_BYTES - filled - sizeof bits);
    store64(edge + blocks * BLOCK_BYTES - sizeof bits, bits);
    return blocks;
}

static void store_digest(uint8_t digest[SHA256_BYTES], const uint32_t state[8])
{
    for (int i = 0; i < 8; i++)
        store32(digest + 4 * i, state[i]);
}

/* The tag shifts the data by one byte against the blocks, so only the first and the last blocks go through
 * `edge`; everything between is read in place. */
void sha256_tagged(uint8_t tag, const uint8_t *data, size_t size, uint8_t digest[SHA256_BYTES])
{
    const uint64_t bits = 8 * ((uint64_t)size + 1);
    uint8_t edge[2 * BLOCK_BYTES] = {tag};
    size_t filled = 1;
    uint32_t state[8];
    memcpy(state, SHA256_INITIAL, sizeof state);

    if (size >= BLOCK_BYTES - 1) {
        memcpy(edge + 1, data, BLOCK_BYTES - 1);
        compress(state, edge, 1);
        data += BLOCK_BYTES - 1, size -= BLOCK_BYTES - 1;
        size_t whole = size / BLOCK_BYTES;
        compress(state, data, whole);
        data += whole * BLOCK_BYTES, size -= whole * BLOCK_BYTES;
        filled = 0;
    }
    compress(state, edge, last_blocks(edge, filled, data, size, bits));
    store_digest(digest, state);
}

/* Two buffers of the same size at once, which takes little longer than one: digests[0..32) of the first, the rest of the
 * second. `digests` may overlap the data: it is written last. */
static void tagged_pair(
    uint8_t tag, const uint8_t *data0, const uint8_t *data1, size_t size, uint8_t digests[2 * SHA256_BYTES])
{
    const uint64_t bits = 8 * ((uint64_t)size + 1);
    const uint8_t *data[2] = {data0, data1};
    uint8_t edge[2][2 * BLOCK_BYTES] = {{tag}, {tag}};
    const uint8_t *const edges[2] = {edge[0], edge[1]};
    size_t filled = 1;
    uint32_t state[2][8];
    memcpy(state[0], SHA256_INITIAL, sizeof SHA256_INITIAL);
    memcpy(state[1], SHA256_INITIAL, sizeof SHA256_INITIAL);

    if (size >= BLOCK_BYTES - 1) {
        memcpy(edge[0] + 1, data[0], BLOCK_BYTES - 1);
        memcpy(edge[1] + 1, data[1], BLOCK_BYTES - 1);
        compress_pair(state, edges, 1);
        data[0] += BLOCK_BYTES - 1, data[1] += BLOCK_BYTES - 1, size -= BLOCK_BYTES - 1;
        size_t whole = size / BLOCK_BYTES;
        compress_pair(state, data, whole);
        data[0] += whole * BLOCK_BYTES, data[1] += whole * BLOCK_BYTES, size -= whole * BLOCK_BYTES;
        filled = 0;
    }
    last_blocks(edge[0], filled, data[0], size, bits);
    compress_pair(state, edges, last_blocks(edge[1], filled, data[1], size, bits));
    store_digest(digests, state[0]);
    store_digest(digests + SHA256_BYTES, state[1]);
}

static void tree_by_pairs(const uint8_t *const leaves[], size_t count, size_t size, uint8_t root[SHA256_BYTES])
{
    uint8_t hashes[SHA256_TREE_LEAVES * SHA256_BYTES];
    for (size_t i = 0; i < count; i += 2)
        tagged_pair(SHA256_LEAF, leaves[i], leaves[i + 1], size, hashes + SHA256_BYTES * i);
    for (size_t nodes = count / 2; nodes > 1; nodes /= 2)
        for (size_t i = 0; i < nodes; i += 2) {
            const uint8_t *children = hashes + 2 * SHA256_BYTES * i;
            tagged_pair(SHA256_NODE, children, children + 2 * SHA256_BYTES, 2 * SHA256_BYTES, hashes + SHA256_BYTES * i);
        }
    sha256_tagged(SHA256_NODE, hashes, 2 * SHA256_BYTES, root);
}

void sha256_tree(const uint8_t *const leaves[], size_t count, size_t size, uint8_t root[SHA256_BYTES])
{
    if (count == 1)
        sha256_tagged(SHA256_LEAF, leaves[0], size, root);
    else if (use_lanes && count >= SHA256_LANES)
        sha256_tree_by_lanes(leaves, count, size, root);
    else
        tree_by_pairs(leaves, count, size, root);
}
