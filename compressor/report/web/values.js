// Values of the results. They come from outside: a value of an unexpected type counts as missing.

const asText = (value) => {
  const isPlain = ['string', 'number', 'boolean'].includes(typeof value);
  return isPlain ? String(value) : '';
};
const asNumber = (value) => (Number.isFinite(value) ? value : null);
const asList = (value) => (Array.isArray(value) ? value : []);
const asObject = (value) =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};

// Only keys of the object itself: names like "constructor" are not special.
const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);
