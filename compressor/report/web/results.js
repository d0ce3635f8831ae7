// The results of the sweep, read from the page once.

const STATUSES = ['done', 'failed', 'missing'];

function readPoint(raw, number, metricNames) {
  const status = asText(own(raw, 'status'));
  const id = asText(own(raw, 'id'));
  return {
    number,
    id,
    label: asText(own(raw, 'label')) || id,
    status: STATUSES.includes(status) ? status : 'missing',
    error: asText(own(raw, 'error')),
    settings: asObject(own(raw, 'settings')),
    recipe: asText(own(raw, 'recipe')),
    figures: status === 'done' ? figuresOf(raw, metricNames) : new Map(),
  };
}

const settingOf = (point, axis) => asText(own(point.settings, axis));
const valueOf = (point, measure) => point?.figures.get(measure.key)?.value ?? null;

// The values of each axis, in the order of the results, as far as points have them.
function readAxes(raw, points) {
  return asList(own(raw, 'axes')).map((axis) => {
    const name = asText(own(asObject(axis), 'name'));
    const used = new Set(points.map((point) => settingOf(point, name)));
    const listed = asList(own(asObject(axis), 'values')).map(asText);
    const values = [...new Set([...listed, ...used])].filter((value) => used.has(value));
    return { name, values };
  });
}

function readAblation(raw, pointsById) {
  return asList(own(raw, 'ablation')).map((entry) => ({
    label: asText(own(asObject(entry), 'label')),
    point: pointsById.get(asText(own(asObject(entry), 'point'))) ?? null,
  }));
}

function readResults(text) {
  const raw = asObject(JSON.parse(text));
  const metrics = asList(own(raw, 'metrics')).map(asObject);
  const metricNames = metrics.map((metric) => asText(own(metric, 'name')));
  const points = asList(own(raw, 'points')).map((point, i) =>
    readPoint(asObject(point), i, metricNames));
  const pointsById = new Map(points.map((point) => [point.id, point]));
  const measures = [...FIXED_MEASURES, ...metrics.map(measureOfMetric), TIME_MEASURE]
    .filter((measure) => points.some((point) => point.figures.has(measure.key)));
  return {
    title: asText(own(raw, 'title')) || 'Sweep',
    model: asObject(own(raw, 'model')),
    machine: asObject(own(raw, 'machine')),
    axes: readAxes(raw, points),
    measures: measures.map((measure) => ({ ...measure, ...notationOf(measure, points) })),
    points,
    ablation: readAblation(raw, pointsById),
    baseline: pointsById.get(asText(own(raw, 'baseline'))) ?? null,
  };
}
