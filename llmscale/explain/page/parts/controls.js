// The sliders, each with a box for its number, and the state that they stand for, which the address
// of the page keeps.

const STEPS = 1000;
const AS_SHOWN = 5e-3; // an end of a slider has three digits, and may be typed so

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

  /** What a text says: a number, or null for the free end. With what is wrong with it, if anything
   * is, comes the nearest value that is right, if there is one. */
  read(text) {
    const word = text.trim().toLowerCase();
    if (this.word && ['', this.word, this.none].includes(word)) return { value: null };
    const value = parseCount(word);
    if (Number.isNaN(value)) return { problem: `this is no number: write it like ${this.example}` };
    const [least, most] = this.limits;
    const nearest = Math.min(Math.max(value, least), most);
    const found = { value: this.whole ? Math.round(nearest) : nearest };
    if (Math.abs(value - nearest) <= AS_SHOWN * nearest) return found;
    const ends = [least, most].map((end) => this.format(end));
    return { ...found, problem: `this page goes from ${ends.join(' to ')}` };
  }

  /** A number in the middle of the slider, as it is written. */
  get example() {
    const [least, most] = this.limits;
    return this.format(Math.sqrt(least * most));
  }

  #rounded(value) {
    return this.whole ? Math.round(value) : Number(value.toPrecision(3));
  }

  #say(problem) {
    this.problem.textContent = problem;
    if (problem) this.box.setAttribute('aria-invalid', 'true');
    else this.box.removeAttribute('aria-invalid');
  }

  /** How far along the slider a number lies, from 0 to 1. */
  #shareOf(value) {
    if (value === null) return this.free === 'high' ? 1 : 0;
    const [low, high] = this.ends.map(Math.log);
    return Math.min(Math.max((Math.log(value) - low) / (high - low), 0), 1);
  }

  show(value) {
    const text = value === null ? this.word : this.format(value);
    this.box.value = text;
    this.slider.value = Math.round(STEPS * this.#shareOf(value));
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

/** The state that a hash stands for, and what to say of its words that stand for none. */
function stateOf(hash, start, controls) {
  const state = { ...start };
  const wrong = { far: [], left: [], isUnknown: false };
  // In 1e+22 it is a plus, which would be read as a blank.
  const words = hash.replace(/^#/, '').replaceAll('+', '%2B');
  for (const [key, text] of new URLSearchParams(words)) {
    const word = `${key}=${text}`.slice(0, 40);
    const isKnown = Object.hasOwn(start, key);
    const { value, problem } = isKnown ? controls.get(key).read(text) : { problem: 'unknown' };
    wrong.isUnknown ||= !isKnown;
    if (value === undefined) {
      wrong.left.push(word);
      continue;
    }
    state[key] = value;
    const taken = () => controls.get(key).format(value);
    if (problem) wrong.far.push(`${word} is taken as ${taken()}: ${problem}`);
  }
  return { state, told: toldOf(wrong, Object.keys(start)) };
}

/** A sentence on the words of an address that are too far, which the nearest is taken for, and on
 * those that are left out. */
function toldOf({ far, left, isUnknown }, keys) {
  const said = [...far];
  if (left.length) said.push(`left out of the address: ${left.join(', ')}`);
  if (isUnknown) said.push(`its keys are ${keys.join(', ')}`);
  return said.join('; ');
}
