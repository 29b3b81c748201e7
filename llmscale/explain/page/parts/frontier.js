// The best run of every budget, between those that Python computed.

class Frontier {
  /** `table` as Python wrote it, and the surface that the loss is read from. */
  constructor(table, surface) {
    this.table = table;
    this.surface = surface;
    this.first = table.flops[0];
    this.last = table.flops[table.flops.length - 1];
  }

  /** The rows on both sides of a budget, and how far it is from the first to the second. */
  #between(lnC) {
    const { flops } = this.table;
    let [low, high] = [0, flops.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (flops[middle] <= lnC) low = middle;
      else high = middle;
    }
    const share = (lnC - flops[low]) / (flops[high] - flops[low]);
    return { low, high, share: Math.min(Math.max(share, 0), 1) };
  }

  /** N, D and loss of the best run, and their intervals; NaN for ends that there are none of. */
  at(lnC) {
    const { low, high, share } = this.#between(lnC);
    const value = (name) => {
      const column = this.table[name];
      const [left, right] = [column[low] ?? NaN, column[high] ?? NaN];
      return left + share * (right - left);
    };
    const [lnN, lnD] = [value('params'), value('tokens')];
    const loss = this.surface.loss(lnN, lnD);
    return {
      lnN,
      lnD,
      params: [Math.exp(value('params_low')), Math.exp(value('params_high'))],
      tokens: [Math.exp(value('tokens_low')), Math.exp(value('tokens_high'))],
      loss,
      interval: [loss * (1 - value('below')), loss * (1 + value('above'))],
    };
  }

  /** ln N of the size that so many tokens are the best for: beyond the table by its last slope. */
  sizeFor(lnD) {
    const { tokens, params } = this.table;
    const after = tokens.findIndex((one) => one >= lnD);
    const right = after === -1 ? tokens.length - 1 : Math.max(after, 1);
    // Budgets may lie next to each other: a slope takes some distance.
    let left = right - 1;
    while (left > 0 && tokens[right] - tokens[left] < 1e-3) left -= 1;
    const slope = (params[right] - params[left]) / (tokens[right] - tokens[left]);
    return params[right] + slope * (lnD - tokens[right]);
  }
}
