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
   * budget that Python computed all is exact; between two the interval of the loss is for drawings. */
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
