/* Norms, activations and cross-entropy for one storage type T: included by native.c once for each. Rows of `width`
 * values; the residual stream and all weights and their gradients are float32. */

#define FOR_VECTORS(width) for (; i + VL <= (width); i += VL)

/* y = x + added (nothing where 0), n = weight * y / sqrt(mean(y^2) + epsilon); y may be 0 when nothing is added. */
void NAME(rms_norm_forward)(const float *x, const T *added, const float *weight, float *y, T *n, float *scale,
                            long rows, long width, float epsilon) {
    for (long r = 0; r < rows; r++) {
        const float *from = x + r * width;
        vf squares = zero();
        float rest = 0;
        long i = 0;
        if (added) {
            FOR_VECTORS(width) {
                vf sum = load(from + i) + NAME(fetch)(added + r * width + i);
                store(y + r * width + i, sum);
                squares += sum * sum;
            }
            for (; i < width; i++) {
                float sum = from[i] + to_float(added[r * width + i]);
                y[r * width + i] = sum;
                rest += sum * sum;
            }
            from = y + r * width;
        } else {
            FOR_VECTORS(width) { vf v = load(from + i); squares += v * v; }
            for (; i < width; i++) rest += from[i] * from[i];
        }
        float factor = 1 / sqrtf((sum_of(squares) + rest) / width + epsilon);
        scale[r] = factor;
        i = 0;
        FOR_VECTORS(width) NAME(hold)(n + r * width + i, load(from + i) * factor * load(weight + i));
        for (; i < width; i++) n[r * width + i] = NAME(store_as)(from[i] * factor * weight[i]);
    }
}

/* dx = d_y + the gradient through the norm; d_added the same as T; d_weight is added to. d_y and d_added may be 0. */
void NAME(rms_norm_backward)(const float *d_y, const T *d_n, const float *y, const float *weight, const float *scale,
                             float *dx, T *d_added, float *d_weight, long rows, long width) {
    for (long r = 0; r < rows; r++) {
        const float *at = y + r * width;
        const T *slope = d_n + r * width;
        float factor = scale[r], rest = 0;
        vf dots = zero();
        long i = 0;
        FOR_VECTORS(width) {
            vf g = NAME(fetch)(slope + i), v = load(at + i);
            dots += g * load(weight + i) * v;
            store(d_weight + i, load(d_weight + i) + g * v * factor);
        }
        for (; i < width; i++) {
            float g = to_float(slope[i]);
            rest += g * weight[i] * at[i];
            d_weight[i] += g * at[i] * factor;
        }
        float pull = (sum_of(dots) + rest) * factor * factor * factor / width;
        i = 0;
        FOR_VECTORS(width) {
            vf g = NAME(fetch)(slope + i) * load(weight + i) * factor - load(at + i) * pull;
            if (d_y) g += load(d_y + r * width + i);
            store(dx + r * width + i, g);
            if (d_added) NAME(hold)(d_added + r * width + i, g);
        }
        for (; i < width; i++) {
            float g = to_float(slope[i]) * weight[i] * factor - at[i] * pull + (d_y ? d_y[r * width + i] : 0);
            dx[r * width + i] = g;
            if (d_added) d_added[r * width + i] = NAME(store_as)(g);
        }
    }
}

/* As rms_norm_forward, with n = weight * (y - mean) / sqrt(variance + epsilon) + bias; keeps mean and scale. */
void NAME(layer_norm_forward)(const float *x, const T *added, const float *weight, const float *bias, float *y, T *n,
                              float *mean, float *scale, long rows, long width, float epsilon) {
    for (long r = 0; r < rows; r++) {
        const float *from = x + r * width;
        if (added) {
            for (long i = 0; i < width; i++) y[r * width + i] = from[i] + to_float(added[r * width + i]);
            from = y + r * width;
        }
        vf sums = zero(), squares = zero();
        float sum = 0, square = 0;
        long i = 0;
        FOR_VECTORS(width) sums += load(from + i);
        for (; i < width; i++) sum += from[i];
        float middle = mean[r] = (sum_of(sums) + sum) / width;
        i = 0;
        FOR_VECTORS(width) { vf v = load(from + i) - middle; squares += v * v; }
        for (; i < width; i++) square += (from[i] - middle) * (from[i] - middle);
        float factor = scale[r] = 1 / sqrtf((sum_of(squares) + square) / width + epsilon);
        i = 0;
        FOR_VECTORS(width)
            NAME(hold)(n + r * width + i, (load(from + i) - middle) * factor * load(weight + i) + load(bias + i));
        for (; i < width; i++) n[r * width + i] = NAME(store_as)((from[i] - middle) * factor * weight[i] + bias[i]);
    }
}

/* As rms_norm_backward; d_bias is added to as well. */
void NAME(layer_norm_backward)(const float *d_y, const T *d_n, const float *y, const float *weight, const float *mean,
                               const float *scale, float *dx, T *d_added, float *d_weight, float *d_bias, long rows,
                               long width) {
    for (long r = 0; r < rows; r++) {
        const float *at = y + r * width;
        const T *slope = d_n + r * width;
        float factor = scale[r], middle = mean[r], dot = 0, sum = 0;
        vf dots = zero(), sums = zero();
        long i = 0;
        FOR_VECTORS(width) {
            vf g = NAME(fetch)(slope + i), v = (load(at + i) - middle) * factor, h = g * load(weight + i);
            dots += h * v;
            sums += h;
            store(d_weight + i, load(d_weight + i) + g * v);
            store(d_bias + i, load(d_bias + i) + g);
        }
        for (; i < width; i++) {
            float g = to_float(slope[i]), v = (at[i] - middle) * factor, h = g * weight[i];
            dot += h * v;
            sum += h;
            d_weight[i] += g * v;
            d_bias[i] += g;
        }
        float pull = (sum_of(dots) + dot) / width, shift = (sum_of(sums) + sum) / width;
        i = 0;
        FOR_VECTORS(width) {
            vf v = (load(at + i) - middle) * factor;
            vf g = (NAME(fetch)(slope + i) * load(weight + i) - v * pull - shift) * factor;
            if (d_y) g += load(d_y + r * width + i);
            store(dx + r * width + i, g);
            if (d_added) NAME(hold)(d_added + r * width + i, g);
        }
        for (; i < width; i++) {
            float v = (at[i] - middle) * factor;
            float g = (to_float(slope[i]) * weight[i] - v * pull - shift) * factor + (d_y ? d_y[r * width + i] : 0);
            dx[r * width + i] = g;
            if (d_added) d_added[r * width + i] = NAME(store_as)(g);
        }
    }
}

/* h = silu(gate) * up from [rows][gate width | up width]. */
void NAME(swiglu_forward)(const T *gate_up, T *h, long rows, long width) {
    for (long r = 0; r < rows; r++) {
        const T *gate = gate_up + 2 * r * width, *up = gate + width;
        long i = 0;
        FOR_VECTORS(width) {
            vf g = NAME(fetch)(gate + i);
            NAME(hold)(h + r * width + i, g * sigmoid_of(g) * NAME(fetch)(up + i));
        }
        for (; i < width; i++) {
            float g = to_float(gate[i]);
            h[r * width + i] = NAME(store_as)(g / (1 + expf(-g)) * to_float(up[i]));
        }
    }
}

void NAME(swiglu_backward)(const T *d_h, const T *gate_up, T *d_gate_up, long rows, long width) {
    for (long r = 0; r < rows; r++) {
        const T *gate = gate_up + 2 * r * width, *up = gate + width, *slope = d_h + r * width;
        T *d_gate = d_gate_up + 2 * r * width, *d_up = d_gate + width;
        long i = 0;
        FOR_VECTORS(width) {
            vf g = NAME(fetch)(gate + i), s = sigmoid_of(g), d = NAME(fetch)(slope + i);
            NAME(hold)(d_gate + i, d * NAME(fetch)(up + i) * s * (1.0f + g * (1.0f - s)));
            NAME(hold)(d_up + i, d * g * s);
        }
        for (; i < width; i++) {
            float g = to_float(gate[i]), s = 1 / (1 + expf(-g)), d = to_float(slope[i]);
            d_gate[i] = NAME(store_as)(d * to_float(up[i]) * s * (1 + g * (1 - s)));
            d_up[i] = NAME(store_as)(d * g * s);
        }
    }
}

/* GELU by its tanh approximation, x * sigmoid(2 * sqrt(2/pi) * (x + 0.044715 x^3)), and its slope. */
static inline vf NAME(gelu_of)(vf x, vf *slope) {
    vf s = sigmoid_of(x * (1.5957691216f + 0.0713548162f * x * x));
    *slope = s + x * s * (1.0f - s) * (1.5957691216f + 0.2140644488f * x * x);
    return x * s;
}

void NAME(gelu_forward)(const T *x, T *y, long count) {
    vf slope;
    long i = 0;
    FOR_VECTORS(count) NAME(hold)(y + i, NAME(gelu_of)(NAME(fetch)(x + i), &slope));
    for (; i < count; i++) y[i] = NAME(store_as)(NAME(gelu_of)(zero() + to_float(x[i]), &slope)[0]);
}

void NAME(gelu_backward)(const T *d_y, const T *x, T *dx, long count) {
    vf slope;
    long i = 0;
    FOR_VECTORS(count) {
        NAME(gelu_of)(NAME(fetch)(x + i), &slope);
        NAME(hold)(dx + i, slope * NAME(fetch)(d_y + i));
    }
    for (; i < count; i++) {
        NAME(gelu_of)(zero() + to_float(x[i]), &slope);
        dx[i] = NAME(store_as)(slope[0] * to_float(d_y[i]));
    }
}

/* losses = logsumexp(logits) - logits[target]; logits become softmax - onehot, the gradient, where `slopes` is set.
 * Gives 0, or the number from 1 on of a row whose target is none of the logits: that and later ones are left alone. */
long NAME(cross_entropy)(T *logits, const int64_t *targets, float *losses, long rows, long width, int slopes) {
    for (long r = 0; r < rows; r++) {
        T *row = logits + r * width;
        if (targets[r] < 0 || targets[r] >= width) return r + 1;
        float target = to_float(row[targets[r]]), peak = -INFINITY, total = 0;
        vf high = zero() - INFINITY, sum = zero();
        long i = 0;
        FOR_VECTORS(width) high = larger(high, NAME(fetch)(row + i));
        for (; i < width; i++) peak = to_float(row[i]) > peak ? to_float(row[i]) : peak;
        peak = highest(high) > peak ? highest(high) : peak;
        i = 0;
        FOR_VECTORS(width) sum += exp_of(NAME(fetch)(row + i) - peak);
        for (; i < width; i++) total += expf(to_float(row[i]) - peak);
        float level = peak + logf(total + sum_of(sum));
        losses[r] = level - target;
        if (!slopes) continue;
        i = 0;
        FOR_VECTORS(width) NAME(hold)(row + i, exp_of(NAME(fetch)(row + i) - level));
        for (; i < width; i++) row[i] = NAME(store_as)(expf(to_float(row[i]) - level));
        row[targets[r]] = NAME(store_as)(expf(target - level) - 1);
    }
    return 0;
}
