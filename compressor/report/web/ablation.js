// Each technique alone and all together: its cost in quality and its saving in bytes.

// Values at the ends of bars: options.plugins.barValues.texts, one per bar.
const barValues = {
  id: 'barValues',
  afterDatasetsDraw(chart, _, options) {
    if (!options.texts) {
      return; // not filled yet
    }
    const { ctx } = chart;
    ctx.save();
    ctx.font = `12px ${Chart.defaults.font.family}`;
    ctx.fillStyle = themeColour('text');
    ctx.textBaseline = 'middle';
    const zero = chart.scales.x.getPixelForValue(0);
    chart.getDatasetMeta(0).data.forEach((bar, i) => {
      const errors = chart.data.datasets[0].data[i].errors?.x ?? [];
      const ends = errors.map((value) => chart.scales.x.getPixelForValue(value));
      const end = Math.max(zero, Number.isFinite(bar.x) ? bar.x : zero, ...ends);
      ctx.fillText(options.texts[i] ?? '', end + 6, bar.y);
    });
    ctx.restore();
  },
};

// The baseline first, to compare with.
function ablationRows(results) {
  const baseline = results.baseline ? [{ label: 'baseline', point: results.baseline }] : [];
  const others = results.ablation.filter(({ point }) => !point || point !== results.baseline);
  return [...baseline, ...others];
}

function ablationBar(label, value, measure, errors, point) {
  return { y: label, x: value === null ? 0 : value / measure.scale, errors: { x: errors }, point };
}

function missingText(point) {
  const status = point?.status ?? 'missing';
  return status === 'done' ? 'not measured' : status;
}

// A loss of quality is positive for both directions; without a baseline the bar shows the figure.
function qualityBars(rows, measure) {
  const reference = valueOf(state.results.baseline, measure);
  const sign = reference !== null && measure.better === 'higher' ? -1 : 1;
  return rows.map(({ label, point }) => {
    const figure = point?.figures.get(measure.key);
    if (!figure) {
      return { datum: ablationBar(label, null, measure, null, point), text: missingText(point) };
    }
    const value = sign * (figure.value - (reference ?? 0));
    const half = (figure.high ?? figure.value) - figure.value;
    const isBaseline = point === state.results.baseline;
    const errors = half > 0 && !isBaseline
      ? [(value - half) / measure.scale, (value + half) / measure.scale] : null;
    const plus = reference !== null && value > 0 ? '+' : '';
    return {
      datum: ablationBar(label, value, measure, errors, point),
      text: isBaseline ? '' : plus + measure.write(value),
    };
  });
}

function sizeBars(rows, measure) {
  const reference = valueOf(state.results.baseline, measure);
  return rows.map(({ label, point }) => {
    const value = valueOf(point, measure);
    if (value === null) {
      return { datum: ablationBar(label, null, measure, null, point), text: missingText(point) };
    }
    const isCompared = reference > 0 && value > 0 && point !== state.results.baseline;
    const ratio = isCompared ? ` (${(reference / value).toFixed(2)}${TIMES})` : '';
    return {
      datum: ablationBar(label, value, measure, null, point),
      text: measure.write(value) + ratio,
    };
  });
}

function ablationOptions(title, bars) {
  return {
    indexAxis: 'y',
    layout: { padding: { right: 84 } }, // for the values after the bars
    onClick: (event, elements) => elements[0] && selectBar(bars[elements[0].index].datum.point),
    onHover: (event, elements) => {
      event.native.target.style.cursor = elements.length > 0 ? 'pointer' : 'default';
    },
    interaction: { mode: 'nearest', axis: 'y', intersect: false },
    scales: {
      x: axisOptions(title, {
        ticks: { maxTicksLimit: 6, maxRotation: 0 },
        ...errorLimits(bars.map(({ datum }) => datum), 'x'),
      }),
      y: axisOptions('', { type: 'category', labels: bars.map(({ datum }) => datum.y),
        grid: { display: false }, ticks: { color: themeColour('text'), autoSkip: false } }),
    },
    plugins: { tooltip: tooltipOptions, barValues: { texts: bars.map(({ text }) => text) } },
  };
}

const selectBar = (point) => point && change({ selected: point });

function ablationDataset(bars, colour) {
  return {
    data: bars.map(({ datum }) => datum),
    backgroundColor: bars.map(({ datum }) =>
      datum.point && datum.point === state.selected ? themeColour('accent') : themeColour(colour)),
    errorColour: themeColour('text'),
    maxBarThickness: 22,
  };
}

function makeAblationCard(id, nBars) {
  const caption = make('figcaption', {});
  const canvas = make('canvas', { role: 'img', id });
  const plot = make('div', { class: 'plot' }, canvas);
  plot.style.height = `${70 + 34 * nBars}px`;
  byId('ablation-charts').append(make('figure', { class: 'card' }, caption, plot));
  const chart = new Chart(canvas, {
    type: 'bar', data: { datasets: [] }, plugins: [barValues, errorBars],
  });
  return { chart, caption };
}

function updateBars({ chart, caption }, title, hint, axisTitle, bars, colour) {
  caption.replaceChildren(title, ' ', make('span', { class: 'hint' }, hint));
  chart.data.labels = bars.map(({ datum }) => datum.y);
  chart.data.datasets = [ablationDataset(bars, colour)];
  chart.options = ablationOptions(axisTitle, bars);
  chart.update();
  chart.canvas.setAttribute('aria-label', `${title} ${hint}: ` +
    bars.map(({ datum, text }) => `${datum.y} ${text}`).join('; '));
}

function setUpAblation() {
  const { measures, ablation, baseline } = state.results;
  byId('ablation').hidden = ablation.length === 0;
  if (ablation.length === 0) {
    return;
  }
  const rows = ablationRows(state.results);
  const size = measures.find((measure) => measure.kind === 'bytes');
  const qualityCard = state.quality ? makeAblationCard('ablation-quality', rows.length) : null;
  const sizeCard = size ? makeAblationCard('ablation-size', rows.length) : null;
  onChange(() => {
    if (qualityCard) {
      updateBars(qualityCard, capitalised(state.quality.label),
        baseline ? 'lost relative to the baseline' : directionOf(state.quality),
        titleOf(state.quality), qualityBars(rows, state.quality), 'loss');
    }
    if (sizeCard) {
      updateBars(sizeCard, capitalised(size.label), baseline ? 'and how many times smaller' : '',
        titleOf(size), sizeBars(rows, size), 'size');
    }
  });
}
