#!/usr/bin/env python3
"""Our quantizers, planned bits and RWKVQuant's against llama.cpp's types: tables of docs/quality.md.

Usage: compare_quantizers.py PRESS CHECKPOINT WORK --vocab V --calibration F --text F
                             [--ggml LIBRARY] [--rows theirs,pure,mixed,planned] [--max-tokens N]
                             [--plans 3.3,3.5,4,4.6] [--quick]

All matrices of products and the head are rounded; the embedding, vectors and lora matrices stay f32,
and all models are computed in f32, so what differs is the weights alone. LIBRARY is libggml-base.so of
a llama.cpp of your own: its quantizers get the mean squares of the inputs of the same text (what an
imatrix has), and its mixes are those that llama-quantize makes of RWKV: one type, the head in Q6_K
(with IQ3_XXS: Q5_K). Bits are over the matrices that are rounded, scales and headers included. Results
are kept in WORK and not measured again. --quick: two rows of each kind, to see that it works.
"""
import argparse
import array
import ctypes
import json
import pathlib
import struct
import subprocess
import sys

# Name, its number in ggml, and what rows of no whole blocks of 256 become.
TYPES = {"iq3_xxs": (18, "iq4_nl"), "iq3_s": (21, "iq4_nl"), "q3_k": (11, "q4_0"),
         "iq4_xs": (23, "iq4_nl"), "iq4_nl": (20, None), "q4_0": (2, None), "q4_k": (12, "q5_0"),
         "q5_k": (13, "q5_1"), "q5_0": (6, None), "q5_1": (7, None), "q6_k": (14, "q8_0")}
PURE = ("iq3_xxs", "q3_k", "iq3_s", "iq4_xs", "iq4_nl", "q4_0", "q4_k", "q5_k")
QUANTIZERS = ("refined", "gptq", "weighted")
MIXED_HEAD = {"iq3_xxs": "q5_k"}
OUR_MIXES = (("lut3", "lut5"), ("lut4", "lut5"))
PLANS_AT_MOST = 5  # until the matrices of products have the bits that are asked for


class Failed(Exception):
    """A command that did not work."""


def tensors_of(path):
    """Names of a safetensors file to (dtype, shape, first byte, end), and where its data begin."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {name: (info["dtype"], info["shape"], *info["data_offsets"])
            for name, info in header.items()}, 8 + size


def floats_of(dtype, data):
    """Bytes of a tensor as f32."""
    if dtype == "F32":
        return array.array("f", data)
    if dtype != "BF16":
        sys.exit(f"compare_quantizers.py: error: expected tensors in f32 or bf16, found {dtype}")
    return array.array("f", array.array("I", [x << 16 for x in array.array("H", data)]).tobytes())


class Ggml:
    """llama.cpp's quantizers."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.library.ggml_quantize_chunk.argtypes = (
            [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 +
            [ctypes.c_void_p])
        self.library.ggml_get_type_traits.restype = ctypes.c_void_p
        self.library.ggml_row_size.restype = ctypes.c_size_t
        self.library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]

    def to_float(self, number):
        """struct ggml_type_traits: name, two int64, size_t, bool, then the function."""
        traits = self.library.ggml_get_type_traits(number)
        address = ctypes.c_void_p.from_address(traits + 40).value
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)

    def round(self, name, values, rows, cols, squares):
        """Rounds `values` in place; returns the bytes that their codes take."""
        number, narrower = TYPES[name]
        if cols % 256 != 0 and narrower:
            number = TYPES[narrower][0]
        codes = (ctypes.c_char * (self.library.ggml_row_size(number, cols) * rows))()
        address = values.buffer_info()[0]
        self.library.ggml_quantize_chunk(number, address, codes, 0, rows, cols,
                                         squares.buffer_info()[0])
        self.to_float(number)(codes, address, rows * cols)
        return len(codes)


class Bench:
    """The executable, the model, its texts, and what was measured."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.learn = ["--vocab", arguments.vocab, "--calibration", arguments.calibration]
        statistics = self.work / "statistics.safetensors"
        self.base = self.work / "checkpoint.safetensors"
        self.run("calibrate", arguments.checkpoint, "-o", statistics, "--all-moments", "--force",
                 "--quiet", *self.learn, "--samples", arguments.samples, "--length",
                 arguments.length)
        self.run("export", arguments.checkpoint, "-o", self.base, "--force", "--quiet")
        self.tensors, self.start = tensors_of(self.base)
        found, start = tensors_of(statistics)
        data = statistics.read_bytes()
        self.squares = {}
        for name, (_, shape, begin, end) in found.items():
            if name.endswith(".moments"):
                moments = array.array("f", data[start + begin:start + end])
                self.squares[name.replace(".moments", ".weight")] = moments[::shape[0] + 1]
        self.weights = sum(shape[0] * shape[1] for name, (_, shape, _, _) in self.tensors.items()
                           if name in self.squares)

    def run(self, *command):
        """Standard output of rwkv-press."""
        done = subprocess.run([self.arguments.press, *map(str, command)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}: {done.stderr.decode()}")
        return done.stdout.decode()

    def kept(self, name, kind, measure):
        """A row: measured, or as it was measured before."""
        path = self.work / f"{name.replace(' ', '-')}.json"
        if not path.exists():
            model, size = measure()
            score = json.loads(self.run("eval", model, "--json", "--quiet", "--vocab",
                                        self.arguments.vocab, "--text", self.arguments.text,
                                        "--reference", self.arguments.checkpoint, "--max-tokens",
                                        self.arguments.max_tokens))[0]["texts"][0]
            pathlib.Path(model).unlink()
            path.write_text(json.dumps(
                {"name": name, "kind": kind, "bits": 8 * size / self.weights, "kl": score["kl"],
                 "error": score["kl_standard_error"], "agreement": score["top1_agreement"]}))
        row = json.loads(path.read_text())
        print(row, file=sys.stderr)
        return row

    def theirs(self, ggml, name, head):
        """All matrices in a type of llama.cpp, the head in another; the model's file, bytes."""
        size = 0
        tensors, blob = {}, bytearray()
        data = self.base.read_bytes()
        for tensor, (dtype, shape, begin, end) in self.tensors.items():
            values = floats_of(dtype, data[self.start + begin:self.start + end])
            if tensor in self.squares:
                kind = head if tensor == "head.weight" else name
                size += ggml.round(kind, values, *shape, self.squares[tensor])
            tensors[tensor] = {"dtype": "F32", "shape": shape,
                               "data_offsets": [len(blob), len(blob) + 4 * len(values)]}
            blob += values.tobytes()
        header = json.dumps(tensors).encode()
        output = self.work / "theirs.safetensors"
        output.write_bytes(struct.pack("<Q", len(header)) + header + blob)
        return output, size

    def ours(self, recipe):
        """A recipe's model with its weights decoded, and the bytes of its matrices."""
        packed, decoded = recipe.with_suffix(".gguf"), recipe.with_suffix(".f32.gguf")
        self.run("convert", self.arguments.checkpoint, "-o", packed, "--force", "--quiet",
                 "--recipe", recipe, *self.learn)
        self.run("convert", packed, "-o", decoded, "--force", "--quiet", "--preset", "fp32",
                 "--allow-requantize")
        tensors = json.loads(self.run("inspect", packed, "--json"))["tensors"]
        size = sum(t["bytes"] for t in tensors if t["name"] in self.squares)
        packed.unlink()
        return decoded, size

    def recipe(self, name, stage, head=None):
        """Writes a recipe of one stage."""
        path = self.work / f"{name}.yaml"
        path.write_text(f"name: {name}\ncalibration: {{samples: {self.arguments.samples}, length: "
                        f"{self.arguments.length}}}\nstages:\n  - quantize: {{lora_codec: f32, "
                        f"min_numbers: 4096, {stage}, "
                        "overrides: [{match: emb.weight, codec: f32}" +
                        (f", {{match: head.weight, codec: {head}}}" if head else "") + "]}\n")
        return path

    def pure(self, codec, quantizer):
        """All matrices in one codec."""
        path = self.recipe(f"{codec}-{quantizer}", f"codec: {codec}, quantizer: {quantizer}")
        return self.ours(path)

    def mixed(self, codec, head):
        """The blocks in one codec, the head in another."""
        return self.ours(self.recipe(f"{codec}-head-{head}", f"codec: {codec}, quantizer: refined",
                                     head))

    def gptvq(self, codec):
        """RWKVQuant's codebooks, which are packed in f16: their bytes are in the report."""
        path = self.recipe(f"{codec}-gptvq", f"codec: {codec}, quantizer: gptvq")
        decoded = path.with_suffix(".f32.gguf")
        done = subprocess.run([self.arguments.press, "convert", self.arguments.checkpoint, "-o",
                               decoded, "--force", "--recipe", path, *self.learn],
                              stderr=subprocess.PIPE, stdout=subprocess.PIPE, check=True)
        words = done.stderr.decode().split("as codes they would take ")[1].split()
        return decoded, int(words[0])

    def planned(self, bits):
        """The planner's choice with at most about these bits a weight of the matrices of products. A
        plan has bits for the embedding and the lora matrices too; these stay in f32 here, so the
        size that is asked for is changed until the other matrices have the bits."""
        path = self.work / f"plan-{bits}.yaml"
        size = round(sum(shape[0] * shape[1] for _, shape, _, _ in self.tensors.values()
                         if len(shape) == 2) * bits / 8 + 260000)
        for _ in range(PLANS_AT_MOST):
            self.run("plan", self.arguments.checkpoint, "--size", size, "--quiet", "-o", path,
                     "--force", "--curves", self.work / "curves.json", *self.learn, "--set",
                     "budget.pairs=false", "--set", "budget.samples=8", "--set",
                     "budget.rounds=1")
            report = json.loads(self.run("plan", self.arguments.checkpoint, "--recipe", path,
                                         "--json"))
            found = sum(t["bytes"] for t in report["tensors"] if t["name"] in self.squares)
            print(f"plan for {size} bytes: {8 * found / self.weights:.3f} bits", file=sys.stderr)
            missing = bits - 8 * found / self.weights
            if 0 <= missing < 0.06:
                break
            size += round((missing - 0.02) * self.weights / 8)
        return self.ours(self.products_of(path))

    def products_of(self, path):
        """The same plan, with the embedding and the lora matrices in f32."""
        dense = '{match: "emb.weight", codec: f32}'
        lines = []
        for line in path.read_text().splitlines():
            if "lora_codec:" in line:
                line = line.split("lora_codec:")[0] + "lora_codec: f32"
            if "match: \"emb.weight\"" not in line:
                lines.append(line)
            if line.strip() == "overrides:":
                lines.append(line.split("overrides:")[0] + "  - " + dense)
        if not any(dense in line for line in lines):
            lines.append(f"      overrides: [{dense}]")
        other = path.with_suffix(".products.yaml")
        other.write_text("\n".join(lines) + "\n")
        return other


def best_of(theirs, bits):
    """The type of least KL of at most these bits; if there is none, the smallest one."""
    fitting = [row for row in theirs if row["bits"] <= bits + 1e-9]
    return min(fitting, key=lambda row: row["kl"]) if fitting else min(
        theirs, key=lambda row: row["bits"])


def table(title, rows, peers):
    """Markdown; `peers` are (heading, rows to divide by)."""
    print(f"| {title} | bits per weight | KL | first choice kept |" +
          "".join(f" {heading} |" for heading, _ in peers))
    print("| --- | --- | --- | --- |" + " --- |" * len(peers))
    for row in rows:
        cells = []
        for _, theirs in peers:
            other = best_of(theirs, row["bits"]) if theirs else None
            cells.append(f" {row['kl'] / other['kl']:.2f} of {other['name']} ({other['bits']:.2f}) |"
                         if other and other["name"] != row["name"] else " |")
        print(f"| {row['name']} | {row['bits']:.3f} | {row['kl']:.5f} +- {row['error']:.5f} | "
              f"{100 * row['agreement']:.1f} % |" + "".join(cells))
    print()


def main():
    parser = argparse.ArgumentParser()
    for name in ("press", "checkpoint", "work"):
        parser.add_argument(name)
    for name in ("vocab", "calibration", "text"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ggml")
    parser.add_argument("--rows", default="theirs,pure,mixed,planned")
    parser.add_argument("--plans", default="3.3,3.6,4.1,4.6")
    parser.add_argument("--samples", default="64")
    parser.add_argument("--length", default="256")
    parser.add_argument("--max-tokens", default="10240")
    parser.add_argument("--quick", action="store_true")
    bench = Bench(parser.parse_args())
    arguments = bench.arguments
    kinds = arguments.rows.split(",")
    few = 2 if arguments.quick else None
    types, mixes, baselines, pure, planned = [], [], [], [], []
    if "theirs" in kinds and arguments.ggml:
        ggml = Ggml(arguments.ggml)
        for name in PURE[:few]:
            types.append(bench.kept(name, "type", lambda n=name: bench.theirs(ggml, n, n)))
        for name in PURE[:few]:
            head = MIXED_HEAD.get(name, "q6_k")
            mixes.append(bench.kept(f"{name} head {head}", "mix",
                                    lambda n=name, h=head: bench.theirs(ggml, n, h)))
    if "pure" in kinds:
        for name in ("gptvq", "gptq_uniform"):
            for codec in ("lut3", "lut4")[:1 if few else None]:
                run = (lambda c=codec: bench.gptvq(c)) if name == "gptvq" else (
                    lambda c=codec: bench.pure(c, "gptq_uniform"))
                baselines.append(bench.kept(f"{name} {codec[3]} bits", "baseline", run))
        for codec in ("lut3", "lut4", "lut5", "lut2")[:1 if few else None]:
            for quantizer in QUANTIZERS[:few]:
                pure.append(bench.kept(f"{codec} {quantizer}", "pure",
                                       lambda c=codec, q=quantizer: bench.pure(c, q)))
    if "mixed" in kinds:
        for codec, head in OUR_MIXES[:1 if few else None]:
            planned.append(bench.kept(f"{codec}, head {head}", "mixed",
                                      lambda c=codec, h=head: bench.mixed(c, h)))
    if "planned" in kinds:
        for bits in arguments.plans.split(",")[:few]:
            planned.append(bench.kept(f"planned {bits}", "planned",
                                      lambda b=float(bits): bench.planned(b)))
    vq = [row for row in baselines if row["name"].startswith("gptvq")]
    table("llama.cpp, imatrix", types + mixes, [])
    table("RWKVQuant's", baselines, [])
    table("one codec", pure, [("of its best type of at most these bits", types),
                              ("of GPTVQ", vq)])
    table("more bits for some", planned, [("of its best mix of at most these bits", mixes),
                               ("of GPTVQ", vq)])


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"compare_quantizers.py: error: {failure}")
