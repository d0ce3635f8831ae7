// Results as a sweep writes them, for the page to show: made up, but with the sizes, errors and
// gaps of real ones. The same numbers every time.
'use strict';

const FP16_BYTES = 29_400_000;

// A small generator of numbers in [0, 1), so that points do not lie on smooth curves.
function makeRandom(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 4294967296;
    return state / 4294967296;
  };
}

function makeRecipe(settings) {
  const stages = {};
  for (const [key, value] of Object.entries(settings)) {
    const [stage, option] = key.split('.');
    stages[stage] = [...(stages[stage] ?? []), `      ${option}: ${value}`];
  }
  const lines = Object.entries(stages).map(([stage, options]) =>
    [`  - ${stage}:`, ...options].join('\n'));
  return ['version: 1', 'stages:', ...lines, ''].join('\n');
}

// What a point of these settings could measure.
function measure(settings, random) {
  const factor = Number(settings['low_rank.factor'] ?? 1);
  const isInt8 = settings['quantize.codec'] === 'i8_row';
  const hasClusters = 'cluster_head.clusters' in settings;
  const hasPredictor = 'ffn_predictor.recall' in settings;
  const noise = () => (random() - 0.5) * 0.006;
  const bitsPerByte = 1.114 + 0.021 * Math.log2(factor) ** 1.7 + (isInt8 ? 0.0012 : 0) +
    (hasClusters ? 0.007 : 0) + (hasPredictor ? 0.006 : 0) + noise();
  const accuracy = Math.max(0.05, 0.88 - 3.1 * Math.max(0, bitsPerByte - 1.114) ** 1.2 + noise());
  const blocks = FP16_BYTES * (0.32 + 0.48 / factor) * (hasPredictor ? 0.72 : 1);
  const rest = FP16_BYTES * 0.2 * (hasClusters ? 0.35 : 1);
  const weights = Math.round((blocks + rest) * (isInt8 ? 0.53 : 1));
  const speed = 5200 / (weights / 1e6) * (hasPredictor ? 0.83 : 1) * (1 + noise() * 8);
  return {
    file_bytes: Math.round(weights * 1.18 + 310_000),
    resident_bytes: weights + 1_240_000,
    weight_bytes: weights,
    tokens_per_second: speed,
    tokens_per_second_spread: [speed * 0.965, speed * 1.018],
    metrics: {
      bits_per_byte: { value: bitsPerByte, standard_error: 0.0043, n: 5421 },
      cloze_accuracy: {
        value: accuracy, standard_error: Math.sqrt(accuracy * (1 - accuracy) / 1000), n: 1000,
      },
      kl: { value: Math.max(0, (bitsPerByte - 1.113) * 0.9), standard_error: 0.0009, n: 5421 },
    },
    seconds: 18 + 40 * random() + 12 * factor,
  };
}

function makePoint(number, settings, random) {
  const id = `${String(number).padStart(4, '0')}-${(number * 2654435761 % 1048576).toString(16)}`;
  return {
    id,
    label: Object.entries(settings).map(([key, value]) => `${key}=${value}`).join(' '),
    status: 'done',
    settings,
    recipe: makeRecipe(settings),
    ...measure(settings, random),
  };
}

function spoil(point, status, error) {
  const { id, label, settings, recipe } = point;
  return { id, label, status, error, settings, recipe };
}

function makeSettings() {
  const all = [{ 'quantize.codec': 'f16' }, { 'quantize.codec': 'i8_row' }];
  for (const factor of ['2', '4', '8', '16']) {
    for (const codec of ['f16', 'i8_row']) {
      const plain = { 'low_rank.factor': factor, 'quantize.codec': codec };
      all.push(plain, { ...plain, 'cluster_head.clusters': '200', 'ffn_predictor.recall': '0.95' });
    }
  }
  all.push({ 'quantize.codec': 'f16', 'cluster_head.clusters': '200' });
  all.push({ 'quantize.codec': 'f16', 'ffn_predictor.recall': '0.95' });
  return all;
}

function makeAblation(points) {
  const idOf = (label) => points.find((point) => point.label === label).id;
  return [
    { label: 'low rank alone', point: idOf('low_rank.factor=8 quantize.codec=f16') },
    { label: 'cluster head alone', point: idOf('quantize.codec=f16 cluster_head.clusters=200') },
    { label: 'predictors alone', point: idOf('quantize.codec=f16 ffn_predictor.recall=0.95') },
    { label: 'int8 alone', point: idOf('quantize.codec=i8_row') },
    {
      label: 'all together',
      point: idOf('low_rank.factor=8 quantize.codec=i8_row cluster_head.clusters=200 ' +
        'ffn_predictor.recall=0.95'),
    },
  ];
}

// 20 points: 17 done, 2 failed, 1 missing.
function exampleResults() {
  const random = makeRandom(7);
  const points = makeSettings().map((settings, i) => makePoint(i, settings, random));
  const ablation = makeAblation(points);
  const [a, b, c] = [12, 14, 16];
  points[a] = spoil(points[a], 'failed',
    'cluster_head: 128 tokens of calibration text, 200 clusters need 256; give more text');
  points[b] = spoil(points[b], 'failed', 'no space left on the device after 8,388,608 bytes');
  points[c] = spoil(points[c], 'missing', '');
  return {
    format: 'rwkv-press-sweep',
    version: 1,
    title: 'Compression factor, codec and what RWKV-Lite adds',
    model: {
      name: 'demo v5.2',
      description: 'The demo model: 12 blocks of width 320, trained on stories of its own.',
      fp16_bytes: FP16_BYTES,
    },
    axes: [
      { name: 'low_rank.factor', values: ['2', '4', '8', '16'] },
      { name: 'quantize.codec', values: ['f16', 'i8_row'] },
      { name: 'cluster_head.clusters', values: ['200'] },
      { name: 'ffn_predictor.recall', values: ['0.95'] },
    ],
    metrics: [
      { name: 'bits_per_byte', label: 'bits per byte', better: 'lower' },
      { name: 'cloze_accuracy', label: 'cloze accuracy', better: 'higher' },
      { name: 'kl', label: 'KL from the reference', better: 'lower' },
    ],
    machine: { cpu: 'AMD EPYC 7B13', threads: 2, kernels: 'x86_avx2' },
    points,
    ablation,
    baseline: points[0].id,
  };
}

const HOSTILE = '</script><script>window.broken = 1</script><!-- ' +
  '<img src="https://example.invalid/x" onerror="window.broken = 1">' +
  '<b class="hostile">& \u2028 "\\';

// The example with markup in every text.
function hostileResults() {
  const results = exampleResults();
  const spoilTexts = (object) => Object.fromEntries(Object.entries(object).map(([key, value]) =>
    [key, typeof value === 'string' ? value + HOSTILE : value]));
  const axis = { name: `stage.${HOSTILE}`, values: [HOSTILE, '__proto__'] };
  return {
    ...results,
    title: HOSTILE,
    model: spoilTexts(results.model),
    machine: spoilTexts(results.machine),
    axes: [axis, { name: 'constructor', values: ['__proto__'] }],
    metrics: results.metrics.map((metric) => ({ ...metric, label: HOSTILE })),
    points: results.points.map((point, i) => ({
      ...point,
      id: point.id + HOSTILE,
      label: HOSTILE,
      error: HOSTILE,
      recipe: HOSTILE,
      settings: { [axis.name]: i % 2 ? HOSTILE : '__proto__' },
      resident_bytes: i === 3 ? HOSTILE : point.resident_bytes,
    })),
    ablation: results.ablation.map(({ point }) => ({ label: HOSTILE, point: point + HOSTILE })),
    baseline: results.baseline + HOSTILE,
  };
}

// The least that is a sweep.
const bareResults = () => ({ format: 'rwkv-press-sweep', version: 1, points: [] });

module.exports = { bareResults, exampleResults, hostileResults, HOSTILE };
