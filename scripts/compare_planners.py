#!/usr/bin/env python3
"""Plans from measured losses against plans from estimated ones, at the same budgets, on text that
neither saw: a table of docs/quality.md.

usage: compare_planners.py PRESS CHECKPOINT WORK --vocab V --calibration F --text F
                           --budgets 2.8MB,3.1MB [--max-tokens N] [--set KEY=VALUE]...

KL is that of the packed plan to the checkpoint, in nats per token. What was measured is kept in WORK
and not measured again.
"""
import argparse
import json
import pathlib
import subprocess
import sys

KINDS = ("measured", "estimated")


def run(command):
    """The standard output of a command that must work."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"compare_planners.py: error: {' '.join(map(str, command))}: "
                 f"status {done.returncode}")
    return done.stdout.decode()


class Planners:
    """The executable, the model and its texts."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.learn = ["--vocab", arguments.vocab, "--calibration", arguments.calibration]

    def plan(self, kind, budget):
        """What the planner says of its recipe."""
        kept = self.work / f"{kind}-{budget}.json"
        if not kept.exists():
            settings = [part for value in self.arguments.set for part in ("--set", value)]
            kept.write_text(run(
                [self.arguments.press, "plan", self.arguments.checkpoint, "--fit", budget, "--json",
                 "--quiet", "--curves", self.work / f"{kind}.curves", "--set",
                 f"budget.losses={kind}"] + self.learn + settings))
        return json.loads(kept.read_text())

    def kl(self, kind, budget, plan):
        """KL of the packed plan on the other text, and its standard error."""
        kept = self.work / f"{kind}-{budget}.kl.json"
        if not kept.exists():
            recipe = self.work / f"{kind}-{budget}.yaml"
            recipe.write_text(plan["recipe"])
            packed = self.work / "measured.gguf"
            run([self.arguments.press, "convert", self.arguments.checkpoint, "-o", packed, "--force",
                 "--quiet", "--recipe", recipe] + self.learn)
            score = json.loads(run(
                [self.arguments.press, "eval", packed, "--json", "--quiet", "--vocab",
                 self.arguments.vocab, "--text", self.arguments.text, "--reference",
                 self.arguments.checkpoint, "--max-tokens", self.arguments.max_tokens]))
            kept.write_text(json.dumps(score[0]["texts"][0]))
            packed.unlink()
        scored = json.loads(kept.read_text())
        return scored["kl"], scored["kl_standard_error"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    for name in ("press", "checkpoint", "work"):
        parser.add_argument(name)
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--budgets", required=True)
    parser.add_argument("--max-tokens", default="8192")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    planners = Planners(arguments)
    print("| budget | KL, measured losses | estimated losses | ratio | predicted, measured losses | "
          "estimated losses |\n| --- | --- | --- | --- | --- | --- |")
    for budget in arguments.budgets.split(","):
        cells = {}
        for kind in KINDS:
            plan = planners.plan(kind, budget)
            cells[kind] = planners.kl(kind, budget, plan) + (plan["predicted"]["kl"],)
        measured, estimated = (cells[kind] for kind in KINDS)
        ratio = f"{estimated[0] / measured[0]:.2f}" if measured[0] > 0 else ""
        print(f"| {budget} | {measured[0]:.4f} +- {measured[1]:.4f} | {estimated[0]:.4f} +- "
              f"{estimated[1]:.4f} | {ratio} | {measured[2]:.4f} | {estimated[2]:.4f} |", flush=True)


main()
