// Quality against each of the costs, with the frontier, one chart each.

const COSTS = ['resident_bytes', 'file_bytes', 'tokens_per_second'];
const paretoCharts = [];

// A point as the library expects it, in the units that the axes show.
function toDatum(point, xMeasure, yMeasure) {
  const x = point.figures.get(xMeasure.key);
  const y = point.figures.get(yMeasure.key);
  return {
    x: x.value / xMeasure.scale,
    y: y.value / yMeasure.scale,
    errors: { x: errorOf(x, xMeasure), y: errorOf(y, yMeasure) },
    point,
  };
}

const isSelected = (context) => context.raw?.point === state.selected && state.selected !== null;

function groupDataset(group, toData) {
  return {
    label: group.label,
    data: group.points.map(toData).filter(Boolean),
    pointStyle: group.shape,
    backgroundColor: group.colour,
    borderColor: (context) => (isSelected(context) ? themeColour('text') : group.colour),
    errorColour: group.colour,
    borderWidth: (context) => (isSelected(context) ? 2.5 : 1.5),
    radius: (context) => (isSelected(context) ? 9 : 5.5),
    hoverRadius: 8,
    hoverBackgroundColor: group.colour,
    hitRadius: 6,
  };
}

// Between two of its points, nothing better than the worse of them is known; hence the steps.
function frontierDataset(points, xMeasure, yMeasure) {
  return {
    type: 'line',
    data: paretoFrontier(points, xMeasure, yMeasure)
      .map((point) => ({ ...toDatum(point, xMeasure, yMeasure), errors: null, point: null })),
    stepped: xMeasure.better === 'lower' ? 'before' : 'after',
    borderColor: themeColour('frontier'),
    borderWidth: 1.5,
    pointRadius: 0,
    pointHitRadius: 0,
    order: 1,
  };
}

// A logarithmic scale cannot show 0 or less.
const hasPlace = (value) => value !== null && (value > 0 || !state.logarithmic);

// Of the groups that the legend has not hidden.
const shownPoints = (groups) =>
  groups.filter((group) => !state.hidden.has(group.value)).flatMap((group) => group.points);

function paretoData(groups, xMeasure, yMeasure) {
  const unbeaten = state.unbeatenOnly ? unbeatenPoints(shownPoints(groups), threeMeasures()) : null;
  const isDrawn = (point) => (unbeaten === null || unbeaten.includes(point)) &&
    valueOf(point, xMeasure) !== null && hasPlace(valueOf(point, yMeasure));
  const shown = groups.filter((group) => !state.hidden.has(group.value));
  const toData = (point) => (isDrawn(point) ? toDatum(point, xMeasure, yMeasure) : null);
  const points = shown.flatMap((group) => group.points).filter(isDrawn);
  return [
    ...shown.map((group) => groupDataset(group, toData)),
    frontierDataset(points, xMeasure, yMeasure),
  ];
}

// The scale of quality; a logarithmic one gets its margin here, which the library gives to others.
function qualityScale(yMeasure, data) {
  const limits = errorLimits(data, 'y', state.logarithmic);
  const options = { grace: '6%', ticks: { maxTicksLimit: 7 }, ...limits };
  if (!state.logarithmic) {
    return axisOptions(titleOf(yMeasure), options);
  }
  const values = state.results.points.map((point) => valueOf(point, yMeasure)).filter(hasPlace);
  const lowest = Math.min(...values.map((value) => value / yMeasure.scale),
    limits.suggestedMin ?? Infinity);
  return axisOptions(titleOf(yMeasure), {
    ...options,
    type: 'logarithmic',
    min: Number.isFinite(lowest) ? lowest / 1.3 : undefined,
  });
}

// A cost is logarithmic where its values are far apart: in memory or from storage, say.
const FAR_APART = 30;

function costScale(xMeasure, data) {
  const values = data.map(({ x }) => x).filter((x) => x > 0);
  const lowest = Math.min(...values);
  const isWide = values.length === data.length && Math.max(...values) > FAR_APART * lowest;
  const limits = errorLimits(data, 'x', isWide);
  const options = { ticks: { maxTicksLimit: 7, maxRotation: 0 }, ...limits };
  if (!isWide) {
    return axisOptions(titleOf(xMeasure), { ...options, grace: '6%' });
  }
  const min = Math.min(lowest, limits.suggestedMin ?? lowest) / 1.3;
  return axisOptions(titleOf(xMeasure), { ...options, type: 'logarithmic', min });
}

function paretoOptions(xMeasure, yMeasure, data) {
  const baseline = valueOf(state.results.baseline, yMeasure);
  return {
    layout: { padding: { top: 6, right: 8 } },
    onClick: (event, elements, chart) => {
      const [hit] = elements;
      const point = hit && chart.data.datasets[hit.datasetIndex].data[hit.index]?.point;
      if (point) {
        change({ selected: point });
      }
    },
    onHover: (event, elements) => {
      event.native.target.style.cursor = elements.length > 0 ? 'pointer' : 'default';
    },
    interaction: { mode: 'nearest', intersect: true },
    scales: {
      x: costScale(xMeasure, data),
      y: qualityScale(yMeasure, data),
    },
    plugins: {
      tooltip: tooltipOptions,
      referenceLine: {
        text: 'baseline',
        value: hasPlace(baseline) ? baseline / yMeasure.scale : null,
        // In the corner with few points: small or fast points are not as good as the baseline.
        align: xMeasure.better === 'lower' ? 'left' : 'right',
      },
    },
  };
}

function makeParetoCard(xMeasure) {
  const caption = make('figcaption', {}, capitalised(xMeasure.label), ' ',
    make('span', { class: 'hint' }, directionOf(xMeasure)));
  const canvas = make('canvas', { role: 'img', id: `chart-${xMeasure.key}` });
  byId('charts').append(make('figure', { class: 'card' }, caption,
    make('div', { class: 'plot' }, canvas)));
  const chart = new Chart(canvas, {
    type: 'scatter', data: { datasets: [] }, plugins: [errorBars, referenceLine, pointNames],
  });
  paretoCharts.push({ chart, xMeasure });
}

// Says which points a logarithmic scale hides, since the frontier then lacks them.
function showLeftOut(yMeasure) {
  const values = state.results.points.map((point) => valueOf(point, yMeasure));
  const n = values.filter((value) => value !== null && !hasPlace(value)).length;
  const subject = n === 1 ? '1 point is' : `${n} points are`;
  byId('left-out').textContent =
    n === 0 ? '' : `${subject} left out: a logarithmic scale cannot show 0.`;
}

function updateParetoCharts() {
  const yMeasure = state.quality;
  showLeftOut(yMeasure);
  const groups = groupPoints(state.results, state.colour);
  for (const { chart, xMeasure } of paretoCharts) {
    chart.data.datasets = paretoData(groups, xMeasure, yMeasure);
    const data = chart.data.datasets.slice(0, -1).flatMap((dataset) => dataset.data);
    chart.options = paretoOptions(xMeasure, yMeasure, data);
    // Not an option: Chart.js wraps options, and these points are compared by identity.
    chart.namedFirst = [state.selected, state.results.baseline,
      ...paretoFrontier(data.map(({ point }) => point), xMeasure, yMeasure)];
    chart.update();
    const n = data.length;
    chart.canvas.setAttribute('aria-label', `${titleOf(yMeasure)} against ${xMeasure.label}, ` +
      `${n} points. The table has the same figures.`);
  }
}

function setUpParetoCharts() {
  const measures = state.results.measures;
  COSTS.map((key) => measures.find((measure) => measure.key === key)).filter(Boolean)
    .forEach(makeParetoCard);
  onChange(updateParetoCharts);
}
