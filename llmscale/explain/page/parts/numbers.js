// Numbers as people write them, in boxes and in sentences: the same as `llmscale predict` prints.

const SUFFIXES = { k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12 };
const GROUPS = /(?<=\d),(?=\d{3}(?:\D|$))/g; // commas of 1,048,576
const NUMBER = /^([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?)([kmbgt]?)$/i;

/** The number that a text such as `1e22`, `7B` or `0.4` names; NaN if it names none. */
function parseCount(text) {
  const match = NUMBER.exec(text.trim().replaceAll('_', '').replaceAll(GROUPS, ''));
  if (!match) return NaN;
  return Number(match[1]) * (SUFFIXES[match[2].toLowerCase()] ?? 1);
}

/** A number to some significant digits, without zeros that say nothing: as Python's `%g`. */
function general(value, digits = 3) {
  if (!Number.isFinite(value)) return '-';
  const size = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits))) || 1));
  if (size < -4 || size >= digits) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split('e');
    const two = exponent.slice(1).padStart(2, '0');
    return `${Number(mantissa)}e${exponent[0]}${two}`;
  }
  return String(Number(value.toPrecision(digits)));
}

/** `1.5M`, `205B`: three significant digits with a suffix. */
function formatCount(count) {
  for (const [suffix, scale] of [['T', 1e12], ['B', 1e9], ['M', 1e6], ['k', 1e3]]) {
    if (Math.abs(count) >= 0.9995 * scale) {
      const scaled = Number((count / scale).toPrecision(3));
      return scaled < 1e4 ? `${scaled}${suffix}` : general(count);
    }
  }
  return general(count);
}

/** FLOPs as a power of ten, `2.9e21`. */
function formatFlops(flops) {
  return general(flops).replace('e+', 'e');
}

/** The decimals that show so many significant digits of a number. */
function decimalsOf(value, significant) {
  if (!value || !Number.isFinite(value)) return 0;
  return significant - 1 - Math.floor(Math.log10(Math.abs(value)));
}

/** The decimals that the interval of a loss bears (explain/digits.py). */
function decimals(value, low, high) {
  const width = high - low;
  if (!(Number.isFinite(width) && width > 0)) {
    return Math.max(decimalsOf(value, Math.abs(value) >= 1 ? 5 : 4), 0);
  }
  const size = low <= 0 && high >= 0 ? Math.max(Math.abs(value), width) : value;
  const places = Math.max(decimalsOf(width, 3), decimalsOf(size, 3));
  return Math.max(Math.min(places, decimalsOf(size, 7)), 0);
}

/** A loss to as many decimals as its interval bears. */
function formatLoss(value, low = NaN, high = NaN) {
  if (!Number.isFinite(value)) return '-';
  return value.toFixed(decimals(value, low, high));
}

/** `[2.0932, 2.1387]`, or nothing if there is no interval. */
function formatEnds(low, high, value) {
  if (!Number.isFinite(high - low)) return '';
  const places = decimals(value, low, high);
  return `[${low.toFixed(places)}, ${high.toFixed(places)}]`;
}

/** `[7.71B, 8.97B]`, or nothing if there is no interval. */
function formatCountEnds(low, high) {
  return Number.isFinite(high - low) ? `[${formatCount(low)}, ${formatCount(high)}]` : '';
}

/** A share as a percentage of two significant digits: `0.34%`, `12%`. */
function formatShare(share) {
  const percent = 100 * share;
  if (!Number.isFinite(percent)) return '-';
  return `${percent < 0.005 ? 0 : Number(percent.toPrecision(percent < 100 ? 2 : 3))}%`;
}

/** The same with its sign, of a share that may be on either side of 0: `+0.34%`, `-1.2%`. */
function formatChange(share) {
  return `${share < 0 ? '-' : '+'}${formatShare(Math.abs(share))}`;
}

/** `45 s`, `3.2 min`, `5.1 h`, `2.4 days`, `9.5 years`. */
function formatSeconds(seconds) {
  if (!Number.isFinite(seconds)) return '-';
  if (seconds < 90) return `${seconds.toFixed(seconds >= 10 ? 0 : 1)} s`;
  for (const [unit, length, limit] of [['min', 60, 90], ['h', 3600, 48], ['days', 86400, 730]]) {
    if (seconds < limit * length) return `${(seconds / length).toFixed(1)} ${unit}`;
  }
  const years = seconds / (365.25 * 86400);
  return `${years < 100 ? years.toFixed(1) : plainly(years)} years`;
}

/** Bytes in units of 10^9, as memory of GPUs is sold. */
function formatBytes(count) {
  for (const [unit, scale] of [['TB', 1e12], ['GB', 1e9], ['MB', 1e6], ['kB', 1e3]]) {
    if (count >= 0.9995 * scale) return `${general(count / scale)} ${unit}`;
  }
  return `${Math.round(count)} B`;
}

/** Watt-hours, `3.1 MWh`, as `plan` writes them. */
function formatEnergy(wattHours) {
  if (!Number.isFinite(wattHours)) return '-';
  const scales = [['GWh', 1e9], ['MWh', 1e6], ['kWh', 1e3]];
  const [unit, scale] = scales.find(([, one]) => wattHours >= one) ?? ['Wh', 1];
  return `${plainly(wattHours / scale)} ${unit}`;
}

/** Digits in groups of three, to so many decimals at most. */
function grouped(value, places = 2) {
  return value.toLocaleString('en-US', { maximumFractionDigits: places });
}

/** Three significant digits, without powers of ten as far as that is readable: `1,970`. */
function plainly(value) {
  const isReadable = value >= 1000 && value < 1e9;
  return isReadable ? grouped(Number(value.toPrecision(3)), 0) : general(value);
}

/** Hours, or money of no named currency, as `plan` writes them: `2.5`, `8,400`, `1.87M`. */
function formatAmount(value) {
  if (!Number.isFinite(value)) return '-';
  if (value < 100) return general(value);
  return value < 1e5 ? grouped(value, 0) : formatCount(value);
}
