#!/usr/bin/env python3
"""Planned bits against one codec for all matrices, at the same bytes: a table of docs/quality.md.

Usage: planned_bits.py PRESS CHECKPOINT WORK --vocab V --calibration F --text F
                       [--bits 3.5,4,4.5,5] [--max-tokens N] [--set KEY=VALUE]...

Bits per weight are those over all matrices, scales and headers included. A plan gets a file as large
as one codec for all would make it, by interpolation; KL of one codec is interpolated in its logarithm.
"""
import json
import math

from planner_runs import Runs, fail, parser_for, run

CODECS = ("lut3", "lut4", "lut5")


class Bits(Runs):
    """Recipes by their bits per weight."""

    def measure(self, name, recipe):
        """Converts a recipe; bytes of the file, bits per weight, KL and its standard error."""
        packed = self.work / f"{name}.gguf"
        self.convert(recipe, packed)
        kl, error = self.kl(packed)
        tensors = json.loads(run([self.arguments.press, "inspect", packed, "--json"]))["tensors"]
        matrices = [t for t in tensors if t["type"] != "f32"]
        weights = sum(t["numbers"] for t in matrices)
        return {"name": name, "file": packed.stat().st_size, "weights": weights,
                "bits": 8 * sum(t["bytes"] for t in matrices) / weights, "kl": kl, "error": error}

    def pure(self, codec):
        """Every matrix in one codec."""
        recipe = self.work / f"{codec}.yaml"
        recipe.write_text(
            f"name: {codec}\ncalibration: {{samples: 64, length: 256}}\nstages:\n"
            f"  - quantize: {{codec: {codec}, lora_codec: {codec}, min_numbers: 0, "
            "quantizer: refined}\n")
        return self.measure(codec, recipe)

    def planned(self, bits, size):
        """The planner's recipe for a file of this size."""
        report = self.plan(["--size", size])
        recipe = self.work / f"plan-{bits}.yaml"
        recipe.write_text(report["recipe"])
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
    parser = parser_for(__doc__)
    parser.add_argument("--bits", default="3.5,4,4.5,5")
    parser.set_defaults(max_tokens="10240")
    arguments = parser.parse_args()
    runs = Bits(arguments)
    pure = [runs.pure(codec) for codec in CODECS]
    print("| recipe | bits per weight | file | KL | of one codec's at these bits |")
    print("| --- | --- | --- | --- | --- |")
    for one in pure:
        print(f"| all {one['name']} | {one['bits']:.3f} | {one['file']} | {one['kl']:.5f} +- "
              f"{one['error']:.5f} | |")
    least, most = (end(one["bits"] for one in pure) for end in (min, max))
    for bits in arguments.bits.split(","):
        if not least <= float(bits) < most:
            fail(f"--bits {bits}: one codec for all has {least:.3f} to {most:.3f} bits here")
        plan = runs.planned(bits, round(between(pure, float(bits), "file")))
        share = plan["kl"] / between(pure, plan["bits"], "kl") if plan["bits"] < most else math.nan
        print(f"| planned | {plan['bits']:.3f} | {plan['file']} | {plan['kl']:.5f} +- "
              f"{plan['error']:.5f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
