// Values of the results. They come from outside, so whatever is of another type counts as missing.

const asText = (value) => {
  const isPlain = ['string', 'number', 'boolean'].includes(typeof value);
  return isPlain ? String(value) : '';
};
const asNumber = (value) => (Number.isFinite(value) ? value : null);
const asList = (value) => (Array.isArray(value) ? value : []);
const asObject = (value) =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};

// A key that the object itself has: names like "constructor" are nothing special.
const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);
