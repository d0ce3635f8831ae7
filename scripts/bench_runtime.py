#!/usr/bin/env python3
"""Speed of the runtime on synthetic models of true shape: decoding against the memory bandwidth of
the same run, and prefill. All models are open at once in one process, and every round goes through
them, so that what the machine does meanwhile falls on all of them. Prints the tables of
docs/performance.md, then for each number of threads the line that time per token against bytes lies
closest to, and adds the rows to tests/bench/history/runtime.csv.

usage: bench_runtime.py BUILD WORK [--models 0.1B 0.4B] [--versions v5.2 v7] [--presets int8]
                        [--threads 1 2] [--memory full] [--prompt 128] [--rounds 20] [--tokens 16]
                        [--machine TEXT]
Needs about 5 GB below WORK for 1.5B, and memory for all packed models. Standard library only."""
import argparse
import csv
import datetime
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
HISTORY = ROOT / "tests/bench/history/runtime.csv"
# Layers, width.
SIZES = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048)}
VOCABULARY = 65536
COLUMNS = ("date", "machine", "commit", "kernels", "model", "preset", "memory", "threads", "rounds",
           "decode_median", "decode_least", "decode_most", "mb_per_token", "read_gb_per_s",
           "share_median", "share_least", "share_most", "prefill_median")


def run(*arguments):
    """Runs a command and returns its standard output."""
    return subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.PIPE,
                          cwd=ROOT).stdout.decode()


def packed_model(args, version, size, preset):
    """Path of a packed synthetic model, which is made if it does not exist."""
    layers, width = SIZES[size]
    checkpoint = args.work / f"{version}-{size}.pth"
    packed = args.work / f"{version}-{size}-{preset}.gguf"
    if packed.exists():
        return packed
    press = args.build / "bin/rwkv-press"
    if not checkpoint.exists():
        run(press, "synth", "--arch", version, "--n-layer", layers, "--n-embd", width, "--n-vocab",
            VOCABULARY, "--quiet", "-o", checkpoint)
    options = []
    if preset.startswith("rwkv-lite"):
        text = args.work / "text.txt"
        text.write_text(" ".join(f"{i * i % 977}" for i in range(6000)))
        # The training makes no difference for random weights, nor for speed. Their head has no
        # likely clusters: a tenth of them is what a trained one reads.
        options = ["--calibration", text]
        for setting in ("calibration.samples=8", "calibration.length=128", "low_rank.method=svd",
                        "ffn_predictor.epochs=1", "ffn_predictor.recall=0.98",
                        "cluster_head.iterations=2", "cluster_head.epochs=1",
                        "cluster_head.k_max=20"):
            options += ["--set", setting]
    run(press, "convert", checkpoint, "-o", packed, "--preset", preset, "--vocab", "bytes",
        "--quiet", *options)
    return packed


def measure(args, packed):
    """All models in turn, with each number of threads."""
    others = [word for path in packed[1:] for word in ("--compare", path)]
    # Without another model, the first one is compared with itself.
    report = json.loads(run(args.build / "bin/rwkv-edge", "bench", packed[0],
                            *(others or ("--compare", packed[0])), "--json", "-n", args.tokens,
                            "--prompt", args.prompt, "--runs", args.rounds, "-t",
                            ",".join(map(str, args.threads)), "--memory", args.memory))
    return report["kernels"], report["runs"]


def line_through(points):
    """The line ms = a + b MB whose largest relative distance from the points is least, and that
    distance. Both searches are over functions with one valley."""
    def distance(a, b):
        return max(abs(ms / (a + b * mb) - 1) for mb, ms in points)

    def least(of, low, high):
        for _ in range(60):
            third = (high - low) / 3
            if of(low + third) < of(high - third):
                high -= third
            else:
                low += third
        return (low + high) / 2

    steepest = max(ms / mb for mb, ms in points)

    def best_slope(a):
        return least(lambda b: distance(a, b), steepest / 1000, steepest)

    start = least(lambda a: distance(a, best_slope(a)), 0, min(ms for _, ms in points))
    slope = best_slope(start)
    return start, slope, distance(start, slope)


def print_line(rows, threads):
    """How far the rows with this number of threads are from a line."""
    points = [(float(row["mb_per_token"]), 1000 / float(row["decode_median"]))
              for row in rows if row["threads"] == threads]
    if len(points) < 4:
        return
    start, slope, distance = line_through(points)
    print(f"{threads} threads: {start:.2f} ms + MB / {1 / slope:.1f} GB/s, the largest distance "
          f"of {len(points)} is {100 * distance:.1f} %")


def row_of(args, kernels, name, preset, threads_run, model):
    read = threads_run["read_gb_per_s"]
    mb = model["touched_bytes_per_token"] / 1e6
    share = [model[key] * mb / 1000 / read for key in
             ("decode_tokens_per_s", "decode_min", "decode_max")]
    return dict(zip(COLUMNS, (
        datetime.date.today().isoformat(), args.machine,
        run("git", "rev-parse", "--short", "HEAD").strip(), kernels, name, preset, args.memory,
        threads_run["threads"], args.rounds, f"{model['decode_tokens_per_s']:.2f}",
        f"{model['decode_min']:.2f}", f"{model['decode_max']:.2f}", f"{mb:.1f}", f"{read:.1f}",
        *(f"{part:.3f}" for part in share),
        # The speed of a token or two says nothing about prompts.
        f"{model['prefill_tokens_per_s']:.1f}" if args.prompt >= 16 else "")))


def main():
    parser = argparse.ArgumentParser(description="Speed of the runtime on synthetic models.")
    parser.add_argument("build", metavar="BUILD", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("work", metavar="WORK", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--models", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--versions", nargs="+", default=["v5.2", "v7"])
    parser.add_argument("--presets", nargs="+", default=["int8"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--memory", default="full")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--machine", default="not said")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    jobs = [(f"{version} {size}", preset, packed_model(args, version, size, preset))
            for size in args.models for version in args.versions for preset in args.presets]
    kernels, runs = measure(args, [packed for _, _, packed in jobs])
    rows = [row_of(args, kernels, name, preset, threads_run, threads_run["models"][i])
            for i, (name, preset, _) in enumerate(jobs) for threads_run in runs]
    is_new = not HISTORY.exists()
    with HISTORY.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    print("| model | recipe | memory | threads | decode, tokens/s [least-most] | MB a token | "
          "read, GB/s | share of it [least-most] | prefill, tokens/s |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['model']} | {row['preset']} | {args.memory} | {row['threads']} | "
              f"{row['decode_median']} [{row['decode_least']}-{row['decode_most']}] | "
              f"{row['mb_per_token']} | {row['read_gb_per_s']} | {row['share_median']} "
              f"[{row['share_least']}-{row['share_most']}] | {row['prefill_median']} |")
    for threads in args.threads:
        print_line(rows, threads)


main()
