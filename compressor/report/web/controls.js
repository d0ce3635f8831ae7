// The choices for the charts, and the legend, whose entries show and hide their points.

// Axes with more than one value.
const colourAxes = (results) => results.axes.filter(({ values }) => values.length > 1);

// Memory, speed and the chosen quality; null if the results lack one.
function threeMeasures() {
  const find = (key) => state.results.measures.find((measure) => measure.key === key);
  const all = [find('resident_bytes'), find('tokens_per_second'), state.quality];
  return all.every(Boolean) ? all : null;
}

function setUpControls() {
  const qualities = state.results.measures.filter((measure) => measure.quality);
  fillSelect(byId('quality'),
    qualities.map(({ key, label }) => ({ value: key, label: capitalised(label) })),
    state.quality.key);
  byId('quality').addEventListener('change', (event) =>
    change({ quality: qualities.find(({ key }) => key === event.target.value) }));

  const axes = colourAxes(state.results).map(({ name }) => ({ value: name, label: name }));
  fillSelect(byId('colour'), [...axes, { value: '', label: 'one colour' }], state.colour);
  byId('colour').addEventListener('change', (event) =>
    change({ colour: event.target.value, hidden: new Set() }));

  byId('logarithmic').addEventListener('change', (event) =>
    change({ logarithmic: event.target.checked }));
  const threeway = threeMeasures();
  byId('unbeaten').closest('label').hidden = threeway === null;
  byId('unbeaten').addEventListener('change', (event) =>
    change({ unbeatenOnly: event.target.checked }));
  onChange(updateLegend);
  onChange(() => {
    byId('direction').textContent = directionOf(state.quality);
  });
}

// The mark of a group, drawn as the charts draw it.
function legendMark(group) {
  const size = 14;
  const ratio = window.devicePixelRatio || 1;
  const canvas = make('canvas', {
    width: size * ratio, height: size * ratio, 'aria-hidden': 'true', class: 'mark',
  });
  const ctx = canvas.getContext('2d');
  ctx.scale(ratio, ratio);
  ctx.fillStyle = group.colour;
  ctx.strokeStyle = group.colour;
  Chart.helpers.drawPoint(ctx, { pointStyle: group.shape, radius: 5, borderWidth: 1.5 },
    size / 2, size / 2);
  return canvas;
}

function toggleGroup(value) {
  const hidden = new Set(state.hidden);
  if (!hidden.delete(value)) {
    hidden.add(value);
  }
  change({ hidden });
}

function legendButton(group) {
  const isShown = !state.hidden.has(group.value);
  const button = make('button', { type: 'button', 'aria-pressed': isShown }, legendMark(group),
    group.label);
  button.addEventListener('click', () => {
    toggleGroup(group.value);
    // The legend is rebuilt: keep the focus where it was.
    byId('legend').querySelectorAll('button')[legendIndex(group.value)]?.focus();
  });
  return button;
}

const legendIndex = (value) =>
  groupPoints(state.results, state.colour).findIndex((group) => group.value === value);

function updateLegend(changes) {
  const isSame = !['colour', 'hidden', 'theme'].some((key) => key in changes);
  if (isSame && byId('legend').childElementCount > 0) {
    return;
  }
  const groups = state.colour === '' ? [] : groupPoints(state.results, state.colour);
  byId('legend').replaceChildren(...groups.map(legendButton));
}
