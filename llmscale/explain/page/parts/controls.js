// The sliders, each with a box for its number, and the state that they stand for, which the address
// of the page keeps.

const STEPS = 1000;

/** A slider in logarithms with a box next to it. With a `word` it may also set nothing: null, for
 * which the word is typed, and, if it has a `free` end, the slider goes there. */
class Control {
  /** `control` has a key, a label, the ends of the slider, and how a number is written. */
  constructor(control, changed) {
    Object.assign(this, control);
    this.limits = this.ends; // of what may be typed
    this.changed = changed;
    const id = `control-${this.key}`;
    const label = html('label', { for: id }, this.label);
    const named = { id: `${id}-box`, 'aria-label': `${this.label}, number` };
    this.box = html('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', ...named });
    this.slider = html('input', { type: 'range', id, min: 0, max: STEPS, step: 1 });
    this.problem = html('span', { class: 'problem', role: 'status' });
    this.element = html('div', { class: 'control' }, label, this.box, this.slider, this.problem);
    this.slider.addEventListener('input', () => this.changed(this.#slid()));
    this.box.addEventListener('change', () => this.#typed());
  }

  /** The number that the slider stands on. */
  #slid() {
    const place = Number(this.slider.value);
    if (this.free === 'low' && place === 0) return null;
    if (this.free === 'high' && place === STEPS) return null;
    const [low, high] = this.ends.map(Math.log);
    const value = Math.exp(low + ((high - low) * place) / STEPS);
    const [least, most] = this.limits;
    return Math.min(Math.max(this.#rounded(value), least), most);
  }

  #typed() {
    const { value, problem } = this.read(this.box.value);
    if (problem) this.#say(problem);
    else this.changed(value);
  }

  /** What a text says: a number, or null for the free end; or what is wrong with it. */
  read(text) {
    const word = text.trim().toLowerCase();
    if (this.word && ['', '0', this.word].includes(word)) return { value: null };
    const value = parseCount(word);
    const [least, most] = this.limits;
    const example = this.format(Math.sqrt(least * most));
    if (Number.isNaN(value)) return { problem: `this is no number: write it like ${example}` };
    if (value < least * (1 - 1e-3) || value > most * (1 + 1e-3)) {
      return { problem: `this page goes from ${this.format(least)} to ${this.format(most)}` };
    }
    return { value: this.whole ? Math.round(value) : value };
  }

  #rounded(value) {
    return this.whole ? Math.round(value) : Number(value.toPrecision(3));
  }

  #say(problem) {
    this.problem.textContent = problem;
    if (problem) this.box.setAttribute('aria-invalid', 'true');
    else this.box.removeAttribute('aria-invalid');
  }

  show(value) {
    const text = value === null ? this.word : this.format(value);
    const [low, high] = this.ends.map(Math.log);
    let share = value === null ? 0 : (Math.log(value) - low) / (high - low);
    if (value === null && this.free === 'high') share = 1;
    this.box.value = text;
    this.slider.value = Math.round(STEPS * Math.min(Math.max(share, 0), 1));
    this.slider.setAttribute('aria-valuetext', text);
    this.#say('');
  }
}

/** A menu of choices. */
class Choice {
  constructor({ key, label, options }, changed) {
    this.values = options.map(([value]) => value);
    const items = options.map(([value, text]) => html('option', { value }, text));
    this.menu = html('select', { id: `control-${key}` }, ...items);
    const name = html('label', { for: `control-${key}` }, label);
    this.element = html('div', { class: 'control choice' }, name, this.menu);
    this.menu.addEventListener('change', () => changed(this.read(this.menu.value).value));
  }

  /** The value that a text names, or what is wrong with it. */
  read(text) {
    const value = this.values.find((one) => String(one) === text);
    return value === undefined ? { problem: 'there is no such choice' } : { value };
  }

  show(value) {
    this.menu.value = String(value);
  }
}

/** `flops=1e22&unique=50000000000`: what differs from how the page begins. */
function hashOf(state, start) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    const text = value === null ? '' : String(value).replace('e+', 'e');
    if (value !== start[key]) words.set(key, text);
  }
  return words.toString();
}

/** The state that a hash stands for, and what to say of its words that stand for none, which are
 * left out. */
function stateOf(hash, start, controls) {
  const state = { ...start };
  const wrong = [];
  let isUnknown = false;
  // In 1e+22 it is a plus, which would be read as a blank.
  const words = hash.replace(/^#/, '').replaceAll('+', '%2B');
  for (const [key, text] of new URLSearchParams(words)) {
    const isKnown = Object.hasOwn(start, key);
    const found = isKnown ? controls.get(key).read(text) : { problem: 'unknown' };
    isUnknown ||= !isKnown;
    if (found.problem) wrong.push(`${key}=${text}`.slice(0, 40));
    else state[key] = found.value;
  }
  const keys = isUnknown ? `; its keys are ${Object.keys(start).join(', ')}` : '';
  const told = wrong.length ? `left out of the address: ${wrong.join(', ')}${keys}` : '';
  return { state, told };
}
