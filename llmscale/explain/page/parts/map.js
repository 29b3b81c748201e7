// The loss over N and D: colours and contours, lines of equal compute, the runs, the best runs of
// all budgets with their interval, and the run that is chosen. `x` and `y` are scales of ln N and
// ln D.

const CELLS = 96; // of contours, along each axis
const PIXELS = 2; // of the screen for one of the colours
const HALF_DECADE = 0.5 * LN10;
const SHADES = {
  light: ['#f4f8fb', '#d2e2f0', '#a4c6e1', '#6ca3cd', '#3b7ab0', '#1d5487'],
  dark: ['#12181f', '#172a3c', '#1c415f', '#235a80', '#2f76a1', '#4f97c2'],
};

/** Draws the map, and gives the scales by which a place on it is read. */
function drawMap(figure, page, decision, isDark) {
  const parts = frame(figure, { left: 52, right: 14, top: 26, bottom: 44 });
  const { plot, box, inside } = parts;
  const view = viewOf(page, decision);
  const x = new Scale(view.params, [plot.left, plot.right]);
  const y = new Scale(view.tokens, [plot.bottom, plot.top]);
  const colours = figure.querySelector('canvas');
  const place = { left: box.x, top: box.y, width: box.width, height: box.height };
  for (const [name, pixels] of Object.entries(place)) colours.style[name] = `${pixels}px`;
  paint(colours, box, view, page, decision.law, isDark ? SHADES.dark : SHADES.light);
  const labels = svg('g');
  drawBudgets(inside, labels, x, y);
  drawContours(inside, labels, x, y, page, decision);
  for (const run of page.runs) {
    inside.append(mark('run', x.at(Math.log(run.params)), y.at(Math.log(run.tokens)), 2.4));
  }
  drawFrontier(inside, page, decision, x, y);
  drawBasin(inside, decision, x, y);
  inside.append(labels);
  drawChoice(inside, decision, x, y);
  const count = (value) => formatCount(Math.exp(value));
  bottomAxis(parts, x, decades(x.values, parts.width / 70), count, 'parameters N');
  leftAxis(parts, y, decades(y.values, parts.height / 45), count, 'tokens D');
  show(figure, parts);
  return { x, y, plot };
}

/** The ends of ln N and ln D that hold the runs, the frontier and the choice, in half decades. */
function viewOf(page, decision) {
  const { frontier, surface, runs } = page;
  const { lnC, chosen, best, lifetime } = decision;
  const top = Math.min(lnC + Math.log(4), frontier.last);
  const seen = [chosen, best, frontier.at(frontier.first + LN10), frontier.at(top)];
  if (lifetime) seen.push(lifetime);
  for (const run of runs) seen.push({ lnN: Math.log(run.params), lnD: Math.log(run.tokens) });
  const holding = (name, ends) => {
    const values = seen.map((one) => one[name]).filter(Number.isFinite);
    const low = Math.floor((Math.min(...values) - 0.3) / HALF_DECADE) * HALF_DECADE;
    const high = Math.ceil((Math.max(...values) + 0.3) / HALF_DECADE) * HALF_DECADE;
    return [Math.max(low, ends[0]), Math.min(high, ends[1])];
  };
  return {
    params: holding('lnN', surface.ends.params),
    tokens: holding('lnD', surface.ends.tokens),
  };
}

/** Colour every place by its loss. */
function paint(canvas, box, view, page, law, stops) {
  canvas.width = Math.max(Math.round(box.width / PIXELS), 2);
  canvas.height = Math.max(Math.round(box.height / PIXELS), 2);
  const pen = canvas.getContext('2d');
  const image = pen.createImageData(canvas.width, canvas.height);
  const sizes = spaced(view.params, canvas.width);
  const tokens = spaced([...view.tokens].reverse(), canvas.height);
  const shade = shadesOf(page.frontier, view, stops);
  law.losses(sizes, tokens).forEach((column, i) => {
    column.forEach((loss, j) => image.data.set(shade(loss), 4 * (j * canvas.width + i)));
  });
  pen.putImageData(image, 0, 0);
}

/** From a loss to its colour: that of the compute whose best run has this loss, so that colours
 * change evenly over the map. */
function shadesOf(frontier, view, stops) {
  const corner = (place) => LN6 + view.params[place] + view.tokens[place];
  const ends = [Math.max(corner(0), frontier.first), Math.min(corner(1), frontier.last)];
  const last = 255;
  const falling = spaced(ends, last + 1).map((lnC) => frontier.at(lnC).loss);
  const colours = spaced([0, stops.length - 1], last + 1).map((at) => mixed(stops, at));
  return (loss) => {
    if (!Number.isFinite(loss)) return [0, 0, 0, 0];
    // The last place whose loss is not below this one.
    let [low, high] = [0, last];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (falling[middle] >= loss) low = middle;
      else high = middle - 1;
    }
    return colours[low];
  };
}

/** A colour between two of the stops, as red, green, blue and opacity. */
function mixed(stops, at) {
  const left = Math.min(Math.floor(at), stops.length - 2);
  const part = (colour, place) => parseInt(colour.slice(1 + 2 * place, 3 + 2 * place), 16);
  const mix = (place) => {
    const [from, to] = [part(stops[left], place), part(stops[left + 1], place)];
    return Math.round(from + (at - left) * (to - from));
  };
  return [mix(0), mix(1), mix(2), 255];
}

/** Lines of equal compute, each with its FLOPs at its upper end. */
function drawBudgets(inside, labels, x, y) {
  const [[leastN, mostN], [leastD, mostD]] = [x.values, y.values];
  for (const lnC of decades([LN6 + leastN + leastD, LN6 + mostN + mostD], 9)) {
    const upper = Math.max(leastN, lnC - LN6 - mostD);
    const lower = Math.min(mostN, lnC - LN6 - leastD);
    const ends = [upper, lower].map((lnN) => [x.at(lnN), y.at(lnC - LN6 - lnN)]);
    inside.append(svg('path', { class: 'budget', d: pathOf(ends) }));
    const [left, top] = [ends[0][0] + 5, ends[0][1] + 14];
    const fits = left < x.pixels[1] - 40 && top < y.pixels[0] - 6;
    if (fits) labels.append(text('budget-label', left, top, formatFlops(Math.exp(lnC))));
  }
}

/** A contour for the best loss of every power of ten of compute, whose line it touches. */
function drawContours(inside, labels, x, y, page, { law, lnC, basin }) {
  const sizes = spaced(x.values, CELLS);
  const tokens = spaced(y.values, CELLS);
  const values = law.losses(sizes, tokens);
  const columns = sizes.map((lnN) => x.at(lnN));
  const rows = tokens.map((lnD) => y.at(lnD));
  const labelled = sizes[Math.round(0.94 * CELLS)];
  const isOverBasin = labelled < basin[1] + 0.5;
  const basinTop = isOverBasin ? y.at(lnC - LN6 - labelled) : -Infinity;
  for (const lnC of decades([page.frontier.first, page.frontier.last], 12)) {
    const { loss } = page.frontier.at(lnC);
    const path = contourPath(values, columns, rows, loss);
    if (path) inside.append(svg('path', { class: 'contour', d: path }));
    const top = y.at(law.tokensFor(labelled, loss, y.values[0]));
    const fits = top > y.pixels[1] + 16 && top < y.pixels[0] - 4;
    const isFree = Math.abs(top - basinTop) > 18;
    if (fits && isFree) {
      labels.append(text('contour-label', x.at(labelled), top - 3, loss.toFixed(2)));
    }
  }
}

/** A contour through values[column][row], as a path in pixels (marching squares). */
function contourPath(values, columns, rows, level) {
  let path = '';
  // Along an edge from one corner of a cell to another: where the level is crossed, if it is.
  const crossing = (from, to, [x0, y0], [x1, y1]) => {
    if (from > level === to > level) return [];
    const share = (level - from) / (to - from);
    return [[x0 + share * (x1 - x0), y0 + share * (y1 - y0)]];
  };
  for (let i = 0; i + 1 < columns.length; i += 1) {
    for (let j = 0; j + 1 < rows.length; j += 1) {
      const cell = [values[i][j], values[i + 1][j], values[i + 1][j + 1], values[i][j + 1]];
      if (!cell.every(Number.isFinite)) continue;
      const [left, right, low, high] = [columns[i], columns[i + 1], rows[j], rows[j + 1]];
      const corners = [[left, low], [right, low], [right, high], [left, high]];
      const points = [0, 1, 2, 3].flatMap((from) => {
        const to = (from + 1) % 4;
        return crossing(cell[from], cell[to], corners[from], corners[to]);
      });
      if (points.length > 1) path += pathOf(points.slice(0, 2));
      if (points.length > 3) path += pathOf(points.slice(2));
    }
  }
  return path;
}

/** The best runs of all budgets, with the interval of their sizes; beyond the runs dashed. With
 * limited text up to where every size is as good. */
function drawFrontier(inside, page, decision, x, y) {
  const budgets = spaced([page.frontier.first, page.frontier.last], 160);
  const { law, end } = decision;
  const nothingLeft = end ? (1 + LEAST_SHOWN) * end.least : -Infinity;
  const best = budgets
    .map((lnC) => ({ lnC, ...law.best(lnC) }))
    .filter(({ loss }) => !(loss <= nothingLeft));
  const sized = best.filter((one) => Number.isFinite(one.params[0]));
  const least = (name) => sized.map((one) => Math.log(one[name][0]));
  const totals = sized.map((one) => one.lnC - LN6);
  const left = steps(least('params'), totals).map(([lnN, lnD]) => [x.at(lnN), y.at(lnD)]);
  const right = steps(least('tokens'), totals).map(([lnD, lnN]) => [x.at(lnN), y.at(lnD)]);
  const outline = pathOf([...left, ...right.reverse()], true);
  inside.append(svg('path', { class: 'frontier-band on-map', d: outline }));
  drawLine(inside, page, best, (one) => [x.at(one.lnN), y.at(one.lnD)]);
}

/** An edge of the interval over growing budgets, as pairs of its lower count and the other one. An
 * interval jumps if another budget of the table becomes the nearest: so an edge has steps, which go
 * up in both counts and leave out no part of the interval. */
function steps(lower, totals) {
  const least = [...lower];
  for (let i = least.length - 2; i >= 0; i -= 1) least[i] = Math.min(least[i], least[i + 1]);
  let most = -Infinity;
  return totals.map((total, i) => {
    most = Math.max(most, total - least[i]);
    return [total - most, most];
  });
}

/** The budget that is chosen, and on it the sizes that are nearly as good as the best. */
function drawBasin(inside, { lnC, basin }, x, y) {
  const at = (lnN) => [x.at(lnN), y.at(lnC - LN6 - lnN)];
  inside.append(
    svg('path', { class: 'chosen-budget', d: pathOf(x.values.map(at)) }),
    svg('path', { class: 'basin-edge', d: pathOf(basin.map(at)) }),
    svg('path', { class: 'basin', d: pathOf(basin.map(at)) }),
  );
}

/** The run that is chosen, the best one, and the one that is cheapest to train and serve. */
function drawChoice(inside, { best, chosen, lifetime }, x, y) {
  const at = ({ lnN, lnD }) => [x.at(lnN), y.at(lnD)];
  if (!chosen.isBest) inside.append(mark('best', ...at(best), 4));
  if (lifetime && Number.isFinite(lifetime.lnD)) {
    const [left, top] = at(lifetime);
    inside.append(svg('path', { class: 'lifetime', d: `M${left} ${top - 8}l8 8l-8 8l-8 -8Z` }));
  }
  inside.append(mark('chosen', ...at(chosen), 7));
}
