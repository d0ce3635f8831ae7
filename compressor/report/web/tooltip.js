// The tooltip of all charts: an element of the page, so that it can hold every figure of a point.

function tooltipContent(point) {
  const settings = state.results.axes.filter(({ name }) => settingOf(point, name) !== '');
  const figures = state.results.measures.filter((measure) => point.figures.has(measure.key));
  return [
    make('p', { class: 'name' }, settings.length > 0 ? nameOf(point) : point.label),
    make('dl', {},
      ...settings.flatMap(({ name }) => term(name, settingOf(point, name)))),
    make('dl', {}, ...figures.flatMap((measure) =>
      term(measure.label, writeFigure(point.figures.get(measure.key), measure)))),
    make('p', { class: 'hint' }, 'Click for the recipe'),
  ];
}

// Ids are a number and a hash; the number is enough for a reader.
const shortId = (point) => {
  const number = /^(\d+)-/.exec(point.id);
  return number ? String(Number(number[1])) : point.id;
};
const nameOf = (point) => `Point ${shortId(point)}`;

// Next to the point, and always inside the window.
function placeTooltip(element, left, top) {
  const margin = 8;
  const gap = 14;
  const { width, height } = element.getBoundingClientRect();
  const fitsRight = left + gap + width + margin <= document.documentElement.clientWidth;
  const x = fitsRight ? left + gap : Math.max(margin, left - gap - width);
  const lowest = document.documentElement.clientHeight - height - margin;
  element.style.left = `${x}px`;
  element.style.top = `${Math.max(margin, Math.min(top - height / 2, lowest))}px`;
}

// Called by the charting library with the points under the pointer.
function showTooltip({ chart, tooltip }) {
  const element = byId('tooltip');
  const point = tooltip.dataPoints?.[0]?.raw?.point;
  element.hidden = tooltip.opacity === 0 || !point;
  if (element.hidden) {
    return;
  }
  element.replaceChildren(...tooltipContent(point));
  const canvas = chart.canvas.getBoundingClientRect();
  placeTooltip(element, canvas.left + tooltip.caretX, canvas.top + tooltip.caretY);
}

const tooltipOptions = { enabled: false, external: showTooltip };
