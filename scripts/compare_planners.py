#!/usr/bin/env python3
"""Plans from measured losses against plans from estimated ones, at the same budgets, on text that
neither saw: a table of docs/quality.md.

Usage: compare_planners.py PRESS CHECKPOINT WORK --vocab V --calibration F --text F
                           --budgets 2.8MB,3.1MB [--max-tokens N] [--set KEY=VALUE]...

KL is that of the packed plan to the checkpoint, in nats per token. What was measured is kept in WORK
and not measured again.
"""
from planner_runs import Runs, parser_for

KINDS = ("measured", "estimated")


def planned(runs, kind, budget):
    """KL of the plan on the held-out text, its standard error, and the KL that was predicted."""
    name = f"{kind}-{budget}"
    plan = runs.once(name, lambda: runs.plan(["--fit", budget], [f"budget.losses={kind}"],
                                             f"{kind}.curves"))

    def measure():
        recipe = runs.work / f"{name}.yaml"
        recipe.write_text(plan["recipe"])
        packed = runs.work / "measured.gguf"
        runs.convert(recipe, packed)
        scored = runs.kl(packed)
        packed.unlink()
        return scored

    return (*runs.once(f"{name}.kl", measure), plan["predicted"]["kl"])


def main():
    parser = parser_for(__doc__)
    parser.add_argument("--budgets", required=True)
    arguments = parser.parse_args()
    runs = Runs(arguments)
    print("| budget | KL, measured losses | estimated losses | ratio | predicted, measured losses | "
          "estimated losses |\n| --- | --- | --- | --- | --- | --- |")
    for budget in arguments.budgets.split(","):
        measured, estimated = (planned(runs, kind, budget) for kind in KINDS)
        ratio = f"{estimated[0] / measured[0]:.2f}" if measured[0] > 0 else ""
        print(f"| {budget} | {measured[0]:.4f} +- {measured[1]:.4f} | {estimated[0]:.4f} +- "
              f"{estimated[1]:.4f} | {ratio} | {measured[2]:.4f} | {estimated[2]:.4f} |", flush=True)


if __name__ == "__main__":
    main()
