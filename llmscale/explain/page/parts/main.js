// Puts the page together: reads the data, makes the sliders, and draws whatever a change moves.

const TELEPHONE = '(max-width: 760px)'; // as in page.css

/** The data that Python wrote, with the law that can be asked. */
function readPage() {
  const data = JSON.parse(document.getElementById('data').textContent);
  const surface = data.text ? new TextSurface(data.text) : new GridSurface(data.grid);
  return { ...data, surface, frontier: new Frontier(data.frontier, surface) };
}

/** The sliders by group. */
function slidersOf(page) {
  const flops = [Math.exp(page.frontier.first), Math.exp(page.frontier.last)];
  const tokens = page.surface.ends.tokens.map(Math.exp);
  const { context } = page.start;
  const contexts = [Math.min(128, context), Math.max(2 ** 20, context)];
  const plain = { format: (value) => general(value) };
  const whole = { whole: true, format: (value) => grouped(value, 0) };
  return {
    budget: [
      { key: 'flops', label: 'compute, FLOPs', ends: flops, format: formatFlops },
      { key: 'ratio', label: 'tokens per parameter', ends: [0.1, 1e5], ...plain, word: 'best' },
      { key: 'tokens', label: 'tokens', ends: tokens, format: formatCount },
    ],
    text: [{
      key: 'unique', label: 'unique tokens', ends: tokens, format: formatCount,
      free: 'high', word: 'no limit',
    }],
    serving: [
      {
        key: 'served', label: 'tokens to serve', ends: [1e6, 1e17], format: formatCount,
        free: 'low', word: 'none',
      },
      { key: 'context', label: 'context, tokens', ends: contexts, ...whole },
    ],
    machine: [
      { key: 'gpus', label: 'number of GPUs', ends: [1, 1e5], ...whole },
      { key: 'mfu', label: 'share of the peak (MFU)', ends: [0.01, 1], ...plain, word: 'usual' },
      {
        key: 'price', label: 'price of a GPU hour', ends: [0.01, 100], ...plain,
        free: 'low', word: 'none',
      },
    ],
  };
}

/** The menus by group. */
function menusOf(page) {
  return {
    serving: [{ key: 'bytes', label: 'bytes per weight', options: page.serving.widths }],
    machine: [{ key: 'gpu', label: 'GPU', options: page.gpus.map((one) => [one.key, one.name]) }],
  };
}

class Explorer {
  constructor(page) {
    this.page = page;
    this.controls = new Map();
    this.#add(menusOf(page), Choice);
    this.#add(slidersOf(page), Control);
    this.map = document.getElementById('map');
    this.curve = document.getElementById('curve');
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.#listen();
    this.readAddress();
    this.#hideKeys();
    if (matchMedia(TELEPHONE).matches) this.#fold();
  }

  #add(groups, Kind) {
    for (const [group, ones] of Object.entries(groups)) {
      for (const one of ones) {
        const control = new Kind(one, (value) => this.change({ [one.key]: value }));
        this.controls.set(one.key, control);
        document.getElementById(`controls-${group}`).append(control.element);
      }
    }
  }

  /** Of a fit without intervals, or without runs, the keys to them. */
  #hideKeys() {
    const { surface, runs } = this.page;
    const drawn = { '.key-band': surface.hasInterval, '.key-run': runs.length > 0 };
    for (const [name, isDrawn] of Object.entries(drawn)) {
      for (const key of document.querySelectorAll(name)) key.hidden = !isDrawn;
    }
  }

  /** Close the groups of sliders in which nothing is chosen: a telephone has little room. */
  #fold() {
    const { state, page } = this;
    for (const group of document.querySelectorAll('#controls details')) {
      const isIn = (key) => group.contains(this.controls.get(key).element);
      const isChosen = (key) => state[key] !== page.start[key] && isIn(key);
      group.open = Object.keys(page.start).some(isChosen);
    }
  }

  #listen() {
    addEventListener('hashchange', () => this.readAddress());
    this.dark.addEventListener('change', () => this.draw());
    addEventListener('beforeprint', () => this.print(true));
    addEventListener('afterprint', () => this.print(false));
    new ResizeObserver(() => this.draw()).observe(this.map);
    document.getElementById('best').addEventListener('click', () => this.change({ ratio: null }));
    document.getElementById('copy').addEventListener('click', () => this.copyLink());
    this.map.addEventListener('click', (event) => this.pick(event));
    this.map.addEventListener('pointermove', (event) => this.sayUnder(event));
    this.map.addEventListener('pointerleave', () => this.sayUnder(null));
  }

  /** Take the state that the address names. */
  readAddress() {
    const { state, told } = stateOf(location.hash, this.page.start, this.controls);
    this.take(state);
    this.tell(told);
  }

  /** Sliders have moved, or a run was picked: change what they stand for. */
  change({ tokens, ...changes }) {
    const state = { ...this.state, ...changes };
    // At a budget tokens and tokens per parameter are one choice: D = sqrt(C/6 · D/N).
    if (tokens !== undefined) state.ratio = (6 * tokens * tokens) / state.flops;
    if ('gpu' in changes) state.mfu = null; // what was published of the new one
    this.take(state);
    this.#writeAddress();
  }

  /** Show a state, everywhere. */
  take(state) {
    this.state = state;
    this.decision = decide(this.page, state);
    this.#showControls();
    const sentence = sentenceOf(this.page, this.decision);
    const cautions = cautionsOf(this.page, this.decision, state);
    document.getElementById('sentence').replaceChildren(...sentence);
    document.getElementById('cautions').replaceChildren(...cautions);
    showPlan(document.getElementById('plan'), planOf(this.page, this.decision, state));
    this.draw();
  }

  #showControls() {
    const { chosen, law, lnC, training } = this.decision;
    const [least, most] = law.sizes(lnC);
    const shown = { ...this.state };
    shown.tokens = Math.exp(chosen.lnD);
    shown.ratio = Math.exp(chosen.lnD - chosen.lnN);
    shown.mfu = training.mfu;
    // What is left of the page at this budget.
    this.controls.get('tokens').limits = [most, least].map((lnN) => Math.exp(lnC - LN6 - lnN));
    this.controls.get('ratio').limits = [most, least].map((lnN) => Math.exp(lnC - LN6 - 2 * lnN));
    for (const [key, control] of this.controls) control.show(shown[key]);
    document.getElementById('best').disabled = chosen.isBest;
    document.getElementById('key-lifetime').hidden = this.state.served === null;
    document.getElementById('key-limited').hidden = this.state.unique === null;
  }

  #writeAddress() {
    const hash = hashOf(this.state, this.page.start);
    try {
      history.replaceState(null, '', hash ? `#${hash}` : location.pathname + location.search);
    } catch {
      this.tell('this frame has no address'); // as in a notebook
    }
  }

  /** Draw once before the screen shows the next picture, however often a slider moves. */
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.#drawNow();
    });
  }

  /** Draw for paper, which is white, or for the screen again. */
  print(isPrinting) {
    document.documentElement.classList.toggle('printing', isPrinting);
    this.#drawNow(isPrinting);
  }

  #drawNow(isPrinting = false) {
    const isDark = this.dark.matches && !isPrinting;
    this.scales = drawMap(this.map, this.page, this.decision, isDark);
    drawCurve(this.curve, this.page, this.decision);
  }

  /** ln N and ln D under the pointer; null outside the plot. */
  #under(event) {
    const box = this.map.getBoundingClientRect();
    const { x, y, plot } = this.scales;
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    const isBeside = left < plot.left || left > plot.right;
    const isOver = top < plot.top || top > plot.bottom;
    return isBeside || isOver ? null : [x.inverse(left), y.inverse(top)];
  }

  /** Choose the run under the pointer. */
  pick(event) {
    const place = this.#under(event);
    if (!place) return;
    const [lnN, lnD] = place;
    const { first, last } = this.page.frontier;
    const lnC = Math.min(Math.max(LN6 + lnN + lnD, first), last);
    const rounded = (lnValue) => Number(Math.exp(lnValue).toPrecision(3));
    this.change({ flops: rounded(lnC), ratio: rounded(lnD - lnN) });
  }

  /** Say what the loss is under the pointer. */
  sayUnder(event) {
    const place = event && this.#under(event);
    const said = document.getElementById('under');
    said.textContent = '';
    if (!place) return;
    const { law } = this.decision;
    const loss = formatLoss(law.loss(...place), ...law.interval(...place));
    const [params, tokens] = place.map((one) => formatCount(Math.exp(one)));
    said.textContent = `N ${params}, D ${tokens}: ${this.page.metric} ${loss}`;
  }

  async copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      this.tell('copied');
    } catch {
      this.tell(location.href);
    }
  }

  tell(text) {
    document.getElementById('told').textContent = text;
  }
}

const explorer = new Explorer(readPage());
