// The selected point: all its figures and its recipe, at the foot of the window.

function figureTable(point) {
  const { baseline, measures } = state.results;
  const compares = baseline !== null && baseline !== point;
  const head = ['', 'measured', ...(compares ? ['vs baseline'] : [])];
  const lines = measures.filter((measure) => point.figures.has(measure.key)).map((measure) => {
    const reference = valueOf(baseline, measure);
    const against = compares && reference !== null && measure.kind !== 'seconds'
      ? writeAgainst(valueOf(point, measure), reference, measure) : '';
    return make('tr', {}, make('th', { scope: 'row' }, capitalised(measure.label)),
      make('td', { class: 'number' }, writeFigure(point.figures.get(measure.key), measure)),
      compares ? make('td', { class: 'number against' }, against) : null);
  });
  return make('table', { class: 'figures' },
    make('thead', {}, make('tr', {}, ...head.map((text) => make('th', { class: 'number' }, text)))),
    make('tbody', {}, ...lines));
}

function reasonText(point) {
  const words = point.status === 'failed' ? 'This point failed' : 'This point has not been run';
  return make('p', { class: 'reason' }, words + (point.error ? `: ${point.error}` : '.'));
}

// If the page may not write to the clipboard, it selects the text for the reader to copy.
async function copyRecipe() {
  const button = byId('copy');
  try {
    await navigator.clipboard.writeText(byId('recipe').textContent);
    button.textContent = 'Copied';
  } catch {
    window.getSelection().selectAllChildren(byId('recipe'));
    button.textContent = 'Selected: press Ctrl+C';
  }
}

function showDetails(changes) {
  if (!('selected' in changes)) {
    return;
  }
  const point = state.selected;
  byId('details').hidden = point === null;
  document.documentElement.classList.toggle('has-details', point !== null);
  if (point === null) {
    return;
  }
  byId('details-title').textContent = nameOf(point);
  byId('details-label').textContent = point.label;
  byId('details-figures').replaceChildren(
    point.status === 'done' ? figureTable(point) : reasonText(point));
  byId('recipe').textContent = point.recipe || '(the results have no recipe of this point)';
  byId('copy').hidden = point.recipe === '';
  byId('copy').textContent = 'Copy';
}

function setUpDetails() {
  byId('copy').addEventListener('click', copyRecipe);
  byId('close').addEventListener('click', () => change({ selected: null }));
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && state.selected !== null) {
      change({ selected: null });
    }
  });
  onChange(showDetails);
}
