// What a reader of a sweep's page can see and do.
// Usage: node page_test.js CHROMIUM RENDER_REPORT BUILD_FOLDER
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { Pages } = require('./browser.js');
const { bareResults, exampleResults, hostileResults, HOSTILE } = require('./example_results.js');

const CHARTS = ['chart-resident_bytes', 'chart-file_bytes', 'chart-tokens_per_second'];
const ABLATION = ['ablation-quality', 'ablation-size'];

const [chromium, render, build] = process.argv.slice(2);
const results = exampleResults();
const done = results.points.filter((point) => point.status === 'done');
const tests = [];
const test = (name, page, run, options) => tests.push({ name, page, run, options });
const picture = (name) => ({ path: path.join(build, 'pages', `${name}.png`), fullPage: true });

const idsOf = (rows) => rows.evaluateAll((all) => all.map((row) => row.dataset.id));
const rowIds = (page) => idsOf(page.locator('#rows tr'));
const selectedIds = (page) => idsOf(page.locator('#rows tr.selected'));

// The share of a canvas that is painted.
const painted = (page, id) => page.locator(`#${id}`).evaluate((canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, i) => i % 4 === 3 && value > 0).length / (data.length / 4);
});

// What a chart shows: [{ data: [{ x, y, errors, id }] }], the frontier last.
const datasets = (page, id) => page.evaluate((name) =>
  Chart.getChart(name).data.datasets.map(({ data }) =>
    data.map(({ x, y, errors, point }) => ({ x, y, errors, id: point?.id }))), id);

// Where in the window a point is drawn.
const placeOf = (page, chart, id) => page.evaluate(([name, wanted]) => {
  const drawn = Chart.getChart(name);
  drawn.canvas.scrollIntoView({ block: 'center' });
  const { left, top } = drawn.canvas.getBoundingClientRect();
  for (const [i, { data }] of drawn.data.datasets.entries()) {
    const at = data.findIndex(({ point }) => point?.id === wanted);
    if (at !== -1) {
      const { x, y } = drawn.getDatasetMeta(i).data[at];
      return { x: left + x, y: top + y };
    }
  }
  return null;
}, [chart, id]);

const sortButton = (page, title) => page.locator('#head button', { hasText: title });

test('charts are drawn and the table has every point', 'example', async (page) => {
  for (const id of [...CHARTS, ...ABLATION]) {
    const share = await painted(page, id);
    assert.ok(share > 0.01, `${id}: ${share} of the canvas is painted`);
  }
  assert.deepEqual(await rowIds(page), results.points.map((point) => point.id));
  assert.equal(await page.title(), results.title);
  const text = await page.locator('body').innerText();
  for (const wanted of [results.model.description, results.machine.cpu,
    '17 done, 2 failed, 1 missing', results.points[12].error, 'not run yet', 'n = 1,000']) {
    assert.ok(text.includes(wanted), `the page does not say "${wanted}"`);
  }
  const licence = await page.locator('footer pre').textContent();
  assert.match(licence, /Chart\.js Contributors[^]*Permission is hereby granted/);
});

test('charts show every point that is done, with its error, and the frontier', 'example',
  async (page) => {
    const costs = [
      ['resident_bytes', 1e6, 1], ['file_bytes', 1e6, 1], ['tokens_per_second', 1, -1],
    ];
    for (const [key, unit, sign] of costs) {
      const shown = await datasets(page, `chart-${key}`);
      const frontier = shown.pop().map(({ x }) => x);
      const byId = new Map(shown.flat().map((datum) => [datum.id, datum]));
      assert.equal(byId.size, done.length);
      for (const point of done) {
        const { value, standard_error: error } = point.metrics.bits_per_byte;
        const datum = byId.get(point.id);
        assert.ok(Math.abs(datum.x - point[key] / unit) < 1e-9 && datum.y === value);
        assert.ok(Math.abs(datum.errors.y[1] - value - error) < 1e-12);
      }
      const beats = (a, b) => sign * a[key] < sign * b[key] &&
        a.metrics.bits_per_byte.value < b.metrics.bits_per_byte.value;
      const expected = done.filter((b) => !done.some((a) => beats(a, b)))
        .map((point) => point[key] / unit).sort((a, b) => a - b);
      assert.deepEqual(frontier, expected);
    }
  });

test('error bars lie within their charts, on both kinds of scales', 'example', async (page) => {
  const isWhole = () => page.evaluate((ids) => ids.every((id) => {
    const { data, scales } = Chart.getChart(id);
    return data.datasets.flatMap((set) => set.data).every(({ errors }) =>
      Object.entries(errors ?? {}).every(([axis, ends]) => (ends ?? []).every((end) =>
        (end >= scales[axis].min || (scales[axis].type === 'logarithmic' && end <= 0)) &&
        end <= scales[axis].max)));
  }), [...CHARTS, ...ABLATION]);
  for (const label of ['Bits per byte', 'Cloze accuracy', 'KL from the reference']) {
    await page.locator('#quality').selectOption({ label });
    assert.ok(await isWhole(), `${label}: an error bar is cut`);
    await page.locator('#logarithmic').check();
    assert.ok(await isWhole(), `${label}, logarithmic: an error bar is cut`);
    await page.locator('#logarithmic').uncheck();
  }
});

test('points have names where there is room, the frontier first', 'example', async (page) => {
  const namesOf = (chart) => page.evaluate((id) => {
    const { names, chartArea: area } = Chart.getChart(id);
    return { area: { left: area.left, right: area.right, top: area.top, bottom: area.bottom },
      names: names.map(({ point, text, box }) => ({ id: point.id, text, box })) };
  }, chart);
  for (const chart of CHARTS) {
    const { names, area } = await namesOf(chart);
    assert.ok(names.length >= 5, `${chart}: ${names.length} names`);
    for (const [i, { box, text, id }] of names.entries()) {
      const label = results.points.find((point) => point.id === id).label
        .replaceAll(/\w+\.(?=\w+=)/g, '');
      assert.ok(label === text || label.startsWith(text.slice(0, -1)), text);
      assert.ok(box.left >= area.left && box.right <= area.right && box.top >= area.top &&
        box.bottom <= area.bottom, `${text} leaves the chart`);
      for (const { box: other } of names.slice(i + 1)) {
        assert.ok(box.right <= other.left || other.right <= box.left || box.bottom <= other.top ||
          other.bottom <= box.top, `${text} lies on another name`);
      }
    }
  }
  // The selected point comes before all others.
  await page.locator('#rows button').nth(4).click();
  for (const chart of CHARTS) {
    assert.equal((await namesOf(chart)).names[0].id, results.points[4].id);
  }
});

test('every column sorts in both directions, points without a value last', 'example',
  async (page) => {
    const metric = (name) => (point) => point.metrics?.[name].value;
    const columns = [
      ['Resident memory', (point) => point.resident_bytes],
      ['Speed', (point) => point.tokens_per_second],
      ['Bits per byte', metric('bits_per_byte')],
      ['Cloze accuracy', metric('cloze_accuracy')],
      ['factor', ({ settings }) => settings['low_rank.factor'] && +settings['low_rank.factor']],
      ['codec', (point) => point.settings['quantize.codec']],
    ];
    for (const [title, key] of columns) {
      for (const [direction, sign] of [['ascending', 1], ['descending', -1]]) {
        await sortButton(page, title).click();
        const header = page.locator('#head th', { hasText: title });
        assert.equal(await header.getAttribute('aria-sort'), direction);
        assert.equal(await page.locator('#head [aria-sort=none]').count(),
          await page.locator('#head th').count() - 1);
        const order = (a, b) => (key(a) === undefined) - (key(b) === undefined) ||
          sign * ((key(a) > key(b)) - (key(a) < key(b)));
        const expected = [...results.points].sort(order).map((point) => point.id);
        assert.deepEqual(await rowIds(page), expected, `${title} ${direction}`);
      }
    }
    await sortButton(page, 'File size').focus();
    await page.keyboard.press('Enter');
    await page.keyboard.press('Space');
    const smallest = done.reduce((a, b) => (a.file_bytes < b.file_bytes ? a : b));
    assert.equal((await rowIds(page))[done.length - 1], smallest.id);
  });

test('the theme follows the system until it is chosen', 'example', async (page) => {
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  const grid = () =>
    page.evaluate(() => Chart.getChart('chart-file_bytes').options.scales.x.grid.color);
  const lightGrid = await grid();
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.locator('html[data-theme=dark]').waitFor();
  const dark = await background();
  assert.notEqual(dark, light);
  assert.notEqual(await grid(), lightGrid);
  await page.locator('#theme').click();
  assert.equal(await background(), light);
  assert.equal(await grid(), lightGrid);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.locator('#theme').click();
  assert.equal(await background(), dark);
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.equal(await page.locator('#theme').innerText(), 'Light theme');
});

test('a row shows its recipe, which can be copied', 'example', async (page) => {
  assert.ok(await page.locator('#details').isHidden());
  for (const i of [3, 12, 16]) {
    const point = results.points[i];
    await page.locator('#rows button').nth(i).focus();
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('#recipe').innerText(), point.recipe);
    assert.deepEqual(await selectedIds(page), [point.id]);
    const text = await page.locator('#details').innerText();
    assert.ok(text.includes(point.error || (i === 16 ? 'has not been run' : '15.15')), text);
  }
  await page.locator('#copy').click();
  await page.locator('#copy', { hasText: 'Copied' }).waitFor();
  await page.keyboard.press('Escape');
  assert.ok(await page.locator('#details').isHidden());
  assert.deepEqual(await selectedIds(page), []);
});

test('the pointer over a point shows its figures, a click its row', 'example', async (page) => {
  const point = results.points[10];
  for (const chart of CHARTS) {
    const place = await placeOf(page, chart, point.id);
    await page.mouse.move(place.x, place.y);
    const tooltip = page.locator('#tooltip');
    await tooltip.waitFor();
    const text = await tooltip.innerText();
    for (const wanted of ['Point 10', 'low_rank.factor', '18.29', '1.2490', '0.0043', 'tokens/s']) {
      assert.ok(text.includes(wanted), `${chart}: the tooltip lacks ${wanted}: ${text}`);
    }
    const box = await tooltip.boundingBox();
    assert.ok(box.x >= 0 && box.y >= 0 && box.x + box.width <= 1400 && box.y + box.height <= 900);
    await page.mouse.move(5, 5);
    await tooltip.waitFor({ state: 'hidden' });
  }
  const place = await placeOf(page, CHARTS[0], point.id);
  await page.mouse.click(place.x, place.y);
  await page.locator('#details').waitFor();
  assert.deepEqual(await selectedIds(page), [point.id]);
  assert.equal(await page.locator('#recipe').innerText(), point.recipe);
});

test('quality, colour and legend change the charts', 'example', async (page) => {
  const total = (sets) => sets.slice(0, -1).flat().length;
  await page.locator('#quality').selectOption({ label: 'Cloze accuracy' });
  assert.equal(await page.locator('#direction').innerText(), 'higher is better');
  const [first] = (await datasets(page, CHARTS[0])).flat()
    .filter(({ id }) => id === results.points[0].id);
  assert.ok(Math.abs(first.y - 100 * results.points[0].metrics.cloze_accuracy.value) < 1e-9);
  const bars = (await datasets(page, 'ablation-quality'))[0].map(({ x }) => x);
  const lost = 100 * (results.points[0].metrics.cloze_accuracy.value -
    results.points[10].metrics.cloze_accuracy.value);
  assert.ok(bars[0] === 0 && Math.abs(bars[1] - lost) < 1e-9, `${bars}, expected ${lost}`);
  await page.locator('#colour').selectOption('quantize.codec');
  const f16 = done.filter((point) => point.settings['quantize.codec'] === 'f16').length;
  assert.deepEqual((await datasets(page, CHARTS[2])).slice(0, -1).map((set) => set.length),
    [f16, done.length - f16]);
  await page.locator('#legend button', { hasText: 'f16' }).click();
  assert.equal(total(await datasets(page, CHARTS[2])), done.length - f16);
  await page.locator('#colour').selectOption('');
  assert.equal(total(await datasets(page, CHARTS[2])), done.length);
  await page.locator('#quality').selectOption({ label: 'KL from the reference' });
  await page.locator('#logarithmic').check();
  const zero = done.filter((point) => point.metrics.kl.value === 0).length;
  assert.ok(zero > 0);
  assert.equal(total(await datasets(page, CHARTS[2])), done.length - zero);
  const leftOut = await page.locator('#left-out').innerText();
  assert.ok(leftOut.startsWith(`${zero} points are left out`), leftOut);
  assert.equal(await page.evaluate((id) => Chart.getChart(id).scales.y.type, CHARTS[1]),
    'logarithmic');
});

test('what is beaten in memory, speed and quality can be left out', 'example', async (page) => {
  const keys = [
    (point) => -point.resident_bytes,
    (point) => point.tokens_per_second,
    (point) => -point.metrics.bits_per_byte.value,
  ];
  const beats = (a, b) => keys.every((key) => key(a) >= key(b)) &&
    keys.some((key) => key(a) > key(b));
  const expected = done.filter((b) => !done.some((a) => beats(a, b))).map((point) => point.id);
  assert.ok(expected.length > 1 && expected.length < done.length);
  const label = page.locator('label', { hasText: 'none beats in memory, speed and quality' });
  await label.click();
  for (const chart of CHARTS) {
    const shown = (await datasets(page, chart)).slice(0, -1).flat().map(({ id }) => id);
    assert.deepEqual(shown.sort(), [...expected].sort());
  }
  await label.click();
  const all = (await datasets(page, CHARTS[0])).slice(0, -1).flat();
  assert.equal(all.length, done.length);
});

test('nothing is wider than a phone, or behind the details', 'example', async (page) => {
  const widest = () => page.evaluate(() => document.scrollingElement.scrollWidth);
  assert.equal(await widest(), 390);
  await page.locator('#rows button').nth(3).click();
  assert.equal(await widest(), 390);
  const row = await page.locator('#rows tr.selected').boundingBox();
  const details = await page.locator('#details').boundingBox();
  assert.ok(row.y >= 0 && row.y + row.height <= details.y, `${row.y} is behind ${details.y}`);
  assert.ok(await page.locator('#copy').isVisible());
}, { viewport: { width: 390, height: 844 }, hasTouch: true });

test('text of the results stays text', 'hostile', async (page) => {
  await page.locator('#rows button').nth(12).click();
  assert.equal(await page.locator('#recipe').textContent(), HOSTILE);
  assert.equal(await page.locator('#title').textContent(), HOSTILE);
  assert.ok((await page.title()).startsWith('</script><script>'));
  const place = await placeOf(page, CHARTS[1], results.points[10].id + HOSTILE);
  await page.mouse.move(place.x, place.y);
  assert.ok((await page.locator('#tooltip').innerText()).includes('<b class="hostile">'));
  assert.equal(await page.locator('.hostile, img, iframe').count(), 0);
  assert.equal(await page.locator('script').count(), 3);
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal(await page.locator('#rows tr').count(), results.points.length);
  await sortButton(page, 'Resident memory').click();
  assert.equal((await rowIds(page)).at(-1).slice(0, 4), '0016');
});

test('results with nothing in them make a page', 'bare', async (page) => {
  assert.equal(await page.locator('#rows tr').count(), 0);
  assert.ok((await page.locator('#facts').innerText()).includes('0 points'));
  assert.ok(await page.locator('#tradeoffs').isHidden());
  assert.ok(await page.locator('#ablation').isHidden());
});

// For a person to look at.
test('screenshot, light', 'example', (page) => page.screenshot(picture('light')));
test('screenshot, dark', 'example', async (page) => {
  await page.locator('#rows button').nth(3).click();
  await page.screenshot(picture('dark'));
}, { colorScheme: 'dark' });
test('screenshot, phone', 'example', (page) => page.screenshot(picture('phone')),
  { viewport: { width: 390, height: 844 } });

async function main() {
  const pages = new Pages(chromium, render, build);
  const made = {
    example: pages.make('example', results),
    hostile: pages.make('hostile', hostileResults()),
    bare: pages.make('bare', bareResults()),
  };
  let nFailed = 0;
  await pages.start();
  try {
    for (const { name, page, run, options } of tests) {
      try {
        await pages.visit(made[page], run, options);
        console.log(`passed: ${name}`);
      } catch (error) {
        nFailed += 1;
        console.log(`FAILED: ${name}\n${error.message}`);
      }
    }
  } finally {
    await pages.stop();
  }
  console.log(`${tests.length} tests, ${nFailed} failed; pages and screenshots in ${pages.folder}`);
  process.exitCode = nFailed > 0 ? 1 : 0;
}

main();
