// Points grouped by the axis that colours them. Shapes differ too, for readers who cannot tell the
// colours apart. Names use the Okabe-Ito palette, numbers a scale like plasma; both remain
// distinguishable under every kind of colour blindness.

const NAMED_COLOURS = {
  light: ['#0072b2', '#d55e00', '#009e73', '#b0568c', '#c98a00', '#3a94cf', '#6b5fb5', '#5c6370'],
  dark: ['#56b4e9', '#f0894a', '#2fc79b', '#e39ac6', '#f0c419', '#9fd0f5', '#aaa0f0', '#b8bec9'],
};
const SCALE_COLOURS = {
  light: ['#2a1390', '#8a1fa3', '#cf4a76', '#ec8a3c'],
  dark: ['#f4df53', '#f5a04c', '#e4697a', '#a679e8'],
};
const SHAPES = [
  'circle', 'rect', 'triangle', 'rectRot', 'rectRounded', 'star', 'crossRot', 'cross',
];
const NOT_SET = 'not set';

function mixColours(a, b, share) {
  const part = (colour, i) => parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) => Math.round(part(a, i) * (1 - share) + part(b, i) * share));
  return `rgb(${mixed.join(',')})`;
}

function scaleColour(stops, share) {
  const at = share * (stops.length - 1);
  const i = Math.min(stops.length - 2, Math.floor(at));
  return mixColours(stops[i], stops[i + 1], at - i);
}

const isNumeric = (text) => text.trim() !== '' && Number.isFinite(Number(text));

// Numbers in ascending order; other values in the order of the results.
function orderedValues(axis) {
  const isScale = axis.values.filter(Boolean).every(isNumeric);
  const values = isScale
    ? [...axis.values].sort((a, b) => (a === '') - (b === '') || Number(a) - Number(b))
    : axis.values;
  return { values, isScale };
}

// [{ value, label, colour, shape, points }], in the order of the legend; points that are done.
function groupPoints(results, axisName) {
  const theme = currentTheme();
  const done = results.points.filter((point) => point.status === 'done');
  const axis = results.axes.find(({ name }) => name === axisName);
  if (!axis) {
    const colour = NAMED_COLOURS[theme][0];
    return [{ value: '', label: '', colour, shape: SHAPES[0], points: done }];
  }
  const { values, isScale } = orderedValues(axis);
  const colours = NAMED_COLOURS[theme];
  const nScale = Math.max(1, values.filter(Boolean).length - 1);
  return values.map((value, i) => ({
    value,
    label: value || NOT_SET,
    colour: value === '' ? themeColour('muted')
      : isScale ? scaleColour(SCALE_COLOURS[theme], i / nScale) : colours[i % colours.length],
    shape: SHAPES[i % SHAPES.length],
    points: done.filter((point) => settingOf(point, axisName) === value),
  })).filter((group) => group.points.length > 0);
}
