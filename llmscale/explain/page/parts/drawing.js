// What both figures are drawn with: elements of SVG, scales in logarithms, axes.

const SVG = 'http://www.w3.org/2000/svg';
const LN10 = Math.log(10);

/** An element of SVG; its children may be texts, which are never read as markup. */
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A straight scale from values to pixels. */
class Scale {
  constructor(values, pixels) {
    this.values = values;
    this.pixels = pixels;
  }

  at(value) {
    const [low, high] = this.values;
    const [from, to] = this.pixels;
    return from + ((value - low) / (high - low)) * (to - from);
  }

  inverse(pixel) {
    const [low, high] = this.values;
    const [from, to] = this.pixels;
    return low + ((pixel - from) / (to - from)) * (high - low);
  }
}

/** A path through points, in pixels; pieces with a point that is no number are left out. */
function pathOf(points, closed = false) {
  let path = '';
  let pen = 'M';
  for (const [x, y] of points) {
    if (Number.isFinite(x + y)) {
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = 'L';
    } else pen = 'M';
  }
  return closed && path ? `${path}Z` : path;
}

/** So many values from one end to the other. */
function spaced([low, high], count) {
  return Array.from({ length: count }, (_, place) => low + ((high - low) * place) / (count - 1));
}

/** Powers of ten between two natural logs, every second or third if there are too many. */
function decades([low, high], most) {
  const [first, last] = [Math.ceil(low / LN10 - 1e-9), Math.floor(high / LN10 + 1e-9)];
  const every = Math.max(1, Math.ceil((last - first + 1) / most));
  const found = [];
  for (let power = first; power <= last; power += 1) {
    if (power % every === 0) found.push(power * LN10);
  }
  return found;
}

/** Round values between two ends, some of them. */
function roundTicks([low, high], most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high + 1e-12; place += 1) {
    found.push(place * step);
  }
  return found;
}

/** A dot. */
function mark(kind, cx, cy, r) {
  return svg('circle', { class: kind, cx: cx.toFixed(1), cy: cy.toFixed(1), r });
}

/** A text at a place. */
function text(kind, x, y, said) {
  return svg('text', { class: kind, x: x.toFixed(1), y: y.toFixed(1) }, said);
}

/** The best runs of budgets, as a line; beyond the runs of the table it is dashed. */
function drawLine(inside, page, best, place) {
  const isWithin = (one) => page.surface.beyond(one.lnN, one.lnD) === 0;
  inside.append(
    svg('path', { class: 'frontier beyond', d: pathOf(best.map(place)) }),
    svg('path', { class: 'frontier', d: pathOf(best.filter(isWithin).map(place)) }),
  );
}

/** The frame of a figure: its plot within the margins, and a group to draw into that is clipped. */
function frame(figure, margins) {
  const { width, height } = figure.getBoundingClientRect();
  const plot = {
    left: margins.left,
    right: Math.max(width - margins.right, margins.left + 10),
    top: margins.top,
    bottom: Math.max(height - margins.bottom, margins.top + 10),
  };
  const box = {
    x: plot.left,
    y: plot.top,
    width: plot.right - plot.left,
    height: plot.bottom - plot.top,
  };
  const viewBox = `0 0 ${width} ${height}`;
  const canvas = svg('svg', { width, height, viewBox, 'aria-hidden': 'true' });
  const clip = `${figure.id}-clip`;
  canvas.append(svg('clipPath', { id: clip }, svg('rect', box)));
  const inside = svg('g', { 'clip-path': `url(#${clip})` });
  canvas.append(svg('rect', { class: 'frame', ...box }), inside);
  return { canvas, plot, box, inside, width, height };
}

/** Put a figure in the place of the one before. */
function show(figure, { canvas }) {
  figure.querySelector('svg')?.remove();
  figure.append(canvas);
}

/** Ticks with their labels along the bottom, and the name of the axis. */
function bottomAxis({ canvas, plot, height }, scale, ticks, label, name) {
  for (const tick of ticks) {
    const x = scale.at(tick);
    canvas.append(
      svg('line', { class: 'tick', x1: x, x2: x, y1: plot.bottom, y2: plot.bottom + 4 }),
      text('label middle', x, plot.bottom + 17, label(tick)),
    );
  }
  canvas.append(text('name middle', 0.5 * (plot.left + plot.right), height - 8, name));
}

/** Ticks with their labels along the left side, and the name of the axis above them. */
function leftAxis({ canvas, plot }, scale, ticks, label, name) {
  for (const tick of ticks) {
    const y = scale.at(tick);
    canvas.append(
      svg('line', { class: 'tick', x1: plot.left - 4, x2: plot.left, y1: y, y2: y }),
      text('label end', plot.left - 7, y + 4, label(tick)),
    );
  }
  canvas.append(text('name', 4, plot.top - 9, name));
}
