#!/usr/bin/env python3
"""What rwkv-press expects that conversions take, next to what they took: the table in
docs/long_runs.md. Times are seconds of processors, so that a busy machine does not matter.

usage: check_estimates.py PRESS WORK [--quick]
Needs about 6 GB below WORK, and some 20 minutes of one processor. Standard library only."""
import argparse
import json
import os
import pathlib
import random
import subprocess

# name, architecture, layers, width, vocabulary
MODELS = {
    "v7 11M": ("v7", 6, 384, 4096),
    "v5.2 14M": ("v5.2", 6, 384, 4096),
    "v7 0.1B": ("v7", 12, 768, 32768),
    "v5.2 0.1B": ("v5.2", 12, 768, 32768),
    "v7 0.4B": ("v7", 24, 1024, 65536),
}
TRAIN = "steps: 4, batch: 4, micro_batch: 2, length: 128, warmup: 1, precision: fp32"
LEARNS = "calibration: {samples: 32, length: 256}\n"
RECIPES = {
    "int8": "stages:\n  - quantize: {codec: i8_row}\n",
    "lut4, learnt": LEARNS + "stages:\n  - quantize: {codec: lut4}\n",
    "RWKV-Lite": LEARNS + "stages:\n  - low_rank: {factor: 8}\n"
                          "  - cluster_head: {clusters: 100, frequent: 0}\n"
                          "  - ffn_predictor: {}\n  - quantize: {codec: i8_row}\n",
    "low rank, refit, train": LEARNS + "stages:\n  - low_rank: {factor: 8}\n  - refit: {}\n"
                                       "  - train: {" + TRAIN + "}\n"
                                       "  - quantize: {codec: i8_row}\n",
}
RUNS = [
    ("v7 11M", "RWKV-Lite"),
    ("v5.2 14M", "low rank, refit, train"),
    ("v7 11M", "lut4, learnt"),
    ("v7 0.1B", "int8"),
    ("v5.2 0.1B", "RWKV-Lite"),
    ("v7 0.1B", "low rank, refit, train"),
    ("v5.2 0.1B", "low rank, refit, train"),
    ("v7 0.4B", "int8"),
]


def write_text(path):
    """Words of random letters, as many tokens as the calibration needs."""
    generator = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 9))) for _ in range(2000)]
    path.write_text(" ".join(generator.choice(words) for _ in range(60000)))


def synth(press, work, name):
    """The checkpoint of a model, made once."""
    arch, layers, width, vocabulary = MODELS[name]
    path = work / (name.replace(" ", "-") + ".pth")
    if not path.exists():
        subprocess.run([press, "synth", "--arch", arch, "--n-layer", str(layers), "--n-embd",
                        str(width), "--n-vocab", str(vocabulary), "--quiet", "-o", path],
                       check=True, stdout=subprocess.DEVNULL)
    return path


def convert(press, work, model, recipe):
    """Events of one conversion, by kind."""
    checkpoint = synth(press, work, model)
    (work / "recipe.yaml").write_text("name: check\n" + RECIPES[recipe])
    log = work / "log.jsonl"
    command = [press, "convert", checkpoint, "--recipe", work / "recipe.yaml", "--vocab", "bytes",
               "--json-log", log, "--no-report", "--force", "-o", work / "out.gguf"]
    if "calibration" in RECIPES[recipe]:
        command += ["--calibration", work / "text.txt"]
    if "train" in RECIPES[recipe]:
        command += ["--train-data", work / "text.txt", "--work", work / "out.work"]
        subprocess.run(["rm", "-rf", work / "out.work"], check=True)
    environment = dict(os.environ, OMP_NUM_THREADS="1", RWKV_PRESS_THREADS="1")
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    events = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        events.setdefault(event["event"], []).append(event)
    return events


def ratio(expected, measured):
    """Expected over measured."""
    return f"{expected / measured:.2f}" if measured > 0.05 else "-"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("press", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="only the small models")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_text(options.work / "text.txt")
    rows = []
    print("| model | recipe | stage | CPU s: expected | measured | ratio | GB: expected | "
          "measured | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for model, recipe in RUNS:
        if options.quick and "M" not in model:
            continue
        events = convert(options.press.absolute(), options.work.absolute(), model, recipe)
        estimate = events["estimate"][0]
        totals = [0.0, 0.0]
        for expected, took in zip(estimate["stages"], events["stage_end"]):
            totals[0] += expected["cpu_seconds"]
            totals[1] += took["cpu_seconds"]
            print(f"| | | {took['name']} | {expected['cpu_seconds']:.1f} | "
                  f"{took['cpu_seconds']:.1f} | "
                  f"{ratio(expected['cpu_seconds'], took['cpu_seconds'])} | "
                  f"{expected['memory'] * 1e-9:.2f} | up to {took['peak_memory'] * 1e-9:.2f} | |",
                  flush=True)
        peak = events["stage_end"][-1]["peak_memory"]
        rows.append((totals[0] / totals[1], estimate["memory"] / peak))
        print(f"| {model} | {recipe} | in all | {totals[0]:.1f} | {totals[1]:.1f} | "
              f"{totals[0] / totals[1]:.2f} | {estimate['memory'] * 1e-9:.2f} | "
              f"{peak * 1e-9:.2f} | {estimate['memory'] / peak:.2f} |", flush=True)
    time = max(max(t, 1 / t) for t, _ in rows)
    memory = max(max(m, 1 / m) for _, m in rows)
    print(f"\nfarthest: {time:.2f} in time, {memory:.2f} in memory")


if __name__ == "__main__":
    main()
