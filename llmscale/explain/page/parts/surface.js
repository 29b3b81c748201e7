// The loss over ln N and ln D, by cubics through the points that Python computed, and the interval
// of a new run there.

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

/** A value of a table at equal steps from 0 to `most`, by straight lines. */
function alongLine(values, most, at) {
  if (!(most > 0)) return values[0];
  const place = Math.min(Math.max(at / most, 0), 1) * (values.length - 1);
  const left = Math.min(Math.floor(place), values.length - 2);
  return values[left] + (place - left) * (values[left + 1] - values[left]);
}

/** The loss of a law and its interval; all of it takes ln N and ln D. */
class Surface {
  constructor(grid) {
    this.grid = grid;
    this.hasInterval = grid.below !== null;
  }

  /** The ends of ln N and of ln D between which there is a loss. */
  get ends() {
    const inside = (axis) => [axis.first + axis.step, axis.first + axis.step * (axis.count - 2)];
    return { params: inside(this.grid.params), tokens: inside(this.grid.tokens) };
  }

  loss(lnN, lnD) {
    return this.losses([lnN], [lnD])[0][0];
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

  ofLevel(level) {
    return this.grid.plain ? level : Math.exp(level);
  }

  /** ln of how many times beyond the runs a point lies; 0 inside (estimation/reach.py). */
  beyond(lnN, lnD) {
    const { ranges, largest } = this.grid.widening;
    const at = { params: lnN, tokens: lnD };
    let most = 0;
    for (const [name, [low, high]] of Object.entries(ranges)) {
      most = Math.max(most, at[name] - high, low - at[name]);
    }
    if (largest !== null) most = Math.max(most, lnN + lnD - largest);
    return most > 1e-9 ? most : 0;
  }

  /** The interval of a new run, the plain one, widened as forecast/widths.py does: `h` is how far
   * beyond the runs it lies. */
  interval(lnN, lnD, h = this.beyond(lnN, lnD)) {
    const rowsAt = around(this.grid.params, lnN);
    const columnsAt = around(this.grid.tokens, lnD);
    if (!this.hasInterval || !rowsAt || !columnsAt) return [NaN, NaN];
    const at = (values) => interpolated(values, this.grid.tokens.count, rowsAt, columnsAt);
    const { level, below, above, off, widening } = this.grid;
    const [middle, under, over] = [at(level), at(below), at(above)];
    const unit = widening.scale * Math.sqrt(h * h + widening.near * h);
    const aside = off === null ? 0 : at(off);
    const most = (widening.most ?? Infinity) * 0.5 * (under + over);
    const wider = (half, multipliers) => {
      const by = Math.hypot(alongLine(multipliers, widening.furthest, h) * unit, aside);
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
