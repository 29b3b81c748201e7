// The best run of every budget, between those that Python computed.

const NEXT_TO = 1e-7; // a share of the way from one budget to the next

class Frontier {
  /** `table` as Python wrote it, and the surface that the loss is read from. */
  constructor(table, surface) {
    this.table = table;
    this.surface = surface;
    this.first = table.flops[0];
    this.last = table.flops[table.flops.length - 1];
  }

  /** N, D and loss of the best run, and their intervals; NaN for ends that there are none of. At a
   * budget that Python computed all is exact; between two the interval of the loss is only good
   * enough to draw. */
  at(lnC) {
    const rows = rowsAround(this.table.flops, lnC);
    const value = (name) => alongLine(this.table[name], rows);
    const [lnN, lnD] = [value('params'), value('tokens')];
    const loss = this.surface.loss(lnN, lnD);
    return {
      lnN,
      lnD,
      isExact: Math.min(rows.share, 1 - rows.share) < NEXT_TO,
      params: [Math.exp(value('params_low')), Math.exp(value('params_high'))],
      tokens: [Math.exp(value('tokens_low')), Math.exp(value('tokens_high'))],
      loss,
      interval: [loss * (1 - value('below')), loss * (1 + value('above'))],
    };
  }

  /** ln N of the size that so many tokens are the best for: outside of the table by the slope at
   * its end. */
  sizeFor(lnD) {
    const { tokens, params } = this.table;
    const last = tokens.length - 1;
    const after = tokens.findIndex((one) => one >= lnD);
    let right = after === -1 ? last : after;
    let left = Math.max(right - 1, 0);
    // Budgets may lie next to each other: a slope takes some distance.
    const isShort = () => tokens[right] - tokens[left] < 1e-3;
    while (left > 0 && isShort()) left -= 1;
    while (right < last && isShort()) right += 1;
    const slope = (params[right] - params[left]) / (tokens[right] - tokens[left]);
    return params[right] + slope * (lnD - tokens[right]);
  }
}
