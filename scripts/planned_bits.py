#!/usr/bin/env python3
"""Planned bits against one codec for all matrices, at the same bytes: a table of docs/quality.md.

Usage: planned_bits.py PRESS CHECKPOINT WORK --vocab V --calibration F --text F
                       [--bits 3.5,4,4.5,5] [--max-tokens N] [--set KEY=VALUE]...

Bits per weight are those over all matrices, scales and headers included. A plan gets a file as large
as one codec for all would make it, by interpolation; KL of one codec is interpolated in its logarithm.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

CODECS = ("lut3", "lut4", "lut5")


def run(command):
    """The standard output of a command that must work."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"planned_bits.py: error: {' '.join(map(str, command))}: status {done.returncode}")
    return done.stdout.decode()


class Bench:
    """The executable, the model and its texts."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.texts = ["--vocab", arguments.vocab, "--calibration", arguments.calibration]

    def measure(self, name, recipe):
        """Converts a recipe; bytes of the file, bits per weight, KL and its standard error."""
        packed = self.work / f"{name}.gguf"
        run([self.arguments.press, "convert", self.arguments.checkpoint, "-o", packed, "--force",
             "--quiet", "--recipe", recipe] + self.texts)
        score = json.loads(run([self.arguments.press, "eval", packed, "--json", "--quiet", "--vocab",
                                self.arguments.vocab, "--text", self.arguments.text, "--reference",
                                self.arguments.checkpoint, "--max-tokens",
                                self.arguments.max_tokens]))
        tensors = json.loads(run([self.arguments.press, "inspect", packed, "--json"]))["tensors"]
        matrices = [t for t in tensors if t["type"] != "f32"]
        weights = sum(t["numbers"] for t in matrices)
        scored = score[0]["texts"][0]
        return {"name": name, "file": packed.stat().st_size, "weights": weights,
                "bits": 8 * sum(t["bytes"] for t in matrices) / weights, "kl": scored["kl"],
                "error": scored["kl_standard_error"]}

    def pure(self, codec):
        """Every matrix in one codec."""
        recipe = self.work / f"{codec}.yaml"
        recipe.write_text(
            f"name: {codec}\ncalibration: {{samples: 64, length: 256}}\nstages:\n"
            f"  - quantize: {{codec: {codec}, lora_codec: {codec}, min_numbers: 0, "
            "quantizer: refined}\n")
        return self.measure(codec, recipe)

    def plan(self, bits, size):
        """The planner's recipe for a file of this size."""
        recipe = self.work / f"plan-{bits}.yaml"
        settings = [part for value in self.arguments.set for part in ("--set", value)]
        report = json.loads(run([self.arguments.press, "plan", self.arguments.checkpoint, "--size",
                                 size, "--json", "--quiet", "-o", recipe, "--force", "--curves",
                                 self.work / "curves.json"] + self.texts + settings))
        return dict(self.measure(f"plan-{bits}", recipe), predicted=report["predicted"]["kl"])


def between(pure, bits, key):
    """A figure of one codec for all at these bits, between its neighbours."""
    below = max((p for p in pure if p["bits"] <= bits), key=lambda p: p["bits"])
    above = min((p for p in pure if p["bits"] > bits), key=lambda p: p["bits"])
    share = (bits - below["bits"]) / (above["bits"] - below["bits"])
    if key == "kl":
        return math.exp((1 - share) * math.log(below[key]) + share * math.log(above[key]))
    return (1 - share) * below[key] + share * above[key]


def main():
    parser = argparse.ArgumentParser()
    for name in ("press", "checkpoint", "work"):
        parser.add_argument(name)
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--bits", default="3.5,4,4.5,5")
    parser.add_argument("--max-tokens", default="10240")
    parser.add_argument("--set", action="append", default=[])
    bench = Bench(parser.parse_args())
    pure = [bench.pure(codec) for codec in CODECS]
    print("| recipe | bits per weight | file | KL | of one codec's at these bits |")
    print("| --- | --- | --- | --- | --- |")
    for one in pure:
        print(f"| all {one['name']} | {one['bits']:.3f} | {one['file']} | {one['kl']:.5f} +- "
              f"{one['error']:.5f} | |")
    for bits in bench.arguments.bits.split(","):
        plan = bench.plan(bits, round(between(pure, float(bits), "file")))
        share = plan["kl"] / between(pure, plan["bits"], "kl")
        print(f"| planned | {plan['bits']:.3f} | {plan['file']} | {plan['kl']:.5f} +- "
              f"{plan['error']:.5f} | {share:.2f} |", flush=True)


main()
