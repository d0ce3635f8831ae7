#!/usr/bin/env python3
"""Resident bytes of synthetic v5.2 models with all of RWKV-Lite's techniques, by the runtime's own
account, next to the byte model: what the figures in docs/quality.md come from.

usage: measure_memory.py BUILD WORK [SIZE...]     sizes: 0.1B 0.4B 1.5B
Needs about 12 GB below WORK for 1.5B and some minutes for each size. Standard library only."""
import json
import pathlib
import subprocess
import sys

SIZES = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048)}
VOCABULARY, CLUSTERS, FACTOR, HIDDEN = 65536, 200, 8, 64
NEURON_CACHE, HEAD_CACHE = 0.25, 0.13
EMBEDDING_ROWS = (1000, 64)  # the published setting, and as many as are of use
PRESETS = {"rwkv-lite-fp16": 2, "rwkv-lite-int8": 1}  # bytes per number


def run(*arguments):
    """Runs a command and returns its standard output."""
    return subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.PIPE).stdout


def byte_model(layers, width, per_number, halves, rows):
    """Bytes by the formula; `halves` counts blocks with sign bits and blocks with an MLP."""
    neurons = width * 7 // 2
    numbers = rows * width + CLUSTERS * width + HEAD_CACHE * VOCABULARY * width
    numbers += layers * (width**2 + 5 * 2 * width**2 / FACTOR)
    numbers += layers * 2 * neurons * width * NEURON_CACHE
    numbers += halves[1] * HIDDEN * (width + neurons)
    vectors = 4 * layers * 14 * width  # norms, mixing coefficients, decays: always f32
    return numbers * per_number + halves[0] * neurons * width / 8 + vectors


def write_text(path):
    """Calibration text; its content makes no difference for random weights."""
    words = (f"{i * i % 977}" for i in range(6000))
    path.write_text(" ".join(words))


def measure(binaries, work, size, preset):
    """Converts one model and prints its row of the table."""
    layers, width = SIZES[size]
    checkpoint, packed = work / f"{size}.pth", work / f"{size}-{preset}.gguf"
    if not checkpoint.exists():
        run(binaries / "rwkv-press", "synth", "--arch", "v5.2", "--n-layer", layers, "--n-embd",
            width, "--n-vocab", VOCABULARY, "--quiet", "-o", checkpoint)
    if not packed.exists():
        run(binaries / "rwkv-press", "convert", checkpoint, "-o", packed, "--preset", preset,
            "--vocab", "bytes", "--calibration", work / "text.txt", "--set",
            "calibration.samples=8", "--set", "calibration.length=128", "--set",
            "ffn_predictor.epochs=1", "--set", "cluster_head.iterations=3", "--set",
            "cluster_head.epochs=1")
    names = [t["name"] for t in json.loads(run(binaries / "rwkv-edge", "inspect", packed,
                                               "--json"))["tensors"]]
    halves = [sum(n.endswith(end) for n in names) for end in ("sign.weight", "fc1.weight")]
    dense = 2 * (2 * VOCABULARY * width + layers * 13 * width**2)
    for rows in EMBEDDING_ROWS:
        memory = json.loads(run(
            binaries / "rwkv-edge", "bench", packed, "--json", "-n", 16, "--prompt", 1, "--runs",
            1, "--threads", 1, "--memory", "sparse", "--neuron-cache", NEURON_CACHE,
            "--head-cache", HEAD_CACHE, "--embedding-cache", rows))["memory"]
        model = byte_model(layers, width, PRESETS[preset], halves, rows)
        print(f"| {size} | {preset} | {rows} | {memory['weights'] / 1e6:.1f} | "
              f"{model / 1e6:.1f} | {100 * (memory['weights'] / model - 1):+.2f} % | "
              f"{dense / memory['weights']:.2f}x | {memory['total'] / 1e6:.1f} |", flush=True)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binaries, work = pathlib.Path(sys.argv[1]) / "bin", pathlib.Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / "text.txt")
    print("| model | recipe | embedding rows | account, MB | byte model, MB | difference | "
          "against fp16 | all with program, state, scratch, MB |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in sys.argv[3:] or SIZES:
        for preset in PRESETS:
            measure(binaries, work, size, preset)


main()
