// The loss over ln N and ln D, by cubics through the points that Python computed, and the interval
// of a new run there, from the refits of the law.

/** The four points around a place on an axis: the first of them, and their cubic weights. */
function around(axis, at) {
  const place = (at - axis.first) / axis.step;
  const cell = Math.min(Math.max(Math.floor(place), 1), axis.count - 3);
  const x = place - cell;
  if (!(place >= 0 && place <= axis.count - 1)) return null;
  // Lagrange's polynomials through -1, 0, 1 and 2.
  return {
    first: cell - 1,
    weights: [
      (-x * (x - 1) * (x - 2)) / 6,
      ((x + 1) * (x - 1) * (x - 2)) / 2,
      (-(x + 1) * x * (x - 2)) / 2,
      ((x + 1) * x * (x - 1)) / 6,
    ],
  };
}

/** A value of the grid at a place: NaN outside, and where the law gives none. */
function interpolated(values, columns, rowsAt, columnsAt) {
  let sum = 0;
  for (let i = 0; i < 4; i += 1) {
    const start = (rowsAt.first + i) * columns + columnsAt.first;
    for (let j = 0; j < 4; j += 1) {
      const value = values[start + j];
      if (value === null) return NaN;
      sum += rowsAt.weights[i] * columnsAt.weights[j] * value;
    }
  }
  return sum;
}

/** The rows of a table on both sides of a value of its growing column, and how far it is from the
 * first to the second: 0 or 1 outside of the table. */
function rowsAround(column, value) {
  let [low, high] = [0, column.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (column[middle] <= value) low = middle;
    else high = middle;
  }
  const share = (value - column[low]) / (column[high] - column[low]);
  return { low, high, share: Math.min(Math.max(share || 0, 0), 1) };
}

/** A value of a table at such a place, by a straight line. */
function alongLine(values, { low, high, share }) {
  const [left, right] = [values[low] ?? NaN, values[high] ?? NaN];
  return left + share * (right - left);
}

/** Whole numbers of two bytes, as Python packed them. */
function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

/** A quantile of sorted values, with straight lines in between. */
function quantileOf(sorted, share, value) {
  const place = share * (sorted.length - 1);
  const left = Math.min(Math.floor(place), Math.max(sorted.length - 2, 0));
  const [low, high] = [value(sorted[left]), value(sorted[Math.min(left + 1, sorted.length - 1)])];
  return low + (place - left) * (high - low);
}

/** The loss of a law and the interval of a new run; places are ln N and ln D, and of a law that
 * knows what repeated text is worth ln of the unique tokens. */
class Surface {
  /** `widening` as Python wrote it; a law that is `plain` has residuals in L, others in ln L. */
  constructor(widening, isPlain) {
    this.widening = widening;
    this.isPlain = isPlain;
  }

  ofLevel(level) {
    return this.isPlain ? level : Math.exp(level);
  }

  toLevel(loss) {
    return this.isPlain ? loss : Math.log(loss);
  }

  /** ln of how many times beyond the runs a place lies; 0 inside (estimation/reach.py). */
  beyond(lnN, lnD, lnUnique = lnD) {
    const { ranges, largest } = this.widening;
    const at = { params: lnN, tokens: lnD, unique_tokens: lnUnique };
    let most = 0;
    for (const [name, [low, high]] of Object.entries(ranges)) {
      most = Math.max(most, at[name] - high, low - at[name]);
    }
    if (largest !== null) most = Math.max(most, lnN + lnD - largest);
    return most > 1e-9 ? most : 0;
  }

  /** The interval of a new run: of the refits with their noise, widened as forecast/widths.py does:
   * `h` is how far beyond the runs it lies. */
  interval(place, h) {
    const middle = this.level(...place);
    const levels = this.hasInterval && Number.isFinite(middle) ? this.ofRefits(place) : null;
    if (levels === null) return [NaN, NaN];
    const sorted = levels.filter(Number.isFinite).sort();
    const { widening } = this;
    // Quantiles are of losses, between two of which the line is straight.
    const end = (share) => quantileOf(sorted, share, (level) => this.ofLevel(level));
    const [plainLow, plainHigh] = [end(widening.tail), end(1 - widening.tail)];
    const [under, over] = [middle - this.toLevel(plainLow), this.toLevel(plainHigh) - middle];
    const unit = widening.scale * Math.sqrt(h * h + widening.near * h);
    const aside = this.offTheBest(...place);
    const most = (widening.most ?? Infinity) * 0.5 * (under + over);
    const rows = rowsAround(widening.at, h);
    const wider = (half, multipliers) => {
      const by = Math.hypot(alongLine(multipliers, rows) * unit, aside);
      const extra = Math.min(by, most);
      // A plain interval that leaves out the law itself (half < 0) moves by as much.
      return half > 0 ? Math.hypot(half, extra) : half + extra;
    };
    return [
      this.ofLevel(middle - wider(under, widening.below)),
      this.ofLevel(middle + wider(over, widening.above)),
    ];
  }
}

/** Any law in N and D, between the points of a grid. */
class GridSurface extends Surface {
  constructor(grid) {
    super(grid.widening, grid.plain);
    this.grid = grid;
    this.hasInterval = grid.refits !== null;
    if (this.hasInterval) this.#unpack(grid.refits);
  }

  /** The singular vectors over the grid, and their weights in every refit, as Python scaled
   * them. */
  #unpack({ weights, vectors, scale }) {
    const [allWeights, allVectors] = [unpacked(weights), unpacked(vectors)];
    const part = (values, place) => {
      const length = values.length / scale.length;
      return values.subarray(place * length, (place + 1) * length);
    };
    this.terms = scale.map((one, place) => (
      { scale: one, weights: part(allWeights, place), vector: part(allVectors, place) }
    ));
  }

  /** The ends of ln N and of ln D between which there is a loss. */
  get ends() {
    const inside = (axis) => [axis.first + axis.step, axis.first + axis.step * (axis.count - 2)];
    return { params: inside(this.grid.params), tokens: inside(this.grid.tokens) };
  }

  /** ln L at a place, or of a plain law L. */
  level(lnN, lnD) {
    return this.#at(this.grid, this.grid.level, lnN, lnD);
  }

  /** By how much of it the law misses runs that are not the best of their budget. */
  offTheBest(lnN, lnD) {
    const { off } = this.grid;
    return off === null ? 0 : this.#at(this.grid, off, lnN, lnD);
  }

  /** The levels of a new run by every refit. */
  ofRefits([lnN, lnD]) {
    const { refits } = this.grid;
    const levels = Float64Array.from(refits.noise);
    const middle = this.level(lnN, lnD);
    for (const { scale, weights, vector } of this.terms) {
      const times = scale * this.#at(refits, vector, lnN, lnD);
      for (let one = 0; one < levels.length; one += 1) levels[one] += times * weights[one];
    }
    return levels.map((level) => level + middle);
  }

  #at({ params, tokens }, values, lnN, lnD) {
    const [rowsAt, columnsAt] = [around(params, lnN), around(tokens, lnD)];
    return rowsAt && columnsAt ? interpolated(values, tokens.count, rowsAt, columnsAt) : NaN;
  }

  loss(lnN, lnD) {
    return this.ofLevel(this.level(lnN, lnD));
  }

  /** The losses of every size, and for each of all tokens. */
  losses(sizes, tokens) {
    const { level, params, tokens: axis } = this.grid;
    const columnsAt = tokens.map((lnD) => around(axis, lnD));
    return sizes.map((lnN) => {
      const rowsAt = around(params, lnN);
      if (!rowsAt) return tokens.map(() => NaN);
      return columnsAt.map((at) => {
        return at ? this.ofLevel(interpolated(level, axis.count, rowsAt, at)) : NaN;
      });
    });
  }
}
