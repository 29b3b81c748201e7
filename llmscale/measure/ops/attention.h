/* Causal attention, forward and backward, for one storage type: included by native.c once for each.
 *
 * Before including, define
 *   NAME(x)   the name of function x for this type
 *   T         storage type of activations
 *   PAIR      1: products in float32; 2: products of pairs of bfloat16, summed in float32 (dpbf16)
 *
 * One sequence and head at a time, in blocks of ROWS queries against all keys up to the block's last, so that the
 * masked half is never computed and scores never leave the cache. All products are of the form
 *   C[row][n] = sum_k A[row][k] * B[k][n]
 * with A read one 32-bit word (a float, or a pair along k) at a time and B packed in vectors of words along n.
 */

#if PAIR == 1
typedef float NAME(cell);
static inline NAME(cell) NAME(cut)(float x) { return x; }
static inline vf NAME(multiply_add)(vf c, uint32_t a, vf b) {
    union { uint32_t u; float f; } word = {a};
    return c + word.f * b;
}
#else
typedef bf16 NAME(cell);
static inline NAME(cell) NAME(cut)(float x) { return to_bf16(x); }
static inline vf NAME(multiply_add)(vf c, uint32_t a, vf b) {
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
}
#endif

/* A tile of `rows` x `vectors`*VL of C, over k words. `a_row` and `a_k` are A's strides, `ld` B's and `c_row` C's. */
static inline __attribute__((always_inline)) void NAME(tile)(int rows, int vectors, const uint32_t *A, long a_row,
                                                             long a_k, const uint32_t *B, long ld, long k_words, float *C,
                                                             long c_row, int add) {
    vf acc[16];
#pragma GCC unroll 16
    for (int i = 0; i < rows * vectors; i++)
        acc[i] = add ? load(C + (i / vectors) * c_row + (i % vectors) * VL) : zero();
    for (long k = 0; k < k_words; k++) {
        vf b[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            b[v] = load((const float *)B + k * ld + v * VL);
            KEEP_IN_REGISTER(b[v]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            uint32_t a = A[r * a_row + k * a_k];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) acc[r * vectors + v] = NAME(multiply_add)(acc[r * vectors + v], a, b[v]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * vectors; i++) store(C + (i / vectors) * c_row + (i % vectors) * VL, acc[i]);
}

#define TILES(height, vectors)                                                                                     \
    for (long r = 0; r < rows; r += height) {                                                                      \
        long from = 0, to = k_words;                                                                               \
        if (part == KEYS_OF_ROWS && j >= first + r + height) continue;                                             \
        if (part == KEYS_OF_SUMS) to = lesser(to, (first + r + height + PAIR - 1) / PAIR);                           \
        if (part == QUERIES_OF_KEYS && r > first) from = (r - first) / PAIR;                                       \
        NAME(tile)(height, vectors, A + r * a_row + from * a_k, a_row, a_k, B + j + from * ld, ld, to - from,      \
                   C + r * c_row + j, c_row, add);                                                                 \
    }

/* `part` of C[rows][n] over k words; rows a multiple of ROWS, n of VL. */
static inline __attribute__((always_inline)) void NAME(product)(int part, long first, long rows, long n,
                                                                const uint32_t *A, long a_row, long a_k,
                                                                const uint32_t *B, long ld, long k_words, float *C,
                                                                long c_row, int add) {
    long j = 0;
#if ROWS == 16
    for (; j + 4 * VL <= n && n % (4 * VL) == 0; j += 4 * VL) TILES(4, 4)
    for (; j + 2 * VL <= n; j += 2 * VL) TILES(8, 2)
    for (; j < n; j += VL) TILES(16, 1)
#else
    for (; j + 3 * VL <= n && n % (3 * VL) == 0; j += 3 * VL) TILES(4, 3)
    for (; j + 2 * VL <= n; j += 2 * VL) TILES(6, 2)
    for (; j < n; j += VL) TILES(12, 1)
#endif
}
#undef TILES

/* Values d to d+VL of a row of `head`, 0 beyond it, turned by the angle of position t where there are tables. */
static inline vf NAME(turned)(const T *row, long head, long d, const turns *turns, long t) {
    vf x = NAME(fetch_some)(row + d, 0, head - d), partner;
    if (!turns->cos) return x;
    long half = turns->half, at = t * turns->wide + d;
    if (d + VL <= half)
        partner = NAME(fetch)(row + d + half);
    else if (d >= half)
        partner = NAME(fetch_some)(row + d - half, 0, head - d);
    else
        partner = NAME(fetch_some)(row + d + half, 0, half - d) + NAME(fetch_some)(row + d - half, half - d, head - d);
    return x * load(turns->cos + at) + partner * load(turns->sin + at);
}

static inline void NAME(write_row)(const float *x, long head, float factor, T *row) {
    long i = 0;
    FOR_VECTORS(head) NAME(hold)(row + i, load(x + i) * factor);
    for (; i < head; i++) row[i] = NAME(store_as)(x[i] * factor);
}

/* The transpose of `turned`, for gradients. */
static inline void NAME(write_turned_back)(const float *x, long head, float factor, const turns *turns, long t, T *row) {
    float back[MAX_HEAD] __attribute__((aligned(64)));
    if (!turns->cos) {
        NAME(write_row)(x, head, factor, row);
        return;
    }
    for (long d = 0; d < head; d += VL) {
        long half = turns->half, at = t * turns->wide + d;
        vf partner = fetch_some_f32(x + d + half, 0, half - d) + fetch_some_f32(x + d - half, half - d, head - d);
        store(back + d, load(x + d) * load(turns->cos + at) - partner * load(turns->sin + at));
    }
    NAME(write_row)(back, head, factor, row);
}

/* ROWS rows of cells as ROWS columns of words, from column `first` on. */
static inline void NAME(across)(const NAME(cell) *rows, long wide, long first, long width, uint32_t *columns) {
    const uint32_t *words = (const uint32_t *)rows;
    long k = 0;
    for (; k + VL <= wide / PAIR; k += VL)
        for (long r = 0; r < ROWS; r += VL)
            transpose(words + r * (wide / PAIR) + k, wide / PAIR, columns + k * width + first + r, width);
    for (; k < wide / PAIR; k++)
        for (long r = 0; r < ROWS; r++) columns[k * width + first + r] = words[r * (wide / PAIR) + k];
}

/* One head's queries, keys and values, turned by their positions and packed; `wide` and `width` are head and time rounded up. */
typedef struct {
    long time, head, wide, width;
    const turns *turns;
    float scale;         /* on queries: exp(scores) is taken as exp2 of them */
    NAME(cell) *query;   /* [time][head] */
    uint32_t *query_pairs, *key_pairs, *value_pairs; /* packed along time */
    uint32_t *key_across, *value_across;             /* packed along head: [head][time] */
    NAME(cell) *rows;                                /* room for ROWS rows */
} NAME(packed);

static NAME(packed) NAME(make_packed)(long time, long head, const turns *turns, float scale, int backward, arena *memory) {
    NAME(packed) p = {.time = time, .head = head, .wide = round_up(head, VL), .width = round_up(time, ROWS)};
    size_t bytes = p.width * p.wide * sizeof(NAME(cell));
    p.turns = turns;
    p.scale = scale * LOG2_E;
    p.query = take(memory, bytes);
    p.key_across = take(memory, bytes);
    p.value_pairs = take(memory, bytes);
    p.rows = take(memory, ROWS * p.wide * sizeof(NAME(cell)));
    if (!backward) return p;
    p.query_pairs = PAIR == 1 ? (uint32_t *)p.query : take(memory, bytes);
    p.key_pairs = take(memory, bytes);
    p.value_across = take(memory, bytes);
    return p;
}

/* Fetches `count` rows of a head: they lie too far apart for the processor to foresee them. */
static inline void NAME(foresee)(const T *row, long count, long head, long row_size) {
    for (long i = 0; i < count; i++, row += row_size)
        for (long d = 0; d < head; d += 64 / (long)sizeof(T)) __builtin_prefetch(row + d);
}

/* Fills `p` from head h of one sequence's qkv [time][3][heads][head]. */
static void NAME(pack)(NAME(packed) *p, const T *qkv, long heads, long h, int backward) {
    long head = p->head, wide = p->wide, width = p->width;
    static const turns straight = {0, 0, 0, 0};
    for (int part = 0; part < 3; part++) {
        uint32_t *columns = part == 1 ? p->key_across : backward && part == 2 ? p->value_across : 0;
        uint32_t *words = part == 2 ? p->value_pairs : backward ? (part ? p->key_pairs : p->query_pairs) : 0;
        for (long first = 0; first < p->time; first += ROWS) {
            NAME(cell) *rows = part ? p->rows : p->query + first * wide;
            if (PAIR == 1 && words) rows = (NAME(cell) *)words + first * wide; /* the same thing */
            for (long r = 0; r < ROWS; r += PAIR) {
                /* and what `turned` reads before them */
                NAME(foresee)(qkv + (((first + r + AHEAD) * 3 + part) * heads + h) * head - VL, PAIR, head + VL,
                              3 * heads * head);
                for (long d = 0; d < wide; d += VL) {
                    vf x[PAIR];
                    for (long i = 0; i < PAIR; i++) {
                        long t = first + r + i;
                        const T *row = qkv + ((t * 3 + part) * heads + h) * head;
                        x[i] = t < p->time ? NAME(turned)(row, head, d, part < 2 ? p->turns : &straight, t) : zero();
                        if (part == 0) x[i] *= p->scale;
                        NAME(keep)(rows + (r + i) * wide + d, x[i]);
                    }
                    if (PAIR > 1 && words) NAME(keep_pair)(words + (first + r) / PAIR * wide + d, x);
                }
            }
            if (columns) NAME(across)(rows, wide, first, width, columns);
        }
    }
}

/* out [batch][time][heads*head] and lse [batch][heads][time], the base-2 logarithm of each row's sum. */
void NAME(attention_forward)(const T *qkv, const float *cos, const float *sin, T *out, float *lse, long batch, long time,
                             long heads, long head, float scale) {
    arena memory = open_arena();
    turns turned = make_turns(cos, sin, time, head, &memory);
    NAME(packed) p = NAME(make_packed)(time, head, &turned, scale, 0, &memory);
    long width = p.width, wide = p.wide, head_words = round_up(head, PAIR) / PAIR;
    float *scores = take(&memory, ROWS * width * sizeof(float)), *mixed = take(&memory, ROWS * wide * sizeof(float));
    /* where cells are floats, weights take the place of their scores */
    NAME(cell) *weights = PAIR == 1 ? (NAME(cell) *)scores : take(&memory, ROWS * width * sizeof(NAME(cell)));
    for (long b = 0; b < batch; b++)
        for (long h = 0; h < heads; h++) {
            NAME(pack)(&p, qkv + b * time * 3 * heads * head, heads, h, 0);
            for (long first = 0; first < time; first += ROWS) {
                long keys = first + ROWS, count = time - first < ROWS ? time - first : ROWS;
                float norm[ROWS];
                NAME(foresee)(out + ((b * time + first) * heads + h) * head, count, head, heads * head);
                NAME(product)(KEYS_OF_ROWS, first, ROWS, keys, (uint32_t *)(p.query + first * wide), wide / PAIR, 1,
                              p.key_across, width, head_words, scores, width, 0);
                for (long r = 0; r < ROWS; r++) {
                    float *row = scores + r * width;
                    long own = round_up(first + r + 1, VL);
                    for (long j = first + r + 1; j < own; j++) row[j] = -INFINITY;
                    vf high = load(row), sum = zero();
                    for (long j = VL; j < own; j += VL) high = larger(high, load(row + j));
                    float peak = highest(high);
                    for (long j = 0; j < own; j += VL) {
                        vf weight = exp2_of(load(row + j) - peak);
                        sum += weight;
                        NAME(keep)(weights + r * width + j, weight);
                    }
                    for (long j = own; j < keys; j += VL) NAME(keep)(weights + r * width + j, zero());
                    float total = sum_of(sum);
                    norm[r] = 1 / total;
                    if (r < count) lse[(b * heads + h) * time + first + r] = peak + log2f(total);
                }
                NAME(product)(KEYS_OF_SUMS, first, ROWS, wide, (uint32_t *)weights, width / PAIR, 1, p.value_pairs, wide,
                              keys / PAIR, mixed, wide, 0);
                for (long r = 0; r < count; r++)
                    NAME(write_row)(mixed + r * wide, head, norm[r], out + ((b * time + first + r) * heads + h) * head);
            }
        }
    close_arena(&memory);
}

/* d_qkv from the gradient d_out of `out`; qkv, out and lse as in the forward pass. */
void NAME(attention_backward)(const T *d_out, const T *qkv, const float *cos, const float *sin, const T *out,
                              const float *lse, T *d_qkv, long batch, long time, long heads, long head, float scale) {
    arena memory = open_arena();
    turns turned = make_turns(cos, sin, time, head, &memory);
    NAME(packed) p = NAME(make_packed)(time, head, &turned, scale, 1, &memory);
    long width = p.width, wide = p.wide, head_words = round_up(head, PAIR) / PAIR, row_size = 3 * heads * head;
    float *scores = take(&memory, ROWS * width * sizeof(float)), *slopes = take(&memory, ROWS * width * sizeof(float));
    NAME(cell) *d_scores = take(&memory, ROWS * width * sizeof(NAME(cell)));
    NAME(cell) *d_rows = take(&memory, ROWS * wide * sizeof(NAME(cell)));
    /* where cells are floats, pairs are no other than their rows, and weights take the place of their scores */
    uint32_t *weight_pairs = (uint32_t *)scores, *d_score_pairs = (uint32_t *)d_scores, *d_row_pairs = (uint32_t *)d_rows;
    if (PAIR > 1) {
        weight_pairs = take(&memory, ROWS * width * sizeof(float));
        d_score_pairs = take(&memory, ROWS * width * sizeof(float));
        d_row_pairs = take(&memory, ROWS * wide * sizeof(NAME(cell)));
    }
    float *d_query = take(&memory, ROWS * wide * sizeof(float));
    float *d_key = take(&memory, width * wide * sizeof(float)), *d_value = take(&memory, width * wide * sizeof(float));
    for (long b = 0; b < batch; b++)
        for (long h = 0; h < heads; h++) {
            NAME(pack)(&p, qkv + b * time * row_size, heads, h, 1);
            memset(d_key, 0, width * wide * sizeof(float));
            memset(d_value, 0, width * wide * sizeof(float));
            for (long first = 0; first < time; first += ROWS) {
                long keys = first + ROWS, count = time - first < ROWS ? time - first : ROWS;
                float delta[ROWS], level[ROWS];
                NAME(foresee)(d_qkv + (b * time + first) * row_size + h * head, count, head, row_size);
                long next = lesser(ROWS, time - first - ROWS), after = ((b * time + first + ROWS) * heads + h) * head;
                NAME(foresee)(d_out + after, next, head, heads * head);
                NAME(foresee)(out + after, next, head, heads * head);
                for (long r = 0; r < ROWS; r += PAIR) {
                    vf dot[PAIR] = {{0}}, slope[PAIR];
                    for (long d = 0; d < wide; d += VL) {
                        for (long i = 0; i < PAIR; i++) {
                            long at = ((b * time + first + r + i) * heads + h) * head + d;
                            long some = r + i < count ? head - d : 0;
                            slope[i] = NAME(fetch_some)(d_out + at, 0, some);
                            dot[i] += slope[i] * NAME(fetch_some)(out + at, 0, some);
                            NAME(keep)(d_rows + (r + i) * wide + d, slope[i]);
                        }
                        if (PAIR > 1) NAME(keep_pair)(d_row_pairs + r / PAIR * wide + d, slope);
                    }
                    for (long i = 0; i < PAIR; i++) {
                        delta[r + i] = sum_of(dot[i]);
                        /* rows past the end weigh nothing */
                        level[r + i] = r + i < count ? lse[(b * heads + h) * time + first + r + i] : INFINITY;
                    }
                }
                NAME(product)(KEYS_OF_ROWS, first, ROWS, keys, (uint32_t *)(p.query + first * wide), wide / PAIR, 1,
                              p.key_across, width, head_words, scores, width, 0);
                NAME(product)(KEYS_OF_ROWS, first, ROWS, keys, (uint32_t *)d_rows, wide / PAIR, 1, p.value_across, width,
                              head_words, slopes, width, 0);
                for (long r = 0; r < ROWS; r += PAIR) {
                    long own = round_up(first + r + PAIR, VL);
                    for (long i = 0; i < PAIR; i++)
                        for (long j = first + r + i + 1; j < own; j++) scores[(r + i) * width + j] = -INFINITY;
                    for (long j = 0; j < own; j += VL) {
                        vf weight[PAIR], d_score[PAIR];
                        for (long i = 0; i < PAIR; i++) {
                            weight[i] = exp2_of(load(scores + (r + i) * width + j) - level[r + i]);
                            d_score[i] = weight[i] * (load(slopes + (r + i) * width + j) - delta[r + i]);
                            NAME(keep)(d_scores + (r + i) * width + j, d_score[i]);
                        }
                        NAME(keep_pair)(weight_pairs + r / PAIR * width + j, weight);
                        if (PAIR > 1) NAME(keep_pair)(d_score_pairs + r / PAIR * width + j, d_score);
                    }
                    const vf nothing[PAIR] = {{0}};
                    for (long j = own; j < keys; j += VL) {
                        for (long i = 0; i < PAIR; i++) NAME(keep)(d_scores + (r + i) * width + j, zero());
                        NAME(keep_pair)(weight_pairs + r / PAIR * width + j, nothing);
                        if (PAIR > 1) NAME(keep_pair)(d_score_pairs + r / PAIR * width + j, nothing);
                    }
                }
                NAME(product)(KEYS_OF_SUMS, first, ROWS, wide, (uint32_t *)d_scores, width / PAIR, 1, p.key_pairs, wide,
                              keys / PAIR, d_query, wide, 0);
                NAME(product)(QUERIES_OF_KEYS, first, keys, wide, weight_pairs, 1, width, d_row_pairs, wide, ROWS / PAIR,
                              d_value, wide, 1);
                NAME(product)(QUERIES_OF_KEYS, first, keys, wide, d_score_pairs, 1, width,
                              p.query_pairs + first / PAIR * wide, wide, ROWS / PAIR, d_key, wide, 1);
                for (long r = 0; r < count; r++)
                    NAME(write_turned_back)(d_query + r * wide, head, scale, &turned, first + r,
                                            d_qkv + (b * time + first + r) * row_size + h * head);
            }
            for (long t = 0; t < time; t++) {
                T *to = d_qkv + (b * time + t) * row_size + (heads + h) * head;
                NAME(foresee)(to + AHEAD * row_size, 1, head, 0);
                NAME(foresee)(to + AHEAD * row_size + heads * head, 1, head, 0);
                NAME(write_turned_back)(d_key + t * wide, head, 1 / LOG2_E, &turned, t, to);
                NAME(write_row)(d_value + t * wide, head, 1, to + heads * head);
            }
        }
    close_arena(&memory);
}
