// How numbers are written: one unit and one number of decimals per measure, so that columns line
// up.

const MINUS = '\u2212';
const PLUS_MINUS = '\u00b1';
const TIMES = '\u00d7';
const SPACE = '\u00a0'; // non-breaking
const DASH = '\u2013';

const UNITS = {
  bytes: [[1e10, 1e9, 'GB'], [1e6, 1e6, 'MB'], [1e3, 1e3, 'kB'], [0, 1, 'B']],
  speed: [[0, 1, 'tokens/s']],
  seconds: [[7200, 3600, 'h'], [600, 60, 'min'], [0, 1, 's']],
  share: [[0, 0.01, '%']],
  plain: [[0, 1, '']],
};

// Decimals at which `number` shows `digits` digits.
const decimalsFor = (number, digits) =>
  Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(number))));

// Standard errors decide: the smallest keeps two digits. Without them the smallest value keeps
// three, or four where small differences matter.
function decimalsOf(measure, figures, scale) {
  const sizes = (numbers) => numbers.map((x) => Math.abs(x ?? 0) / scale).filter((x) => x > 0);
  const errors = sizes(figures.map((figure) => figure.error));
  if (errors.length > 0) {
    return decimalsFor(Math.min(...errors), 2);
  }
  const values = sizes(figures.map((figure) => figure.value));
  if (values.length === 0 || measure.kind === 'seconds') {
    return 0;
  }
  return decimalsFor(Math.min(...values), measure.kind === 'plain' ? 4 : 3);
}

// unit: as shown after a number; write(value): the number without the unit.
function notationOf(measure, points) {
  const figures = points.map((point) => point.figures.get(measure.key)).filter(Boolean);
  const largest = Math.max(0, ...figures.map((figure) => Math.abs(figure.value)));
  const [, scale, unit] = UNITS[measure.kind].find(([least]) => largest >= least);
  const decimals = decimalsOf(measure, figures, scale);
  return { unit, scale, write: (value) => writeNumber(value / scale, decimals) };
}

function writeNumber(value, decimals) {
  if (Math.abs(value) >= 1e7) {
    return value.toExponential(2).replace('-', MINUS);
  }
  const text = Math.abs(value).toLocaleString('en-US', {
    minimumFractionDigits: decimals, maximumFractionDigits: decimals,
  });
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

const withUnit = (text, measure) => (measure.unit ? text + SPACE + measure.unit : text);

// The uncertainty after a value: " +- error", or the ends of a spread.
function writeError(figure, measure) {
  if (figure.error != null) {
    return `${PLUS_MINUS}${SPACE}${measure.write(figure.error)}`;
  }
  if (figure.low !== null && figure.high !== null) {
    return `(${measure.write(figure.low)}${DASH}${measure.write(figure.high)})`;
  }
  return '';
}

function writeFigure(figure, measure) {
  const error = writeError(figure, measure);
  return withUnit(measure.write(figure.value) + (error ? ` ${error}` : ''), measure);
}

// Relative to the baseline: sizes and speeds as a ratio, quality as a difference (of shares: in
// percentage points).
function writeAgainst(value, reference, measure) {
  if (measure.quality) {
    const sign = value < reference ? '' : '+';
    const difference = sign + measure.write(value - reference);
    return measure.kind === 'share' ? `${difference}${SPACE}pp` : withUnit(difference, measure);
  }
  if (!(value > 0 && reference > 0)) {
    return '';
  }
  const isSmaller = value <= reference;
  const ratio = isSmaller ? reference / value : value / reference;
  const words = measure.kind === 'bytes' ? ['smaller', 'larger'] : ['slower', 'faster'];
  return `${ratio.toFixed(2)}${TIMES} ${words[isSmaller ? 0 : 1]}`;
}

const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const titleOf = (measure) =>
  measure.unit ? `${capitalised(measure.label)} (${measure.unit})` : capitalised(measure.label);
const directionOf = (measure) => `${measure.better} is better`;
