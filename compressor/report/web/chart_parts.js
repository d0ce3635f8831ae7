// Shared by the charts: colours of the theme, axes, and the parts that the library does not draw.

function chartDefaults() {
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 12;
  Chart.defaults.plugins.legend.display = false;
}

function axisOptions(title, more = {}) {
  return {
    title: { display: title !== '', text: title, color: themeColour('text') },
    grid: { color: themeColour('grid'), tickColor: 'transparent' },
    border: { color: themeColour('line') },
    ...more,
    ticks: { color: themeColour('muted'), ...more.ticks },
  };
}

function drawLine(ctx, from, to) {
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}

// Runs `draw` within the area of the plot.
function insideArea(chart, draw) {
  const { ctx, chartArea: area } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(area.left, area.top, area.width, area.height);
  ctx.clip();
  draw(ctx, area);
  ctx.restore();
}

// Error bars of data that carry { low, high } per direction: errors: { x, y }.
const errorBars = {
  id: 'errorBars',
  beforeDatasetsDraw(chart) {
    insideArea(chart, (ctx) => {
      ctx.lineWidth = 1.25;
      for (const meta of chart.getSortedVisibleDatasetMetas()) {
        const dataset = chart.data.datasets[meta.index];
        meta.data.forEach((element, i) => {
          ctx.strokeStyle = dataset.errorColour ?? dataset.borderColor;
          drawErrors(ctx, chart.scales, element, asObject(dataset.data[i]?.errors));
        });
      }
    });
  },
};

function drawErrors(ctx, scales, element, errors) {
  const cap = 3;
  if (errors.x) {
    const [low, high] = errors.x.map((value) => scales.x.getPixelForValue(value));
    drawLine(ctx, [low, element.y], [high, element.y]);
    drawLine(ctx, [low, element.y - cap], [low, element.y + cap]);
    drawLine(ctx, [high, element.y - cap], [high, element.y + cap]);
  }
  if (errors.y) {
    const isLogarithmic = scales.y.type === 'logarithmic';
    const [low, high] = errors.y.map((value) =>
      (value > 0 || !isLogarithmic ? scales.y.getPixelForValue(value) : scales.y.bottom + 2 * cap));
    drawLine(ctx, [element.x, low], [element.x, high]);
    drawLine(ctx, [element.x - cap, low], [element.x + cap, low]);
    drawLine(ctx, [element.x - cap, high], [element.x + cap, high]);
  }
}

// Limits of a scale that shows the error bars of `data` whole; `axis` is 'x' or 'y'. Nothing lies
// below a logarithmic scale's 0: an end there is drawn down to the axis.
function errorLimits(data, axis, isLogarithmic = false) {
  const ends = data.flatMap((datum) => asObject(datum.errors)[axis] ?? [])
    .filter((end) => Number.isFinite(end) && (end > 0 || !isLogarithmic));
  return ends.length === 0 ? {}
    : { suggestedMin: Math.min(...ends), suggestedMax: Math.max(...ends) };
}

// The ends of a figure's error bar, if it is longer than zero.
function errorOf(figure, measure) {
  return figure.low !== null && figure.high !== null && figure.high > figure.low
    ? [figure.low / measure.scale, figure.high / measure.scale] : null;
}

// A dotted horizontal line with a label: options.plugins.referenceLine = { value, text, align }.
const referenceLine = {
  id: 'referenceLine',
  beforeDatasetsDraw(chart, _, options) {
    if (typeof options.value !== 'number') {
      return;
    }
    insideArea(chart, (ctx, area) => {
      const y = Math.round(chart.scales.y.getPixelForValue(options.value)) + 0.5;
      ctx.strokeStyle = themeColour('muted');
      ctx.setLineDash([2, 3]);
      drawLine(ctx, [area.left, y], [area.right, y]);
      ctx.font = `11px ${Chart.defaults.font.family}`;
      ctx.fillStyle = themeColour('muted');
      ctx.textAlign = options.align;
      const x = options.align === 'left' ? area.left + 4 : area.right - 4;
      const isAtTop = y - area.top < 18;
      ctx.fillText(options.text, x, isAtTop ? y + 12 : y - 4);
    });
  },
};
