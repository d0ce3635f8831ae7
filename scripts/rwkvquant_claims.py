#!/usr/bin/env python3
"""RWKVQuant's claims (arXiv 2505.03803) tried on a model: the tables of docs/quality.md.

Usage: rwkvquant_claims.py PRESS CHECKPOINT WORK --vocab V --calibration F --text F [--bits 3,4]
                           [--selectors proxy,kl] [--samples N] [--length N] [--max-tokens N]

PRESS is rwkv-press. Every matrix but the embedding gets codes of so many bits, by one quantizer or by
one of two that a selector chooses; the values of the codes are compared with the checkpoint over the
text, which must be other text than that of the calibration. Selectors must have kl among them, which
measures both quantizers of each matrix. Prints Markdown. What was measured is kept in WORK and not
measured again.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

ALONE = ("gptq_uniform", "gptq", "gptvq_table", "gptvq", "refined")
SELECTORS = ("proxy", "proxy_unique", "crest", "output_error", "kl")
CODEBOOKS = ("gptvq_table", "gptvq")
PROXIES = ("coarse", "fine", "unique coarse", "unique fine", "crest")
NUMBER = r"([-+.0-9e]+)"


class Claims:
    """The executable, the model and its texts; results by the name of a recipe."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)

    def run(self, *command):
        """Standard output and standard error of a command that must work."""
        done = subprocess.run([self.arguments.press, *map(str, command)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            sys.exit(f"rwkvquant_claims.py: error: {' '.join(map(str, command))}: "
                     f"{done.stderr.decode()}")
        return done.stdout.decode(), done.stderr.decode()

    def result(self, name, bits, keys):
        """The distance of a recipe's model from the checkpoint, and what its conversion printed."""
        kept = self.work / f"{name}.json"
        if not kept.exists():
            recipe, packed, decoded = (self.work / f"{name}.{end}" for end in ("yaml", "gguf", "f32"))
            recipe.write_text(
                f"name: {name}\n"
                f"calibration: {{samples: {self.arguments.samples}, length: {self.arguments.length}}}\n"
                f"stages:\n  - quantize: {{codec: lut{bits}, min_numbers: 0, {keys}, "
                "overrides: [{match: emb.weight, codec: f16}]}\n")
            _, report = self.run("convert", self.arguments.checkpoint, "-o", packed, "--force",
                                 "--recipe", recipe, "--vocab", self.arguments.vocab,
                                 "--calibration", self.arguments.calibration)
            # The runtime rounds the inputs of codes, but not those of values in f16.
            self.run("convert", packed, "-o", decoded, "--force", "--quiet", "--preset", "fp32",
                     "--allow-requantize")
            scores, _ = self.run("eval", decoded, "--vocab", self.arguments.vocab, "--text",
                                 self.arguments.text, "--reference", self.arguments.checkpoint,
                                 "--max-tokens", self.arguments.max_tokens, "--json", "--quiet")
            score = json.loads(scores)[0]["texts"][0]
            packed.unlink()
            decoded.unlink()
            kept.write_text(json.dumps({"kl": score["kl"], "error": score["kl_standard_error"],
                                        "report": report}))
        return json.loads(kept.read_text())


def matrices_of(report):
    """What a selector printed of each matrix: name, bytes of both, and which it chose."""
    line = re.compile(r"^(\S+): coarse .*; bytes (\d+) and (\d+): (\w+)$", re.MULTILINE)
    return [(name, int(scalar), int(codebook), choice)
            for name, scalar, codebook, choice in line.findall(report)]


def correlations_of(report):
    """By measure: for how many matrices the codebook is better, and correlations of the proxies."""
    line = re.compile(rf"quantize: by ([\w ]+), the codebook is better for (\d+) of (\d+); rank "
                      rf"correlation with that of coarse {NUMBER}, fine {NUMBER}, unique coarse "
                      rf"{NUMBER}, unique fine {NUMBER}, crest {NUMBER}")
    return {found[0]: found[1:] for found in line.findall(report)}


def losses(claims, bits):
    """Rows of the table of losses: name, codebooks, bytes, result."""
    hybrids = {}
    for codebook in CODEBOOKS:
        for selector in claims.arguments.selectors.split(","):
            hybrids[selector, codebook] = claims.result(
                f"{bits}-{selector}-{codebook}", bits, f"selector: {selector}, codebook: {codebook}")
    sizes = {}
    for codebook in CODEBOOKS:
        matrices = matrices_of(hybrids["kl", codebook]["report"])
        sizes[codebook] = sum(size for _, _, size, _ in matrices)
        sizes["lut"] = sum(size for _, size, _, _ in matrices)
    rows = []
    for quantizer in ALONE:
        size = sizes.get(quantizer, sizes["lut"])
        rows.append((f"`{quantizer}` alone", "", size,
                     claims.result(f"{bits}-{quantizer}", bits, f"quantizer: {quantizer}")))
    for (selector, codebook), result in hybrids.items():
        matrices = matrices_of(result["report"])
        chosen = [choice == "codebook" for _, _, _, choice in matrices]
        size = sum(matrix[2] if is_codebook else matrix[1]
                   for matrix, is_codebook in zip(matrices, chosen))
        rows.append((f"`{selector}`, `gptq_uniform` or `{codebook}`",
                     f"{sum(chosen)} of {len(chosen)}", size, result))
    return rows, hybrids


def main():
    parser = argparse.ArgumentParser()
    for name in ("press", "checkpoint", "work"):
        parser.add_argument(name)
    for name in ("vocab", "calibration", "text"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bits", default="3,4")
    parser.add_argument("--selectors", default=",".join(SELECTORS))
    parser.add_argument("--samples", default="64")
    parser.add_argument("--length", default="256")
    parser.add_argument("--max-tokens", default="10240")
    claims = Claims(parser.parse_args())
    if "kl" not in claims.arguments.selectors.split(","):
        parser.error("--selectors: expected kl among them")
    correlated = []
    for bits in claims.arguments.bits.split(","):
        rows, hybrids = losses(claims, bits)
        print(f"| {bits} bits | codebooks | bytes | KL |\n| --- | --- | --- | --- |")
        for name, codebooks, size, result in rows:
            print(f"| {name} | {codebooks} | {size:,} | {result['kl']:.4f} +- {result['error']:.4f} |")
        print()
        for codebook in CODEBOOKS:
            for measure, found in correlations_of(hybrids["kl", codebook]["report"]).items():
                correlated.append((bits, codebook, measure, *found))
    print(f"| bits, codebook, benefit by | better for | {' | '.join(PROXIES)} |")
    print("| --- | --- |" + " --- |" * len(PROXIES))
    for bits, codebook, measure, better, of_all, *values in correlated:
        print(f"| {bits}, `{codebook}`, {measure} | {better} of {of_all} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
