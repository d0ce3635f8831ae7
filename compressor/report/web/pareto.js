// The Pareto frontier: the points that no other one beats in both measures, or in all of several.

// The `points` that have both measures, ordered by x. All of several equal points stay.
function paretoFrontier(points, xMeasure, yMeasure) {
  const x = (point) => valueOf(point, xMeasure);
  const y = (point) => valueOf(point, yMeasure);
  const candidates = points.filter((point) => x(point) !== null && y(point) !== null);
  candidates.sort((a, b) =>
    compareBetter(xMeasure, x(a), x(b)) || compareBetter(yMeasure, y(a), y(b)));
  const frontier = [];
  for (const point of candidates) {
    const last = frontier.at(-1);
    const isBetter = !last || compareBetter(yMeasure, y(point), y(last)) < 0;
    if (isBetter || (x(point) === x(last) && y(point) === y(last))) {
      frontier.push(point);
    }
  }
  return frontier.sort((a, b) => x(a) - x(b));
}

// The `points` that have all `measures` and that no other such one beats: better in one of them and
// worse in none.
function unbeatenPoints(points, measures) {
  const candidates = points.filter((point) =>
    measures.every((measure) => valueOf(point, measure) !== null));
  const compareIn = (a, b) => (measure) =>
    compareBetter(measure, valueOf(a, measure), valueOf(b, measure));
  const beats = (a, b) => {
    const compared = measures.map(compareIn(a, b));
    return compared.every((order) => order <= 0) && compared.some((order) => order < 0);
  };
  return candidates.filter((point) => !candidates.some((other) => beats(other, point)));
}
