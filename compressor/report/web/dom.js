// Elements. Text of the results enters the page here and only as text, never as HTML.

const byId = (id) => document.getElementById(id);

// make('td', { class: 'number', 'aria-hidden': 'true' }, 'text', otherElement, ...)
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== ''));
  return element;
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(({ value, label }) => make('option', { value }, label)));
  select.value = chosen;
}

// One line of a list of terms.
const term = (name, ...values) => [make('dt', {}, name), make('dd', {}, ...values)];
