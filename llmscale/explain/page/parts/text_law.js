// Laws that know what repeated text is worth, by their formulas: Python's are in laws/, under these
// names. All counts are natural logs.

/** ln of what an amount is worth of which only so much is new. */
function worthOf(lnAmount, lnUnique, scale) {
  if (lnAmount <= lnUnique) return lnAmount;
  const repeats = Math.expm1(lnAmount - lnUnique);
  return lnUnique + Math.log1p(-scale * Math.expm1(-repeats / scale));
}

const FORMULAS = {
  'data-constrained': ([E, A, B, alpha, beta, tokensStar, paramsStar]) => {
    const lnG = (Math.log(alpha * A) - Math.log(beta * B)) / (alpha + beta);
    return (lnN, lnD, lnUnique) => {
      // The size that the unique tokens are the best number for.
      const lnSize = Math.min(lnN, (lnUnique + lnG) * (beta / alpha) + lnG);
      const ofSize = A * Math.exp(-alpha * worthOf(lnN, lnSize, paramsStar));
      return E + ofSize + B * Math.exp(-beta * worthOf(lnD, lnUnique, tokensStar));
    };
  },
  bounded: ([E, L0, a, b, c, alpha, beta, gamma, delta]) => (lnN, lnD, lnUnique) => {
    const under = a * Math.exp(-alpha * lnN) + b * Math.exp(-beta * lnD);
    const h = under + c * Math.exp(gamma * lnN - delta * lnUnique);
    return E + ((L0 - E) * h) / (1 + h);
  },
};

/** A law in N, D and unique tokens, and its refits. */
class TextSurface extends Surface {
  /** `told` are the ends of the page, and the coefficients of the law and of its refits. */
  constructor(told) {
    super(told.widening, told.plain);
    const formula = FORMULAS[told.formula];
    this.ends = told.ends;
    this.noise = told.noise;
    this.formula = formula(told.coefficients);
    this.refits = told.refits.map(formula);
    this.hasInterval = told.refits.length > 0;
    this.knowsText = true;
  }

  /** The loss with so many of the tokens unique: all of them, if it is not said. */
  loss(lnN, lnD, lnUnique = lnD) {
    return this.formula(lnN, lnD, lnUnique);
  }

  level(lnN, lnD, lnUnique = lnD) {
    return this.toLevel(this.formula(lnN, lnD, lnUnique));
  }

  offTheBest() {
    return 0;
  }

  /** The levels of a new run by every refit. */
  ofRefits([lnN, lnD, lnUnique = lnD]) {
    const level = (refit, place) => this.toLevel(refit(lnN, lnD, lnUnique)) + this.noise[place];
    return Float64Array.from(this.refits, level);
  }

  /** The intervals of N and D of the best run of a budget, as plan has them: of the best runs by
   * the refits. */
  bestByRefits(lnC, lnUnique) {
    if (!this.hasInterval) return { params: [NaN, NaN], tokens: [NaN, NaN] };
    const total = lnC - LN6;
    const sizes = this.refits.map((refit) => {
      const loss = (lnN) => refit(lnN, total - lnN, Math.min(total - lnN, lnUnique));
      return lowestPlace(loss, 0, total);
    });
    const sorted = Float64Array.from(sizes).sort();
    const { tail } = this.widening;
    const ends = (value) => [tail, 1 - tail].map((share) => quantileOf(sorted, share, value));
    const tokens = ends((lnN) => Math.exp(total - lnN)).reverse();
    return { params: ends(Math.exp), tokens };
  }
}
