// Assembles the page: the parts above the charts and below the table, then all others.

function countText(points) {
  const count = (status) => points.filter((point) => point.status === status).length;
  const parts = STATUSES.filter((status) => count(status) > 0)
    .map((status) => `${count(status)} ${status}`);
  const n = points.length;
  return `${n} ${n === 1 ? 'point' : 'points'}${n > 0 ? ': ' : ''}${parts.join(', ')}`;
}

function modelText(model) {
  const bytes = asNumber(own(model, 'fp16_bytes'));
  const size = bytes === null ? '' : `${writeNumber(bytes / 1e6, bytes < 1e8 ? 1 : 0)} MB in fp16`;
  return [asText(own(model, 'name')), size].filter(Boolean).join(', ');
}

function machineText(machine) {
  const threads = asNumber(own(machine, 'threads'));
  const kernels = asText(own(machine, 'kernels'));
  return [
    asText(own(machine, 'cpu')),
    threads === null ? '' : `${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    kernels && `kernels ${kernels}`,
  ].filter(Boolean).join(', ');
}

function showHeader({ title, model, machine, points }) {
  document.title = title;
  byId('title').textContent = title;
  byId('description').textContent = asText(own(model, 'description'));
  const facts = [
    ['Model', modelText(model)], ['Machine', machineText(machine)], ['Sweep', countText(points)],
  ];
  byId('facts').replaceChildren(
    ...facts.filter(([, text]) => text !== '')
      .map(([name, text]) => make('div', {}, ...term(name, text))));
}

// "n = 64", or the range where points differ.
function sampleText(measure, points) {
  const ns = points.map((point) => point.figures.get(measure.key)?.n).filter((n) => n != null);
  if (ns.length === 0) {
    return '';
  }
  const [least, most] = [Math.min(...ns), Math.max(...ns)].map((n) => writeNumber(n, 0));
  return `, n = ${least === most ? least : least + DASH + most}`;
}

// Static words stand in page.html; the measures of these results follow them.
function showMethod({ measures, points }) {
  byId('method').append(...measures.filter((measure) => measure.quality).flatMap((measure) =>
    term(capitalised(measure.label), directionOf(measure) + sampleText(measure, points))));
}

function start() {
  const results = readResults(byId('results').textContent);
  const quality = results.measures.find((measure) => measure.quality) ?? null;
  change({ results, quality, colour: colourAxes(results)[0]?.name ?? '' });
  showHeader(results);
  showMethod(results);
  chartDefaults();
  byId('tradeoffs').hidden = quality === null;
  setUpTheme();
  if (quality !== null) {
    setUpControls();
    setUpParetoCharts();
  }
  setUpAblation();
  setUpTable();
  setUpDetails();
  change({});
}

start();
