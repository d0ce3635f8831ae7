// All points in a table that can be sorted by every column.

const sorting = { column: 0, isAscending: true };
let columns = [];
let rows = [];

// { title, unit, isNumber, isFigure, write(point), key(point) }: write returns the content of a
// cell, key a number or a text to sort by, or null if there is none.
function makeColumns(results) {
  const axes = results.axes.map(({ name, values }) => ({
    title: name,
    isNumber: values.filter(Boolean).every(isNumeric),
    write: (point) => [settingOf(point, name) || DASH],
    key: (point) => sortKey(settingOf(point, name)),
  }));
  const names = axes.length > 0 ? axes : [{
    title: 'Settings', write: (point) => [point.label], key: (point) => point.label,
  }];
  const figures = results.measures.filter((measure) => measure.column).map((measure) => ({
    title: capitalised(measure.label),
    unit: measure.unit,
    isNumber: true,
    isFigure: true,
    write: (point) => figureCell(point.figures.get(measure.key), measure),
    key: (point) => valueOf(point, measure),
  }));
  return [{ title: 'Point', write: pointCell, key: (point) => point.number }, ...names, ...figures];
}

const sortKey = (text) => (text === '' ? null : isNumeric(text) ? Number(text) : text);

// The details that open must not cover the row (scroll-padding in style.css).
function selectRow(point) {
  toggleSelected(point);
  rows.find((entry) => entry.point === point).row.scrollIntoView({ block: 'nearest' });
}

function pointCell(point) {
  const button = make('button', { type: 'button', class: 'link', 'aria-pressed': 'false' },
    shortId(point));
  button.addEventListener('click', (event) => {
    event.stopPropagation();
    selectRow(point);
  });
  const isBaseline = point === state.results.baseline;
  const word = point.status === 'done' ? isBaseline && 'baseline' : point.status;
  return [button, word ? make('span', { class: 'badge' }, word) : null];
}

function figureCell(figure, measure) {
  if (!figure) {
    return [DASH];
  }
  const error = figure.error == null ? '' : writeError(figure, measure);
  return [measure.write(figure.value), make('span', { class: 'error-of' }, error && ` ${error}`)];
}

// A point without figures gives the reason instead, across their columns.
function reasonCell(point, nColumns) {
  const words = { failed: 'failed', missing: 'not run yet' };
  return make('td', { class: 'reason', colspan: Math.max(1, nColumns) },
    point.error || words[point.status]);
}

function makeRow(point) {
  const shown = columns.filter((column) => point.status === 'done' || !column.isFigure);
  const cells = shown.map((column, i) => make(i === 0 ? 'th' : 'td', {
    scope: i === 0 ? 'row' : null, class: column.isNumber ? 'number' : null,
  }, ...column.write(point).filter(Boolean)));
  if (point.status !== 'done') {
    cells.push(reasonCell(point, columns.length - shown.length));
  }
  const row = make('tr', { class: point.status, 'data-id': point.id }, ...cells);
  row.addEventListener('click', () => {
    if (window.getSelection().isCollapsed) {
      selectRow(point);
    }
  });
  return { point, row };
}

function makeHeader(column, i) {
  const dot = column.title.lastIndexOf('.') + 1;
  const button = make('button', { type: 'button' },
    dot > 0 ? make('span', { class: 'stage' }, column.title.slice(0, dot)) : null,
    column.title.slice(dot),
    column.unit ? make('span', { class: 'unit' }, ` ${column.unit}`) : null);
  button.addEventListener('click', () => sortBy(i));
  return make('th', { scope: 'col', class: column.isNumber ? 'number' : null }, button);
}

function compareKeys(a, b) {
  if (typeof a === 'number' && typeof b === 'number') {
    return a - b;
  }
  return String(a).localeCompare(String(b), 'en', { numeric: true });
}

// Points without a value stay at the end in both directions; equal ones keep the sweep's order.
function sortedRows() {
  const { key } = columns[sorting.column];
  const sign = sorting.isAscending ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [x, y] = [key(a.point), key(b.point)];
    if (x === null || y === null) {
      return (x === null) - (y === null) || a.point.number - b.point.number;
    }
    return sign * compareKeys(x, y) || a.point.number - b.point.number;
  });
}

function sortBy(column) {
  sorting.isAscending = sorting.column === column ? !sorting.isAscending : true;
  sorting.column = column;
  showOrder();
}

function showOrder() {
  const direction = sorting.isAscending ? 'ascending' : 'descending';
  [...byId('head').children].forEach((header, i) =>
    header.setAttribute('aria-sort', i === sorting.column ? direction : 'none'));
  byId('rows').replaceChildren(...sortedRows().map(({ row }) => row));
}

function showSelectedRow(changes) {
  if (!('selected' in changes)) {
    return;
  }
  for (const { point, row } of rows) {
    const isChosen = point === state.selected;
    row.classList.toggle('selected', isChosen);
    row.querySelector('button').setAttribute('aria-pressed', isChosen);
  }
}

function setUpTable() {
  columns = makeColumns(state.results);
  rows = state.results.points.map(makeRow);
  byId('head').replaceChildren(...columns.map(makeHeader));
  showOrder();
  onChange(showSelectedRow);
}
