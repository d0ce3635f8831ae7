#!/usr/bin/env python3
"""Speed of the runtime on synthetic models of true shape: decoding against the memory bandwidth of
the same run, and prefill. Every round goes through all models, so that what the machine does
meanwhile falls on all of them. Prints the tables of docs/performance.md, then for each number of
threads the line that time per token against bytes lies closest to, and adds the rows to
tests/bench/history/runtime.csv.

usage: bench_runtime.py BUILD WORK [--models 0.1B 0.4B] [--versions v5.2 v7] [--presets int8]
                        [--threads 1 2] [--memory full] [--prompt 128] [--rounds 5] [--machine TEXT]
Needs about 5 GB below WORK for 1.5B. Standard library only."""
import argparse
import csv
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HISTORY = ROOT / "tests/bench/history/runtime.csv"
# Layers, width, tokens that take a good second.
SIZES = {"0.1B": (12, 768, 160), "0.4B": (24, 1024, 64), "1.5B": (24, 2048, 32)}
VOCABULARY = 65536
COLUMNS = ("date", "machine", "commit", "kernels", "model", "preset", "memory", "threads", "rounds",
           "decode_median", "decode_least", "decode_most", "mb_per_token", "read_gb_per_s",
           "share_median", "share_least", "share_most", "prefill_median")


def run(*arguments):
    """Runs a command and returns its standard output."""
    return subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.PIPE,
                          cwd=ROOT).stdout.decode()


def packed_model(args, version, size, preset):
    """Path of a packed synthetic model, made if it is not there."""
    layers, width, _ = SIZES[size]
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
        # What is learnt makes no difference to random weights, nor to speed. Their head has no
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


def measure(args, packed, size, threads):
    """One round of one model."""
    report = json.loads(run(args.build / "bin/rwkv-edge", "bench", packed, "--json", "-n",
                            SIZES[size][2], "--prompt", args.prompt, "--runs", 1, "-t", threads,
                            "--memory", args.memory))
    return report["runs"][0] | {"kernels": report["kernels"]}


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
    """How far the rows with so many threads are from a line."""
    points = [(float(row["mb_per_token"]), 1000 / float(row["decode_median"]))
              for row in rows if row["threads"] == threads]
    if len(points) < 4:
        return
    start, slope, distance = line_through(points)
    print(f"{threads} threads: {start:.2f} ms + MB / {1 / slope:.1f} GB/s, the largest distance "
          f"of {len(points)} is {100 * distance:.1f} %")


def row_of(args, rounds, model, preset, threads):
    decode = [r["decode_tokens_per_s"] for r in rounds]
    share = [r["share_of_bandwidth"] for r in rounds]
    median = statistics.median
    return dict(zip(COLUMNS, (
        datetime.date.today().isoformat(), args.machine,
        run("git", "rev-parse", "--short", "HEAD").strip(), rounds[0]["kernels"], model, preset,
        args.memory, threads, len(rounds), f"{median(decode):.2f}", f"{min(decode):.2f}",
        f"{max(decode):.2f}", f"{rounds[0]['touched_bytes_per_token'] / 1e6:.1f}",
        f"{median(r['read_gb_per_s'] for r in rounds):.1f}", f"{median(share):.3f}",
        f"{min(share):.3f}", f"{max(share):.3f}",
        # That of a token or two says nothing of prompts.
        f"{median(r['prefill_tokens_per_s'] for r in rounds):.1f}" if args.prompt >= 16 else "")))


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--machine", default="not said")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    jobs = [(f"{version} {size}", size, preset, threads, packed_model(args, version, size, preset))
            for size in args.models for version in args.versions for preset in args.presets
            for threads in args.threads]
    rounds = [[] for _ in jobs]
    for i in range(args.rounds):
        for job, (_, size, _, threads, packed) in enumerate(jobs):
            rounds[job].append(measure(args, packed, size, threads))
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr, flush=True)
    rows = [row_of(args, rounds[job], model, preset, threads)
            for job, (model, _, preset, threads, _) in enumerate(jobs)]
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
