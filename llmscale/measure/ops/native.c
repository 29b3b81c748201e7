/* The parts of a Transformer's training step that are not matrix products, for one CPU thread.
 *
 * Activations are stored as float32 or bfloat16 and computed in float32. Every function comes for both types, with the
 * suffix _f32 or _bf16: elementwise.h and attention.h are included once for each. Written in GCC's vector extensions,
 * which clang has too; products of bfloat16 pairs are used where the CPU has them.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
/* VL floats make a vector. Tiles of products are as large as the registers hold, 32 vectors of AVX-512 or 16 of others;
 * ROWS is a multiple of each tile's rows, and of VL. */
#ifdef __AVX512F__
#define VL 16
#define ROWS 16
#else
#define VL 8
#define ROWS 24
#endif
#define MAX_HEAD 1024
/* Rows from the one in work to the one that is fetched. */
#define AHEAD 16
#define LOG2_E 1.44269504088896341f

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint16_t bf16;
typedef bf16 vh __attribute__((vector_size(VL * 2)));

static inline vf load(const float *at) { vf x; memcpy(&x, at, sizeof x); return x; }
static inline void store(float *at, vf x) { memcpy(at, &x, sizeof x); }
static inline vf zero(void) { return (vf){0}; }
static inline vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }
#ifdef __AVX512F__
static inline vf larger(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
static inline float highest(vf x) { return _mm512_reduce_max_ps((__m512)x); }
static inline float sum_of(vf x) { return _mm512_reduce_add_ps((__m512)x); }
#elif defined(__AVX2__)
static inline vf larger(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
static inline float highest(vf x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
static inline float sum_of(vf x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#else
static inline vf larger(vf a, vf b) { return choose(a > b, a, b); }
static inline float highest(vf x) { float m = x[0]; for (int i = 1; i < VL; i++) m = x[i] > m ? x[i] : m; return m; }
static inline float sum_of(vf x) { float s = 0; for (int i = 0; i < VL; i++) s += x[i]; return s; }
#endif
/* Compilers else read a vector from memory again for each product with it, and loads are then what takes longest. */
#if defined(__AVX2__)
#define KEEP_IN_REGISTER(x) __asm__("" : "+v"(x))
#else
#define KEEP_IN_REGISTER(x) (void)(x)
#endif
/* A mask of lanes `from` to `to`, either of which may lie outside the vector. */
static inline uint32_t lanes(long from, long to) {
    from = from < 0 ? 0 : from > VL ? VL : from;
    to = to < 0 ? 0 : to > VL ? VL : to;
    return to > from ? (1u << to) - (1u << from) : 0;
}
static inline long round_up(long n, long step) { return (n + step - 1) / step * step; }

/* a[0] b[0] a[1] b[1] ..., in two vectors. */
static inline void interleave(vi a, vi b, vi *to) {
#ifdef __AVX512F__
    const vi first = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
    to[0] = (vi)_mm512_permutex2var_epi32((__m512i)a, (__m512i)first, (__m512i)b);
    to[1] = (vi)_mm512_permutex2var_epi32((__m512i)a, (__m512i)(first + VL / 2), (__m512i)b);
#elif defined(__AVX2__)
    __m256i low = _mm256_unpacklo_epi32((__m256i)a, (__m256i)b), high = _mm256_unpackhi_epi32((__m256i)a, (__m256i)b);
    to[0] = (vi)_mm256_permute2x128_si256(low, high, 0x20);
    to[1] = (vi)_mm256_permute2x128_si256(low, high, 0x31);
#else
    for (int i = 0; i < 2 * VL; i++) to[i / VL][i % VL] = i % 2 ? b[i / 2] : a[i / 2];
#endif
}
/* The VL x VL words in `row`, VL vectors of which are `ld` apart, as columns. */
static inline void transpose(const uint32_t *row, long row_ld, uint32_t *column, long column_ld) {
    vi a[VL], b[VL];
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) memcpy(a + i, row + i * row_ld, sizeof *a);
#pragma GCC unroll 4
    for (int done = 1; done < VL; done *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < VL / 2; i++) interleave(a[i], a[i + VL / 2], b + 2 * i);
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++) a[i] = b[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) memcpy(column + i * column_ld, a + i, sizeof *a);
}

/* bfloat16 is the upper half of a float32, rounded to nearest, ties to even. */
static inline float bf16_to_float(bf16 x) { union { uint32_t u; float f; } w = {(uint32_t)x << 16}; return w.f; }
static inline bf16 to_bf16(float x) {
    union { float f; uint32_t u; } w = {x};
    return x == x ? (bf16)((w.u + 0x7fff + ((w.u >> 16) & 1)) >> 16) : 0x7fc0;
}
static inline vi rounded(vf x) { vi u = (vi)x; return u + 0x7fff + ((u >> 16) & 1); }
static inline vf load_bf16(const bf16 *at) {
    vh x;
    memcpy(&x, at, sizeof x);
    return (vf)(__builtin_convertvector(x, vi) << 16);
}
static inline void store_bf16(bf16 *at, vf x) {
#ifdef __AVX512BF16__
    __m256bh y = _mm512_cvtneps_pbh((__m512)x);
    memcpy(at, &y, sizeof y);
#else
    vi nan = x != x;
    vi cut = (rounded(x) & ~nan) | (0x7fc00000 & nan);
    vh y = __builtin_convertvector((cut >> 16) & 0xffff, vh);
    memcpy(at, &y, sizeof y);
#endif
}

/* 2^x within 1e-7 (relative) for x of at most 127, and 0 for what is far below every sum of such: a polynomial (minimax,
 * degree 6) in the distance to the nearest whole number, which then goes into the exponent. */
static inline vf exp2_of(vf x) {
#ifdef __AVX512F__
    x = larger(x, zero() - 160.0f);
    vf whole = (vf)_mm512_roundscale_ps((__m512)x, 0);
#else
    vi some = x >= -100.0f;
    x = larger(x, zero() - 100.0f);
    vf shifted = x + 12582912.0f; /* 1.5 * 2^23 leaves no room for a fraction: the whole number is in the low bits */
    vf whole = shifted - 12582912.0f;
#endif
    vf f = x - whole;
    vf y = zero() + 1.53458120e-4f;
    y = y * f + 1.33999312e-3f;
    y = y * f + 9.61848896e-3f;
    y = y * f + 5.55032878e-2f;
    y = y * f + 2.40226469e-1f;
    y = y * f + 6.93147206e-1f;
    y = y * f + 1.0f;
#ifdef __AVX512F__
    return (vf)_mm512_scalef_ps((__m512)y, (__m512)whole);
#else
    return (vf)(((vi)y + ((vi)shifted << 23)) & some);
#endif
}
static inline vf exp_of(vf x) { return exp2_of(x * LOG2_E); }
/* 1/x for x of at least 1: an estimate to 14 bits, and one step of Newton's. */
static inline vf inverse_of(vf x) {
#ifdef __AVX512F__
    vf y = (vf)_mm512_rcp14_ps((__m512)x);
    return y * (2.0f - x * y);
#else
    return 1.0f / x;
#endif
}
static inline vf sigmoid_of(vf x) {
    vf e = exp_of(zero() - larger(x, zero() - 80.0f)); /* finite, so that its inverse is no NaN */
    return inverse_of(1.0f + e);
}

/* Scratch memory of one call. */
typedef struct { void *parts[32]; int count; } arena;
static arena open_arena(void) { arena a = {{0}, 0}; return a; }
static void *take(arena *a, size_t bytes) {
    void *p = aligned_alloc(64, round_up((long)bytes, 64));
    if (!p || a->count == 32) abort();
    memset(p, 0, round_up((long)bytes, 64));
    a->parts[a->count++] = p;
    return p;
}
static void close_arena(arena *a) { for (int i = 0; i < a->count; i++) free(a->parts[i]); }

/* Rotary positions: x_i cos_i + x_partner sin_i, where the partner of a head's first half is its second, whose sine
 * counts negative. Tables [time][wide], zero beyond the head. */
typedef struct { const float *cos; const float *sin; long half, wide; } turns;

static turns make_turns(const float *cos, const float *sin, long time, long head, arena *memory) {
    turns t = {0, 0, head / 2, round_up(head, VL)};
    if (!cos) return t;
    float *c = take(memory, time * t.wide * sizeof(float)), *s = take(memory, time * t.wide * sizeof(float));
    for (long i = 0; i < time; i++)
        for (long d = 0; d < head; d++) {
            c[i * t.wide + d] = cos[i * head + d];
            s[i * t.wide + d] = d < t.half ? -sin[i * head + d] : sin[i * head + d];
        }
    t.cos = c;
    t.sin = s;
    return t;
}

/* Which part of a product counts, one of whose sizes is a block's queries and another all keys up to its last:
 * KEYS_OF_ROWS: of the columns n those up to each row's own key; KEYS_OF_SUMS: of the words k those up to the row's own;
 * QUERIES_OF_KEYS: of the words k, queries, those from the row's own, a key, on. Tiles decide as a whole. */
enum { KEYS_OF_ROWS, KEYS_OF_SUMS, QUERIES_OF_KEYS };
static inline long lesser(long a, long b) { return a < b ? a : b; }

#define T float
#define NAME(x) x##_f32
#define PAIR 1
static inline float store_as_f32(float x) { return x; }
static inline vf fetch_f32(const float *at) { return load(at); }
/* Lanes `from` to `to` alone, and 0 in the others, whose memory is not touched. */
static inline vf fetch_some_f32(const float *at, long from, long to) {
#ifdef __AVX512F__
    return (vf)_mm512_maskz_loadu_ps((__mmask16)lanes(from, to), at);
#elif defined(__AVX2__)
    if (from <= 0 && to >= VL) return load(at);
    from = from < 0 ? 0 : from > VL ? VL : from;
    to = to < 0 ? 0 : to > VL ? VL : to;
    const vi places = {0, 1, 2, 3, 4, 5, 6, 7};
    vi mask = (places >= (int32_t)from) & (places < (int32_t)to);
    if (from >= to) return zero();
    /* A vector that lies in one page can be read whole. With masked loads alone attention took 5 to 12% longer on Zen 3
     * with heads of 24. */
    if (((uintptr_t)at & 4095) <= 4096 - sizeof mask) return (vf)((vi)load(at) & mask);
    return (vf)_mm256_maskload_ps(at, (__m256i)mask);
#else
    vf x = zero();
    for (long i = from < 0 ? 0 : from; i < VL && i < to; i++) x[i] = at[i];
    return x;
#endif
}
static inline void keep_f32(float *at, vf x) { store(at, x); }
static inline void hold_f32(float *at, vf x) { store(at, x); }
static inline void keep_pair_f32(uint32_t *at, const vf *x) { memcpy(at, x, sizeof *x); }
#define to_float(x) (x)
#include "elementwise.h"
#include "attention.h"
#undef T
#undef NAME
#undef PAIR
#undef to_float

#define T bf16
#define NAME(x) x##_bf16
#define to_float(x) bf16_to_float(x)
static inline bf16 store_as_bf16(float x) { return to_bf16(x); }
static inline vf fetch_bf16(const bf16 *at) { return load_bf16(at); }
static inline vf fetch_some_bf16(const bf16 *at, long from, long to) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    vh x = (vh)_mm256_maskz_loadu_epi16((__mmask16)lanes(from, to), at);
    return (vf)(__builtin_convertvector(x, vi) << 16);
#else
    vf x = zero();
    for (long i = from < 0 ? 0 : from; i < VL && i < to; i++) x[i] = bf16_to_float(at[i]);
    return x;
#endif
}
static inline void hold_bf16(bf16 *at, vf x) { store_bf16(at, x); }
#ifdef __AVX512BF16__
#define PAIR 2
static inline void keep_bf16(bf16 *at, vf x) { store_bf16(at, x); }
static inline void keep_pair_bf16(uint32_t *at, const vf *x) {
    vi pair = ((rounded(x[0]) >> 16) & 0xffff) | (rounded(x[1]) & (int32_t)0xffff0000);
    memcpy(at, &pair, sizeof pair);
}
#else
#define PAIR 1
static inline void keep_bf16(float *at, vf x) { store(at, x); }
static inline void keep_pair_bf16(uint32_t *at, const vf *x) { memcpy(at, x, sizeof *x); }
#endif
#include "elementwise.h"
#include "attention.h"
