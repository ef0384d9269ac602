#include "sha256_lanes.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>
#include <string.h>

#define BLOCK_BYTES 64
#define WORDS 16 /* of a block */

#define AVX512 __attribute__((target("avx512f,avx512bw")))
#define ADD _mm512_add_epi32
#define ROTR _mm512_ror_epi32
#define SHR _mm512_srli_epi32
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CHOOSE(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)

/* Sixteen hashes: word[i] has the i-th word of each. */
typedef struct {
    __m512i word[8];
} hashes;

int sha256_have_lanes(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

AVX512 static inline hashes initial(void)
{
    hashes h;
    for (int i = 0; i < 8; i++)
        h.word[i] = _mm512_set1_epi32((int)SHA256_INITIAL[i]);
    return h;
}

/* Folds a block, word by word, into each hash. The sums are grouped so that what depends on the last `e` and `a` is added
 * late: in the order of the standard each round waits longer for the one before it, and a block takes a fifth longer. */
AVX512 static inline void compress(hashes *hash, __m512i w[WORDS])
{
    __m512i a = hash->word[0], b = hash->word[1], c = hash->word[2], d = hash->word[3];
    __m512i e = hash->word[4], f = hash->word[5], g = hash->word[6], h = hash->word[7];
#pragma GCC unroll 64
    for (int t = 0; t < 64; t++) {
        if (t >= WORDS) {
            __m512i near = w[(t + 1) % WORDS], far = w[(t + 14) % WORDS];
            __m512i s0 = XOR3(ROTR(near, 7), ROTR(near, 18), SHR(near, 3));
            __m512i s1 = XOR3(ROTR(far, 17), ROTR(far, 19), SHR(far, 10));
            w[t % WORDS] = ADD(ADD(w[t % WORDS], s0), ADD(w[(t + 9) % WORDS], s1));
        }
        __m512i known = ADD(h, ADD(w[t % WORDS], _mm512_set1_epi32((int)SHA256_K[t])));
        __m512i chosen = ADD(known, CHOOSE(e, f, g));
        __m512i voted = ADD(chosen, MAJORITY(a, b, c));
        __m512i s1 = XOR3(ROTR(e, 6), ROTR(e, 11), ROTR(e, 25));
        __m512i s0 = XOR3(ROTR(a, 2), ROTR(a, 13), ROTR(a, 22));
        h = g, g = f, f = e, e = ADD(ADD(d, chosen), s1);
        d = c, c = b, b = a, a = ADD(voted, ADD(s0, s1));
    }
    hash->word[0] = ADD(hash->word[0], a), hash->word[1] = ADD(hash->word[1], b);
    hash->word[2] = ADD(hash->word[2], c), hash->word[3] = ADD(hash->word[3], d);
    hash->word[4] = ADD(hash->word[4], e), hash->word[5] = ADD(hash->word[5], f);
    hash->word[6] = ADD(hash->word[6], g), hash->word[7] = ADD(hash->word[7], h);
}

/* Rows become columns: before, m[i] is a block of hash i; after, m[i] is word i of each. */
AVX512 static inline void transpose(__m512i m[WORDS])
{
    __m512i t[WORDS];
#pragma GCC unroll 8
    for (int i = 0; i < WORDS; i += 2) {
        t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < WORDS; i += 4) {
        m[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        m[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        m[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        m[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* Now quarter j of m[4 * q + k] is word 4 * j + k of the hashes 4 * q to 4 * q + 3. */
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i low01 = _mm512_shuffle_i32x4(m[k], m[4 + k], 0x44);
        __m512i low23 = _mm512_shuffle_i32x4(m[8 + k], m[12 + k], 0x44);
        __m512i high01 = _mm512_shuffle_i32x4(m[k], m[4 + k], 0xee);
        __m512i high23 = _mm512_shuffle_i32x4(m[8 + k], m[12 + k], 0xee);
        t[k] = _mm512_shuffle_i32x4(low01, low23, 0x88);
        t[4 + k] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
        t[8 + k] = _mm512_shuffle_i32x4(high01, high23, 0x88);
        t[12 + k] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
    }
    memcpy(m, t, sizeof t);
}

/* What of the block at `at` of a message (tag | data | padding) is data, and in `*rest` all else of that block. */
AVX512 static inline __mmask64 edges(size_t at, size_t message, size_t padded, __m512i *rest)
{
    uint8_t bytes[BLOCK_BYTES] = {0};
    __mmask64 data = ~(__mmask64)0;
    if (at == 0) {
        bytes[0] = SHA256_LEAF;
        data &= ~(__mmask64)1;
    }
    if (message < at + BLOCK_BYTES) {
        if (message >= at)
            bytes[message - at] = 0x80;
        data &= message > at ? ((__mmask64)1 << (message - at)) - 1 : 0;
    }
    if (at + BLOCK_BYTES == padded)
        store64(bytes + BLOCK_BYTES - 8, 8 * (uint64_t)message);
    *rest = _mm512_loadu_si512(bytes);
    return data;
}

/* What is masked out is not touched: neither the byte before a leaf nor those after it. */
AVX512 static hashes hash_leaves(const uint8_t *const leaves[SHA256_LANES], size_t size)
{
    const __m512i big_endian =
        _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    const size_t message = 1 + size;
    const size_t padded = (message + 1 + 8 + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    hashes hash = initial();
    for (size_t at = 0; at < padded; at += BLOCK_BYTES) {
        __m512i rest, w[WORDS];
        __mmask64 data = edges(at, message, padded, &rest);
#pragma GCC unroll 16
        for (int i = 0; i < SHA256_LANES; i++) {
            __m512i row = _mm512_maskz_loadu_epi8(data, leaves[i] + at - 1);
            w[i] = _mm512_shuffle_epi8(_mm512_or_si512(row, rest), big_endian);
        }
        transpose(w);
        compress(&hash, w);
    }
    return hash;
}

/* The parents of neighbours: of those in `low` the first eight, of those in `high` the others. */
AVX512 static hashes hash_nodes(const hashes *low, const hashes *high)
{
    const __m512i left = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i right = ADD(left, _mm512_set1_epi32(1));
    __m512i children[WORDS], w[WORDS], before = _mm512_set1_epi32(SHA256_NODE);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        children[i] = _mm512_permutex2var_epi32(low->word[i], left, high->word[i]);
        children[8 + i] = _mm512_permutex2var_epi32(low->word[i], right, high->word[i]);
    }
    /* The tag shifts the children by one byte against the words, and their last byte into a block of its own. */
#pragma GCC unroll 16
    for (int i = 0; i < WORDS; i++) {
        w[i] = _mm512_or_si512(_mm512_slli_epi32(before, 24), SHR(children[i], 8));
        before = children[i];
    }
    hashes hash = initial();
    compress(&hash, w);
    memset(w, 0, sizeof w);
    w[0] = _mm512_or_si512(_mm512_slli_epi32(before, 24), _mm512_set1_epi32(0x800000));
    w[15] = _mm512_set1_epi32(8 * (1 + 2 * SHA256_BYTES));
    compress(&hash, w);
    return hash;
}

AVX512 void sha256_tree_by_lanes(
    const uint8_t *const leaves[], size_t count, size_t size, uint8_t root[SHA256_BYTES])
{
    hashes level[SHA256_TREE_LEAVES / SHA256_LANES];
    size_t full = count / SHA256_LANES;
    for (size_t i = 0; i < full; i++)
        level[i] = hash_leaves(leaves + SHA256_LANES * i, size);
    for (full /= 2; full > 0; full /= 2)
        for (size_t i = 0; i < full; i++)
            level[i] = hash_nodes(&level[2 * i], &level[2 * i + 1]);
    for (int nodes = SHA256_LANES / 2; nodes > 0; nodes /= 2)
        level[0] = hash_nodes(&level[0], &level[0]);
    for (int i = 0; i < 8; i++)
        store32(root + 4 * i, (uint32_t)_mm512_cvtsi512_si32(level[0].word[i]));
}

#else

int sha256_have_lanes(void)
{
    return 0;
}

void sha256_tree_by_lanes(const uint8_t *const leaves[], size_t count, size_t size, uint8_t root[SHA256_BYTES])
{
    (void)leaves, (void)count, (void)size, (void)root;
}

#endif
