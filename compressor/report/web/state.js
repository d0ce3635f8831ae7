// The choices of the reader. Every part of the page that shows them listens.

const state = {
  results: null,
  quality: null, // the measure that the charts show
  colour: '', // the axis that colours points; '' for none
  logarithmic: false,
  unbeatenOnly: false, // leave out what another point beats in memory, speed and quality
  hidden: new Set(), // values of that axis that the charts leave out
  selected: null, // a point
};

const listeners = [];
const onChange = (listener) => listeners.push(listener);

function change(changes) {
  Object.assign(state, changes);
  for (const listener of listeners) {
    listener(changes);
  }
}

// A second click on the selected point clears the selection.
const toggleSelected = (point) => change({ selected: state.selected === point ? null : point });
