// Loss against compute: the runs, the best run of every budget with its interval, and the choice.
// `x` and `y` are scales of ln C and of the loss.

const POINTS = 160; // of each line

function drawCurve(figure, page, decision) {
  const parts = frame(figure, { left: 52, right: 14, top: 26, bottom: 44 });
  const { plot, inside } = parts;
  const runs = page.runs.map((run) => ({
    lnC: LN6 + Math.log(run.params) + Math.log(run.tokens),
    loss: run.loss,
  }));
  const range = computeRange(page, decision, runs);
  const best = spaced(range, POINTS).map((lnC) => ({ lnC, ...page.frontier.at(lnC) }));
  const x = new Scale(range, [plot.left, plot.right]);
  const y = new Scale(lossRange(best, decision, runs), [plot.bottom, plot.top]);
  const ticks = roundTicks(y.values, parts.height / 50);
  for (const tick of ticks) {
    const height = { y1: y.at(tick), y2: y.at(tick) };
    inside.append(svg('line', { class: 'grid', x1: plot.left, x2: plot.right, ...height }));
  }
  const side = (end) => best.map((one) => [x.at(one.lnC), y.at(one.interval[end])]);
  if (page.surface.hasInterval) {
    const outline = pathOf([...side(0), ...side(1).reverse()], true);
    inside.append(svg('path', { class: 'frontier-band', d: outline }));
  }
  for (const run of runs) inside.append(mark('run', x.at(run.lnC), y.at(run.loss), 2.4));
  const place = (one) => [x.at(one.lnC), y.at(one.loss)];
  drawLine(inside, page, best, place);
  if (decision.law.unique !== null) {
    const limited = best.map(({ lnC }) => ({ lnC, loss: decision.law.best(lnC).loss }));
    inside.append(svg('path', { class: 'limited', d: pathOf(limited.map(place)) }));
  }
  drawChosenLoss(inside, decision, x, y, plot);
  const power = (value) => formatFlops(Math.exp(value));
  bottomAxis(parts, x, decades(range, parts.width / 75), power, 'training compute C, FLOPs');
  const places = Math.max(decimalsOf(ticks[1] - ticks[0], 1), 0);
  leftAxis(parts, y, ticks, (value) => value.toFixed(places), page.unit);
  show(figure, parts);
}

/** From the smallest budget of a run, or two decades below the chosen one, to ten times that. */
function computeRange(page, decision, runs) {
  const { first, last } = page.frontier;
  const seen = [...runs.map((run) => run.lnC), decision.lnC, decision.lnC + LN10];
  if (!runs.length) seen.push(decision.lnC - 2 * LN10);
  return [Math.max(Math.min(...seen) - 0.2, first), Math.min(Math.max(...seen), last)];
}

/** From a little below the band to above all runs but the worst. */
function lossRange(best, { chosen }, runs) {
  const sorted = runs.map((run) => run.loss).sort((one, other) => one - other);
  const seen = [
    ...best.flatMap((one) => [one.loss, ...one.interval]),
    chosen.loss, ...chosen.interval,
    sorted[0], sorted[Math.floor(0.95 * (sorted.length - 1))],
  ].filter(Number.isFinite);
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  return [low - 0.05 * (high - low), high + 0.03 * (high - low)];
}

function drawChosenLoss(inside, { lnC, chosen, best }, x, y, plot) {
  const at = { x1: x.at(lnC), x2: x.at(lnC) };
  const [low, high] = chosen.interval.map((end) => y.at(end));
  inside.append(svg('line', { class: 'chosen-budget', ...at, y1: plot.top, y2: plot.bottom }));
  if (Number.isFinite(low - high)) {
    inside.append(svg('line', { class: 'chosen-ends', ...at, y1: low, y2: high }));
  }
  if (!chosen.isBest) inside.append(mark('best', x.at(lnC), y.at(best.loss), 3.5));
  inside.append(mark('chosen', x.at(lnC), y.at(chosen.loss), 5));
}
