#!/usr/bin/env python3
"""KL of a model whose pieces have narrower widths, over the same model at full width, on text that
nothing was learnt from: widths chosen by importance, all alike, and by random importance, at equal
bytes. What the table in docs/streaming.md comes from.

usage: measure_widths.py PRESS CHECKPOINT --vocab FILE --calibration TEXT --text TEXT
                         [--importance estimated] [--widths u6,lut5,lut4,lut3,lut2] [--piece-kb 0]
                         [--seeds 3] [--work FOLDER] [--max-tokens N]
Budgets are the bytes of all pieces at each width but the narrowest, where there is nothing to
choose, and the means of neighbours; between two widths "all alike" is interpolated, the logarithm of
KL by bytes. Random importance is the geometric mean over seeds. Standard library only."""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

BITS = {"u6": 6, "lut5": 5, "lut4": 4, "lut3": 3, "lut2": 2}
RECIPE = """name: widths
seed: {seed}
calibration: {{samples: 64, length: 256}}
stages:
  - quantize: {{codec: i8_row, lora_codec: f16, min_numbers: 4096}}
  - shards: {{widths: [{widths}], importance: {importance}, piece_kb: {piece_kb}}}
"""


def run(command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"measure_widths.py: {' '.join(str(part) for part in command)}: {done.stderr}")
    return done


def convert(args, folder, importance, seed):
    """A packed file with all widths, and what the stage said."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(seed=seed, widths=args.widths.replace(",", ", "),
                                    importance=importance, piece_kb=args.piece_kb))
    packed = folder / f"{importance}{seed}.gguf"
    done = run([args.press, "convert", args.checkpoint, "-o", packed, "--recipe", recipe,
                "--vocab", args.vocab, "--calibration", args.calibration, "--force", "--no-report"])
    said = [line for line in done.stderr.splitlines() if line.startswith("shards:")]
    return packed, said


def measure(args, packed, option, value):
    """(KL, standard error, bytes, what the file expects)."""
    command = [args.press, "eval", packed, "--text", args.text, "--reference", packed, "--json",
               "--quiet", option, value]
    if args.max_tokens:
        command += ["--max-tokens", args.max_tokens]
    report = json.loads(run(command).stdout)[0]
    text = report["texts"][0]
    widths = report["widths"]
    return text["kl"], text["kl_standard_error"], widths["bytes"], widths["expected_loss"]


def interpolated(points, at):
    """KL at so many bytes between points (bytes, KL), the logarithm linear in bytes."""
    points = sorted(points)
    for (b0, k0), (b1, k1) in zip(points, points[1:]):
        if b0 <= at <= b1:
            share = (at - b0) / (b1 - b0)
            return math.exp((1 - share) * math.log(k0) + share * math.log(k1))
    raise ValueError(at)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("press")
    parser.add_argument("checkpoint")
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--importance", default="estimated")
    parser.add_argument("--widths", default="u6,lut5,lut4,lut3,lut2")
    parser.add_argument("--piece-kb", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=0)
    parser.add_argument("--work")
    args = parser.parse_args()
    folder = pathlib.Path(args.work or tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    packed, said = convert(args, folder, args.importance, 0)
    print("\n".join(said))
    drawn = [convert(args, folder, "random", seed)[0] for seed in range(1, args.seeds + 1)]
    alike = [measure(args, packed, "--most-bits", BITS[width]) for width in args.widths.split(",")]
    points = [(m[2], m[0]) for m in alike]
    exact = sorted(bytes for bytes, _ in points)
    budgets = exact[1:] + [(a + b) // 2 for a, b in zip(exact, exact[1:])]
    print("| bytes | all alike | by importance | error | of all alike | expected | random |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for budget in sorted(budgets):
        uniform = interpolated(points, budget)
        kl, error, used, expected = measure(args, packed, "--weight-bytes", budget)
        assert used <= budget, (used, budget)
        logs = [math.log(measure(args, each, "--weight-bytes", budget)[0]) for each in drawn]
        random = math.exp(sum(logs) / len(logs)) if logs else float("nan")
        mark = "" if budget in exact else " (between)"
        print(f"| {budget}{mark} | {uniform:.5f} | {kl:.5f} | {error:.5f} | {kl / uniform:.2f} | "
              f"{expected:.5f} | {random:.5f} |", flush=True)


main()
