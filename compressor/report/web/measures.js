// The measures of a point: the one list that charts, table, tooltip and details use.
//   key      of a point's figures
//   kind     how its numbers are written: bytes, speed, seconds, share (of one) or plain
//   better   'lower' or 'higher'
//   quality  whether it can be chosen as the quality of the charts
//   column   whether the table has a column for it

const FIXED_MEASURES = [
  { key: 'resident_bytes', label: 'resident memory', kind: 'bytes', better: 'lower', column: true },
  { key: 'file_bytes', label: 'file size', kind: 'bytes', better: 'lower', column: true },
  { key: 'weight_bytes', label: 'weights', kind: 'bytes', better: 'lower', column: false },
  { key: 'tokens_per_second', label: 'speed', kind: 'speed', better: 'higher', column: true },
];
const TIME_MEASURE = {
  key: 'seconds', label: 'time taken', kind: 'seconds', better: 'lower', column: true,
};
const METRIC = 'metric:'; // so that no metric's name is one of the keys above

// Accuracies and agreements are shares of one, shown in percent.
const isShare = (name) => /accuracy|agreement/.test(name);

function measureOfMetric(metric) {
  const name = asText(own(metric, 'name'));
  return {
    key: METRIC + name,
    label: asText(own(metric, 'label')) || name,
    kind: isShare(name) ? 'share' : 'plain',
    better: own(metric, 'better') === 'higher' ? 'higher' : 'lower',
    quality: true,
    column: true,
  };
}

// A figure: its value, and the ends of its error bar where there is one.
function figureOf(value, low, high, more = {}) {
  if (asNumber(value) === null) {
    return null;
  }
  return { value, low: asNumber(low), high: asNumber(high), ...more };
}

function figureOfMetric(entry) {
  const value = asNumber(own(entry, 'value'));
  const error = asNumber(own(entry, 'standard_error'));
  const hasError = value !== null && error !== null && error >= 0;
  return figureOf(value, hasError ? value - error : null, hasError ? value + error : null, {
    error: hasError ? error : null,
    n: asNumber(own(entry, 'n')),
  });
}

function figuresOf(raw, metricNames) {
  const figures = new Map();
  const add = (key, figure) => figure && figures.set(key, figure);
  const spread = asList(own(raw, 'tokens_per_second_spread'));
  for (const { key } of [...FIXED_MEASURES, TIME_MEASURE]) {
    const hasSpread = key === 'tokens_per_second';
    add(key, figureOf(own(raw, key), hasSpread ? spread[0] : null, hasSpread ? spread[1] : null));
  }
  const metrics = asObject(own(raw, 'metrics'));
  for (const name of metricNames) {
    add(METRIC + name, figureOfMetric(asObject(own(metrics, name))));
  }
  return figures;
}

// Negative if figure value `a` is better than `b`.
const compareBetter = (measure, a, b) => (measure.better === 'lower' ? a - b : b - a);
