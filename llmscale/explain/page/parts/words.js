// The plan in words: a sentence, and a table of text. Everything is set as text, never as markup.

const ROUNDING = 1e-6; // of the logarithm of a count

/** An element of HTML; its children may be texts, which are never read as markup. */
function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Parts of a sentence: an amount in bold, and its interval after it if there is one. */
function amount(said, ends = '') {
  const parts = [html('b', {}, said)];
  if (ends) parts.push(' ', html('span', { class: 'ends' }, ends));
  return parts;
}

/** The loss with its interval, and how sure that is. */
function lossParts(page, run) {
  const ends = formatEnds(...run.interval, run.loss);
  const certain = ends && `${ends} (${page.level})`;
  return [`${page.metric} `, ...amount(formatLoss(run.loss, ...run.interval), certain)];
}

/** `With 1e22 FLOPs: 8.1B parameters [...], 205B tokens [...], loss 2.03 [...]; ...`, in parts. */
function sentenceOf(page, decision) {
  const { best, chosen, half } = decision;
  const count = (lnCount) => formatCount(Math.exp(lnCount));
  const begins = ['With ', ...amount(formatFlops(Math.exp(decision.lnC))), ' FLOPs: '];
  if (chosen.isBest) {
    return [
      ...begins,
      ...amount(`${count(best.lnN)} parameters`, formatCountEnds(...best.params)), ', ',
      ...amount(`${count(best.lnD)} tokens`, formatCountEnds(...best.tokens)), ', ',
      ...lossParts(page, best),
      `; ${halfOrEnd(page, decision)}.`,
    ];
  }
  return [
    ...begins,
    ...amount(`${count(chosen.lnN)} parameters`), ' and ',
    ...amount(`${count(chosen.lnD)} tokens`), ', ',
    ...lossParts(page, chosen),
    `, ${formatShare(chosen.above)} above the best, which has `,
    ...amount(`${count(best.lnN)} parameters`, formatCountEnds(...best.params)), '.',
  ];
}

/** What a model of half the size costs; past the end of what the text is worth, that end. */
function halfOrEnd(page, { lnC, chosen, half, end }) {
  if (end && lnC > end.lnC) {
    const least = formatLoss(end.least, ...chosen.interval);
    return `no compute gets below ${least} on this text, and what lies beyond ` +
      `${formatFlops(Math.exp(end.lnC))} FLOPs is worth less than ${formatShare(WITHIN)} of it`;
  }
  if (Math.abs(half.loss) < LEAST_SHOWN) return 'a model of half the size costs next to nothing';
  const times = `${general(half.compute)}x the compute`;
  const more = Number.isFinite(half.compute) ? `, or ${times} to be as good` : '';
  return `a model of half the size costs ${formatShare(half.loss)} of the ${page.metric}${more}`;
}

/** What is said if a plan of this budget takes another law. */
function otherLawOf({ others, law }, lnC) {
  const other = others.find((one) => one.from <= lnC && lnC <= one.to);
  if (!other) return [];
  const taken = other.law ? `takes ${other.law}` : 'takes no law';
  const why = other.why ? `, since of ${law} ${other.why}` : '';
  const page = other.law ? `; a page of it: --law ${other.law}` : '';
  const said = `At this budget llmscale plan ${taken}, not ${law} as this page does${why}${page}.`;
  return [{ code: 'another-law', said }];
}

/** Notes that this state of the sliders gives reason for. */
function cautionsOf(page, { lnC, beyond, passes, rises, lifetime, serving }, state) {
  const { cautions, most_ratio: mostRatio, start, surface } = page;
  const found = otherLawOf(page, lnC);
  const ratio = lifetime ? Math.exp(lifetime.lnD - lifetime.lnN) : NaN;
  if (beyond > Math.log(cautions.far.limit) + ROUNDING) found.push(cautions.far);
  if (passes > cautions.text.limit) found.push(cautions.text);
  if (passes > 1 && !surface.knowsText) found.push(cautions.repetition);
  if (rises) found.push(cautions.rises);
  if (mostRatio !== null && ratio > cautions.served.limit * mostRatio) found.push(cautions.served);
  if (serving && state.bytes < start.bytes) found.push(cautions.rounded);
  if (serving && state.context > start.context) found.push(cautions.context);
  return found.map(({ code, said }) => html('p', {}, html('b', {}, `${code}: `), said));
}

/** The plan in three columns of tables, each with a heading and rows of what, how much, and what to
 * know of it. */
function planOf(page, decision, state) {
  const machine = `${grouped(state.gpus, 0)} × ${decision.gpu.name}`;
  const columns = [
    [['The run', runRows(page, decision, state)]],
    [
      ['Next to it', besideRows(page, decision)],
      ['For its lifetime', lifetimeRows(decision, state)],
    ],
    [
      [`Training on ${machine}`, trainingRows(decision, state)],
      ['Serving it', servingRows(decision, state)],
    ],
  ];
  return columns.map((tables) => tables.filter(([, rows]) => rows.length));
}

/** `inside the runs`, `3.1x beyond the runs` or `57x below the runs` (explain/digits.py). */
function placeOf(surface, { lnN, lnD }, beyond) {
  const times = plainly(Math.exp(beyond));
  if (!(beyond > 0) || times === plainly(1)) return 'inside the runs';
  return `${times}x ${surface.isBelow(lnN, lnD) ? 'below' : 'beyond'} the runs`;
}

function runRows(page, { law, best, chosen, beyond, passes, end, lnC }, state) {
  const ends = (name) => {
    if (!chosen.isBest) return '';
    const { hasInterval, knowsText } = page.surface;
    const isUntold = passes > 1 && hasInterval && !knowsText;
    return isUntold ? 'interval: llmscale plan' : formatCountEnds(...best[name]);
  };
  const far = placeOf(page.surface, chosen, beyond);
  const loss = formatLoss(chosen.loss, ...chosen.interval);
  const rows = [
    ['compute C', `${formatFlops(Math.exp(lnC))} FLOPs`, far],
    ['parameters N', formatCount(Math.exp(chosen.lnN)), ends('params')],
    ['tokens D', formatCount(Math.exp(chosen.lnD)), ends('tokens')],
    ['D / N', plainly(Math.exp(chosen.lnD - chosen.lnN)), ''],
    [page.metric, loss, formatEnds(...chosen.interval, chosen.loss)],
  ];
  if (state.unique === null) return rows;
  rows.push(['passes', plainly(passes), `over ${formatCount(state.unique)} unique tokens`]);
  return passes > 1 ? [...rows, ...textRows(page, { law, chosen, end, lnC })] : rows;
}

/** What repeating text costs, and where it ends to help. */
function textRows(page, { law, chosen, end, lnC }) {
  const free = chosen.isBest ? page.frontier.at(lnC) : chosen;
  const more = chosen.loss - law.surface.loss(free.lnN, free.lnD);
  const written = (loss) => formatLoss(loss, ...chosen.interval);
  const rows = [
    ['repeating adds', written(more), `to the ${page.metric}, next to new text`],
    ['least possible', written(end.least), 'no compute gets below, on this text'],
  ];
  if (!Number.isFinite(end.lnC)) return rows;
  const remark = `FLOPs, ${plainly(end.passes)} passes: more is worth less than`;
  const enough = ['enough compute', formatFlops(Math.exp(end.lnC))];
  return [...rows, [...enough, `${remark} ${formatShare(WITHIN)} of the ${page.metric}`]];
}

function besideRows(page, { best, chosen, basin, half, lnC }) {
  const [small, large] = basin.map((lnN) => formatCount(Math.exp(lnN)));
  const [most, fewest] = basin.map((lnN) => formatCount(Math.exp(lnC - LN6 - lnN)));
  const near = [
    `within ${formatShare(WITHIN)}`, `${small} to ${large}`, `on ${most} to ${fewest} tokens`,
  ];
  if (chosen.isBest) return [near, ...halfRows(page, half, 'half the size', 'that')];
  const loss = formatLoss(best.loss, ...best.interval);
  return [
    ['best size', formatCount(Math.exp(best.lnN)), formatCountEnds(...best.params)],
    [`its ${page.metric}`, loss, `the choice is ${formatShare(chosen.above)} above`],
    [`${near[0]} of that`, ...near.slice(1)],
    ...halfRows(page, half, 'half the choice', "the choice's"),
  ];
}

/** What half the size costs next to the loss of `whose` run. */
function halfRows({ metric }, half, name, whose) {
  if (Math.abs(half.loss) < LEAST_SHOWN) {
    return [[name, 'as good', `under 0.01% of the ${metric}, for equal FLOPs`]];
  }
  const more = Number.isFinite(half.compute)
    ? [`${general(half.compute)}x`, `the FLOPs, for ${whose} ${metric}`]
    : ['-', `does not reach ${whose} ${metric} with ${plainly(half.tried)} times the tokens`];
  return [
    [name, formatChange(half.loss), `on ${whose} ${metric}, for equal FLOPs`],
    [name, ...more],
  ];
}

function trainingRows({ training, gpu }, state) {
  const speed = `${formatShare(training.mfu)} of ${general(gpu.peak_flops / 1e12)} TFLOP/s`;
  const power = gpu.power_watts === null ? 'no power is published' : `${gpu.power_watts} W a board`;
  const price = state.price === null ? 'no price is given' : `${general(state.price)} an hour`;
  return [
    ['GPU hours', formatAmount(training.gpuHours), speed],
    ['time', formatSeconds(training.seconds), ''],
    ['money', formatAmount(training.money), price],
    ['energy', formatEnergy(training.wattHours), power],
  ];
}

function servingRows({ serving }, state) {
  if (serving === null) return [];
  const { name, weights, cache, gpus, reached, perSecond } = serving;
  return [
    ['weights', formatBytes(weights), `${name}, ${general(state.bytes)} bytes each`],
    ['keys and values', formatBytes(cache), `of ${grouped(state.context)} tokens`],
    ['GPUs that hold it', grouped(gpus), ''],
    ['tokens a second', plainly(perSecond), `at most, at ${reached} of the bandwidth`],
  ];
}

function lifetimeRows({ lifetime, best }, state) {
  if (lifetime === null) return [];
  const served = ['tokens served', formatCount(state.served), ''];
  if (!Number.isFinite(lifetime.lnD)) return [served, ['cheapest size', '-', 'none on this page']];
  const times = general(Math.exp(best.lnN - lifetime.lnN));
  const smaller = times === '1' ? 'that of the best' : `${times}x smaller than the best, as good`;
  const training = `${formatFlops(Math.exp(LN6 + lifetime.lnN + lifetime.lnD))} FLOPs to train`;
  return [
    served,
    ['cheapest size', formatCount(Math.exp(lifetime.lnN)), smaller],
    ['tokens D', formatCount(Math.exp(lifetime.lnD)), training],
    ['FLOPs saved', formatShare(lifetime.saved), 'of training and serving'],
  ];
}

/** Show the plan in its place. */
function showPlan(place, columns) {
  const row = ([what, much, remark]) => html(
    'tr', {},
    html('th', { scope: 'row' }, what),
    html('td', { class: 'amount' }, much),
    html('td', { class: 'remark' }, remark),
  );
  const table = ([heading, rows]) => html(
    'table', {},
    html('caption', {}, heading),
    html('tbody', {}, ...rows.map(row)),
  );
  place.replaceChildren(...columns.map((tables) => html('div', {}, ...tables.map(table))));
}
