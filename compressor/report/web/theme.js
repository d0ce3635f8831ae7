// Light and dark: the preference of the system, until the reader chooses.

const preferred = window.matchMedia('(prefers-color-scheme: dark)');
let chosenTheme = null;

const currentTheme = () => chosenTheme ?? (preferred.matches ? 'dark' : 'light');

function applyTheme() {
  const theme = currentTheme();
  const other = theme === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  byId('theme').textContent = `${capitalised(other)} theme`;
  change({ theme });
}

function setUpTheme() {
  byId('theme').addEventListener('click', () => {
    chosenTheme = currentTheme() === 'dark' ? 'light' : 'dark';
    applyTheme();
  });
  preferred.addEventListener('change', applyTheme);
  applyTheme();
}

// A colour of style.css, for drawing on a canvas.
const themeColour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
