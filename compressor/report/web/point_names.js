// Names next to the points of a chart, as many as have room: chart.namedFirst lists the points
// that come first. The others are named by the pointer and in the table.

const NAME_FONT = 11;
const NAME_LENGTH = 28;

// "low_rank.factor=8 quantize.codec=i8_row" is "factor=8 codec=i8_row".
function shortName({ label }) {
  const name = label.replace(/\w+\.(?=\w+=)/g, '');
  return name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}\u2026` : name;
}

const overlaps = (a, b) =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

// The places of a name of `width` next to a point, the best first.
function placesAt({ x, y }, width) {
  const gap = 9;
  const half = NAME_FONT / 2 + 1;
  const box = (left, middle) =>
    ({ left, right: left + width, top: middle - half, bottom: middle + half });
  return [box(x + gap, y), box(x - gap - width, y),
    box(x - width / 2, y - gap - half), box(x - width / 2, y + gap + half)];
}

// [{ point, text, box }] for the points that get a name.
function chooseNames(elements, first, area, widthOf) {
  const size = 7;
  const taken = elements.map(({ x, y }) =>
    ({ left: x - size, right: x + size, top: y - size, bottom: y + size }));
  const isInside = (box) => box.left >= area.left && box.right <= area.right &&
    box.top >= area.top && box.bottom <= area.bottom;
  const isFree = (box) => isInside(box) && !taken.some((other) => overlaps(box, other));
  const rank = ({ point }) => (first.includes(point) ? first.indexOf(point) : first.length);
  const names = [];
  for (const element of [...elements].sort((a, b) => rank(a) - rank(b))) {
    const text = shortName(element.point);
    const places = text ? placesAt(element, widthOf(text)) : [];
    // The selected point has a name even if it hides another point.
    const box = places.find(isFree) ??
      (element.point === state.selected ? places.find(isInside) : undefined);
    if (box) {
      taken.push(box);
      names.push({ point: element.point, text, box });
    }
  }
  return names;
}

const pointNames = {
  id: 'pointNames',
  afterDatasetsDraw(chart) {
    const { ctx, chartArea } = chart;
    ctx.save();
    ctx.font = `${NAME_FONT}px ${Chart.defaults.font.family}`;
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    const elements = chart.getSortedVisibleDatasetMetas().flatMap((meta) => {
      const { data } = chart.data.datasets[meta.index];
      return meta.data.map(({ x, y }, i) => ({ x, y, point: data[i]?.point }));
    }).filter(({ point }) => point);
    chart.names = chooseNames(elements, chart.namedFirst ?? [], chartArea,
      (text) => ctx.measureText(text).width);
    for (const { point, text, box } of chart.names) {
      ctx.fillStyle = themeColour(point === state.selected ? 'text' : 'muted');
      ctx.fillText(text, box.left, (box.top + box.bottom) / 2);
    }
    ctx.restore();
  },
};
