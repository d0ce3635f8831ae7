#!/usr/bin/env python3
"""Plans against uniform recipes of the same bytes, measured on other text: the table of
docs/quality.md.

Usage: plan_evidence.py PRESS EDGE CHECKPOINT WORK --vocab V --calibration F --text F
                        --budgets 2.5MB,3MB [--max-tokens N] [--set KEY=VALUE]...

PRESS and EDGE are the executables. Uniform recipes have one factor and one codec for all matrices: a
grid, and for each budget the one that the planner itself finds best. Each is held in memory as a
plan holds such a model (caches of what a token touches, which `plan` has measured). Everything that
was measured is kept in WORK and not measured again.
"""
import json

from planner_runs import Runs, bytes_of, parser_for, run

FACTORS = (4, 8, 16)
PAIRS = {"whitened": "method: whitened", "diagonal": "method: svd, diagonal: true"}
ROWS = ((0.999, 0.99), (0.95, 0.9))


class Evidence(Runs):
    """Recipes by what they take in memory; results by the name of a recipe."""

    def measure(self, packed, memory):
        """Bits per byte of the other text, and the account of the runtime without the program."""
        score = json.loads(run([self.arguments.edge, "perplexity", packed, "-t", 1, "--text",
                                self.arguments.text, "--max-tokens", self.arguments.max_tokens,
                                "--json", "--quiet"] + memory))
        bench = json.loads(run([self.arguments.edge, "bench", packed, "-t", 1, "--json", "-n", 16,
                                "--prompt", 1, "--runs", 1] + memory))
        components = bench["memory"]["components"]
        resident = sum(part["resident"] for name, part in components.items() if name != "program")
        return {"bits_per_byte": score["bits_per_byte"], "resident": resident}

    def result(self, name, recipe_text, memory):
        """Measured once for each name."""
        def make():
            recipe = self.work / f"{name}.yaml"
            recipe.write_text(recipe_text)
            packed = self.work / "measured.gguf"
            learns = ("whitened", "cluster_head", "ffn_predictor")
            self.convert(recipe, packed, any(word in recipe_text for word in learns))
            measured = self.measure(packed, memory)
            packed.unlink()
            return measured
        return dict(self.once(name, make), name=name)


def uniform_recipe(factor, pairs, rows, calibration, frame):
    """YAML of a recipe that treats all matrices alike, in int8."""
    lines = ["name: uniform", "seed: 0", f"calibration: {calibration}", "stages:"]
    if factor:
        lines.append(f"  - low_rank: {{factor: {factor}, {pairs}}}")
    lines.append(f"  - cluster_head: {{clusters: {frame['clusters']}, p_min: {rows[1]}}}")
    lines.append(f"  - ffn_predictor: {{recall: {rows[0]}, hidden: {frame['hidden']}}}")
    lines.append("  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 0}")
    return "\n".join(lines) + "\n"


def cache(curve, value):
    """The cache that a plan gives to rows on demand: their measured share, to a hundredth up."""
    share = next(point["share"] for point in curve if point["value"] == value)
    return min(1.0, max(1, -(-share * 100 // 1)) / 100)


def uniform_results(evidence, plans, calibration, frame):
    """The grid, and what the planner itself holds the best that is uniform, measured."""
    curves = json.loads((evidence.work / "curves.json").read_text())
    results = []
    for rows in ROWS:
        memory = ["--memory", "sparse", "--neuron-cache", cache(curves["ffn"], rows[0]),
                  "--head-cache", cache(curves["head"], rows[1]), "--embedding-cache", 64]
        for factor, (pairs_name, pairs) in [(0, ("dense", ""))] + [
                (factor, pairs) for factor in FACTORS for pairs in PAIRS.items()]:
            name = f"k{factor}-{pairs_name}-recall{rows[0]}-p{rows[1]}"
            text = uniform_recipe(factor, pairs, rows, calibration, frame)
            results.append(evidence.result(name, text, memory))
    for budget, plan in plans.items():
        if "uniform" in plan:
            results.append(evidence.result(f"best-{budget}", plan["uniform"]["recipe"],
                                           plan["uniform"]["options"].split()))
    for codec in ("i8_row", "f16"):
        text = f"name: dense\nstages:\n  - quantize: {{codec: {codec}, lora_codec: {codec}}}\n"
        results.append(evidence.result(f"{codec}-loaded", text, ["--memory", "loaded"]))
    return results


def main():
    parser = parser_for(__doc__, ("press", "edge"))
    parser.add_argument("--budgets", required=True)
    arguments = parser.parse_args()
    evidence = Evidence(arguments)
    budgets = arguments.budgets.split(",")
    plans = {budget: evidence.once(f"plan-{budget}.report",
                                   lambda budget=budget: evidence.plan(["--fit", budget]))
             for budget in budgets}
    planned = {budget: evidence.result(f"plan-{budget}", plan["recipe"],
                                       plan["choice"]["options"].split())
               for budget, plan in plans.items()}
    calibration = next(line for line in plans[budgets[0]]["recipe"].splitlines()
                       if line.startswith("calibration: ")).removeprefix("calibration: ")
    config = run([arguments.press, "inspect", arguments.checkpoint, "--json"])
    model = json.loads(config)["model"]
    frame = {"clusters": max(2, min(200, int(1.6 * model["n_vocab"] ** 0.5))),
             "hidden": 16 if model["n_embd"] <= 256 else 64}
    uniform = uniform_results(evidence, plans, calibration, frame)
    dense = min(result["bits_per_byte"] for result in uniform if result["name"] == "f16-loaded")
    print(f"dense f16: {dense:.4f} bits per byte\n")
    print("| budget | resident, predicted | measured | loss, predicted | measured | bits per byte | "
          "best uniform | its bits per byte | of its loss saved |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for budget in budgets:
        plan = plans[budget]
        ours = planned[budget]
        fitting = [r for r in uniform if r["resident"] <= bytes_of(budget)]
        best = min(fitting, key=lambda r: r["bits_per_byte"], default=None)
        row = [budget, f"{plan['predicted']['resident']}", f"{ours['resident']}",
               f"{plan['predicted']['loss']:.4f}", f"{plan['measured']['loss']:.4f}",
               f"{ours['bits_per_byte']:.4f}"]
        if best:
            gap = best["bits_per_byte"] - dense
            saved = (best["bits_per_byte"] - ours["bits_per_byte"]) / gap if gap > 0 else 0
            row += [best["name"], f"{best['bits_per_byte']:.4f}", f"{100 * saved:.0f} %"]
        else:
            row += ["none fits", "", ""]
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
