// What a reader's choices come to: the best run, the run that is chosen, and what they cost.

const LN6 = Math.log(6);
const WITHIN = 0.005; // the basin: runs within 0.5% of the best loss
const LN_FURTHEST = Math.log(1e3); // times the best size that the basin is looked for
const MOST_TIMES = 1e4; // tokens of a smaller model, times those of the best
const TRIED = 96; // numbers of tokens between these
const LEAST_SHARE = 0.01; // of the best size: no smaller one is looked at
const ENDLESS = Math.log(1e34 / 6); // N·D beyond which nothing is left to gain of any text
const LEAST_SHOWN = 5e-5; // a share of a loss; less is 0%
const NEVER = 1e300; // FLOPs of a size that no tokens are enough for
const FAR_SHAPE = Math.log(1.3); // shapes are closer to each other than this
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** The place of the least value of a function with one valley between two ends. */
function lowestPlace(value, low, high) {
  let [left, right] = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
  let [atLeft, atRight] = [value(left), value(right)];
  for (let step = 0; step < 60; step += 1) {
    if (atLeft <= atRight) {
      [high, right, atRight] = [right, left, atLeft];
      left = high - GOLDEN * (high - low);
      atLeft = value(left);
    } else {
      [low, left, atLeft] = [left, right, atRight];
      right = low + GOLDEN * (high - low);
      atRight = value(right);
    }
  }
  return 0.5 * (low + high);
}

/** Between a place where something holds and one where it does not: the last where it holds. */
function lastPlace(holds, inside, outside) {
  if (holds(outside)) return outside;
  for (let step = 0; step < 50; step += 1) {
    const middle = 0.5 * (inside + outside);
    if (holds(middle)) inside = middle;
    else outside = middle;
  }
  return inside;
}

/** The law as the page knows it, with text that may be limited: a law that knows what repeated text
 * is worth is asked for it; by any other, passes over the same text, and parameters beyond what it
 * asks for, lose their worth as was published (Muennighoff et al. 2023). */
class LimitedLaw {
  constructor(page, unique) {
    this.surface = page.surface;
    this.frontier = page.frontier;
    this.repetition = page.repetition;
    this.unique = unique;
    this.lnUnique = unique === null ? Infinity : Math.log(unique);
    const isWorth = unique !== null && !page.surface.knowsText;
    this.lnSizeOfText = isWorth ? page.frontier.sizeFor(this.lnUnique) : Infinity;
  }

  /** ln N of new parameters, as far as the text asks for them, that a size is worth. */
  worthOfSize(lnN) {
    return worthOf(lnN, this.lnSizeOfText, this.repetition.params);
  }

  /** ln D of new text that tokens are worth. */
  worthOfTokens(lnD) {
    return worthOf(lnD, this.lnUnique, this.repetition.tokens);
  }

  /** What the law is asked for, of a run. */
  asked(lnN, lnD) {
    if (this.surface.knowsText) return [lnN, lnD, Math.min(lnD, this.lnUnique)];
    return [this.worthOfSize(lnN), this.worthOfTokens(lnD)];
  }

  loss(lnN, lnD) {
    return this.surface.loss(...this.asked(lnN, lnD));
  }

  losses(sizes, tokens) {
    if (this.surface.knowsText) {
      return sizes.map((lnN) => tokens.map((lnD) => this.loss(lnN, lnD)));
    }
    const worthOfTokens = tokens.map((lnD) => this.worthOfTokens(lnD));
    return this.surface.losses(sizes.map((lnN) => this.worthOfSize(lnN)), worthOfTokens);
  }

  /** ln of how many times beyond the runs of the table a run lies: as far as it does itself, or as
   * what it is worth does. */
  beyond(lnN, lnD) {
    const itself = this.surface.knowsText ? 0 : this.surface.beyond(lnN, lnD);
    return Math.max(this.surface.beyond(...this.asked(lnN, lnD)), itself);
  }

  interval(lnN, lnD) {
    return this.surface.interval(this.asked(lnN, lnD), this.beyond(lnN, lnD));
  }

  /** The least and the largest ln N of a budget at which the law says something. */
  sizes(lnC) {
    const { params, tokens } = this.surface.ends;
    return [Math.max(params[0], lnC - LN6 - tokens[1]), Math.min(params[1], lnC - LN6 - tokens[0])];
  }

  /** The place and the loss of the best run of a budget. With all the text that it takes, as
   * Python found it, with its intervals. */
  best(lnC) {
    const found = this.frontier.at(lnC);
    if (found.lnD <= this.lnUnique) return found;
    const lnN = lowestPlace((at) => this.loss(at, lnC - LN6 - at), ...this.sizes(lnC));
    const lnD = lnC - LN6 - lnN;
    const nothing = [NaN, NaN];
    return { lnN, lnD, params: nothing, tokens: nothing, loss: this.loss(lnN, lnD) };
  }

  /** The best run with all its intervals: of a size on repeated text only a law tells one that
   * knows what that is worth. */
  bestWithEnds(lnC) {
    const found = this.best(lnC);
    const isFree = found.lnD <= this.lnUnique;
    const interval = found.isExact ? found.interval : this.interval(found.lnN, found.lnD);
    const isTold = !isFree && this.surface.knowsText;
    const ends = isTold ? this.surface.bestByRefits(lnC, this.lnUnique) : {};
    return { ...found, interval, ...ends };
  }

  /** The least loss that any compute reaches on limited text, the ln C from which on more gains
   * less than a share of that (infinite if it is not on this page), and the passes there. */
  end() {
    const { params, tokens } = this.surface.ends;
    const endless = (at) => this.loss(at, ENDLESS - at);
    const least = endless(lowestPlace(endless, params[0], ENDLESS - tokens[0]));
    const allowed = least + WITHIN * Math.abs(least);
    const isShort = (lnC) => !(this.best(lnC).loss <= allowed);
    const { first, last } = this.frontier;
    if (isShort(last)) return { least, lnC: Infinity, passes: Infinity };
    const lnC = lastPlace(isShort, first, last);
    return { least, lnC, passes: Math.exp(this.best(lnC).lnD) / this.unique };
  }

  /** The smallest and the largest ln N of a budget whose loss is within a share of the best. */
  basin(lnC, best) {
    const near = (lnN) => this.loss(lnN, lnC - LN6 - lnN) <= (1 + WITHIN) * best.loss;
    const [least, most] = this.sizes(lnC);
    const ends = [
      Math.max(best.lnN - LN_FURTHEST, least), Math.min(best.lnN + LN_FURTHEST, most),
    ];
    return ends.map((end) => lastPlace(near, best.lnN, end));
  }

  /** The least ln D, from `least` on, with which a size reaches a loss; infinite if none does. */
  tokensFor(lnN, loss, least) {
    const most = Math.min(least + Math.log(MOST_TIMES), this.surface.ends.tokens[1]);
    if (!(least < most)) return Infinity;
    const isShort = (lnD) => !(this.loss(lnN, lnD) <= loss);
    // A law may rise again with many more tokens: so the first place is looked for.
    const tried = spaced([least, most], TRIED);
    const first = tried.findIndex((lnD) => !isShort(lnD));
    if (first <= 0) return first === 0 ? least : Infinity;
    return lastPlace(isShort, tried[first - 1], tried[first]);
  }
}

/** Whether by the law a model of half the size gets worse with more tokens than are best: then it
 * does not hold so far from the best runs. */
function risesByTokens(law, best) {
  const tried = spaced([best.lnD + Math.LN2, best.lnD + Math.LN2 + LN10], TRIED);
  const losses = tried.map((lnD) => law.loss(best.lnN - Math.LN2, lnD));
  return losses.some((loss, place) => place > 0 && loss > losses[place - 1]);
}

/** The run with the least FLOPs of training and serving together that is as good as the best of
 * the budget: 6ND + 2N tokens (Sardana et al. 2024, eq. 3). */
function lifetimeOf(law, best, served) {
  const total = (lnN, lnD) => Math.exp(lnN) * (6 * Math.exp(lnD) + 2 * served);
  // At most the best size of the budget: a larger one costs more both to train and to serve.
  const tokens = (lnN) => law.tokensFor(lnN, best.loss, best.lnD);
  const cost = (lnN) => {
    const lnD = tokens(lnN);
    // Where a size does not get there, the search goes to larger ones.
    return Number.isFinite(lnD) ? total(lnN, lnD) : NEVER * Math.exp(best.lnN - lnN);
  };
  const least = Math.max(best.lnN + Math.log(LEAST_SHARE), law.surface.ends.params[0]);
  const lnN = lowestPlace(cost, least, best.lnN);
  const lnD = tokens(lnN);
  const before = total(best.lnN, best.lnD);
  return { lnN, lnD, flops: total(lnN, lnD), saved: 1 - total(lnN, lnD) / before };
}

/** What a model of half the size costs: a share of the loss at the same FLOPs, with twice the
 * tokens, or so many times the FLOPs for the same loss. */
function halfOf(law, lnC, run) {
  const lnN = run.lnN - Math.LN2;
  const lnD = law.tokensFor(lnN, run.loss, run.lnD);
  return {
    loss: law.loss(lnN, lnC - LN6 - lnN) / run.loss - 1,
    compute: Math.exp(LN6 + lnN + lnD - lnC),
  };
}

/** Time, money and energy of so many FLOPs. */
function trainingOf(flops, gpu, state) {
  const mfu = state.mfu ?? gpu.mfu;
  const gpuSeconds = flops / (gpu.peak_flops * mfu);
  const gpuHours = gpuSeconds / 3600;
  return {
    mfu,
    gpuHours,
    seconds: gpuSeconds / state.gpus,
    money: state.price === null ? NaN : gpuHours * state.price,
    wattHours: gpu.power_watts === null ? NaN : gpuHours * gpu.power_watts,
  };
}

/** Memory of a model of this size that writes one text, and how fast bandwidth lets it; null if no
 * model that can be built is near. */
function servingOf(lnN, { shapes, serving }, gpu, state) {
  const apart = (place) => Math.abs(Math.log(shapes.params[place]) - lnN);
  let nearest = 0;
  shapes.params.forEach((_, place) => {
    if (apart(place) < apart(nearest)) nearest = place;
  });
  if (!(apart(nearest) <= FAR_SHAPE)) return null;
  const weights = shapes.params_total[nearest] * state.bytes;
  const cache = shapes.cache_bytes[nearest] * state.context;
  const gpus = Math.ceil((weights + cache) / (serving.memory_share * gpu.memory_bytes));
  // Each token reads the whole cache and every weight once, but of the embedding a row. Decoding
  // reaches a share of the bandwidth; arithmetic never bounds one text at a time.
  const [, , reached] = serving.widths.find(([width]) => width === state.bytes);
  const readingWeights = (shapes.params_read[nearest] * state.bytes) / reached;
  const reading = readingWeights + cache / serving.cache_reached;
  const perSecond = (gpus * gpu.memory_bytes_per_second) / reading;
  return { name: shapes.name[nearest], weights, cache, gpus, reached, perSecond };
}

/** All that follows from a state of the sliders. */
function decide(page, state) {
  const law = new LimitedLaw(page, state.unique);
  const lnC = Math.log(state.flops);
  const best = law.bestWithEnds(lnC);
  const chosen = chosenRun(law, lnC, best, state.ratio);
  const gpu = page.gpus.find((one) => one.key === state.gpu);
  return {
    law,
    lnC,
    best,
    chosen,
    gpu,
    basin: law.basin(lnC, best),
    half: halfOf(law, lnC, chosen),
    rises: risesByTokens(law, best),
    beyond: law.beyond(chosen.lnN, chosen.lnD),
    passes: state.unique === null ? NaN : Math.exp(chosen.lnD) / state.unique,
    end: state.unique === null ? null : law.end(),
    lifetime: state.served === null ? null : lifetimeOf(law, best, state.served),
    training: trainingOf(state.flops, gpu, state),
    serving: servingOf(chosen.lnN, page, gpu, state),
  };
}

/** The run of the budget with so many tokens a parameter, as far as the page goes, or its best. */
function chosenRun(law, lnC, best, ratio) {
  if (ratio === null) return { ...best, isBest: true, above: 0 };
  const [least, most] = law.sizes(lnC);
  const lnN = Math.min(Math.max(0.5 * (lnC - LN6 - Math.log(ratio)), least), most);
  const lnD = lnC - LN6 - lnN;
  const loss = law.loss(lnN, lnD);
  const interval = law.interval(lnN, lnD);
  return { lnN, lnD, loss, interval, isBest: false, above: loss / best.loss - 1 };
}
