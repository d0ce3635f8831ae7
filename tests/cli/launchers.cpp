// rwkv-press started by real launchers, as the documentation says it.
#include <unistd.h>

#include <filesystem>

#include "tests/cli/checks.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

// Runs `words` by the shell, with the script and rwkv-press as variables.
RunResult run_line(const std::string& line, const ScratchFolder& scratch) {
  return run("/bin/bash",
             {"-c", "export RWKV_PRESS_THREADS=1; cd \"$0\" && press=$1 && slurm=$2 && " + line,
              scratch.path().string(), executable("rwkv-press"), RWKV_SLURM_NODE});
}

bool has(const std::string& program, const ScratchFolder& scratch) {
  return run_line("command -v " + program + " > /dev/null", scratch).exit_code == 0;
}

// A machine's Slurm in namespaces of its own.
bool has_slurm(const char* title, const ScratchFolder& scratch) {
  std::string missing;
  for (const char* program : {"slurmctld", "slurmd", "munged", "srun", "unshare", "ip"}) {
    missing += has(program, scratch) ? "" : std::string(" ") + program;
  }
  if (missing.empty() && ::geteuid() == 0 &&
      run_line("unshare --net --mount --pid --fork true", scratch).exit_code == 0) {
    return true;
  }
  fmt::print(stderr, "SKIPPED {}: {}\n", title,
             missing.empty() ? "namespaces need root" : "there is no" + missing);
  return false;
}

void write_inputs(const ScratchFolder& scratch) {
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    text += fmt::format("{} squared is {}.\n", i % 97, (i % 97) * (i % 97));
  }
  write_text(scratch.file("text.txt"), text);
  write_text(scratch.file("two.yaml"),
             "seed: 3\nmodel: {version: v5.2, n_layer: 1, n_embd: 64, n_vocab: 256, dim_ffn: 64}\n"
             "train: {steps: 6, batch: 4, micro_batch: 1, length: 32, precision: fp32}\n");
}

constexpr const char* kTrain = "\"$press\" train --config two.yaml --data text.txt --vocab bytes ";

// Two processes by a launcher give the bytes that two by hand give.
void check_trains_as_by_hand(const std::string& launcher, const ScratchFolder& scratch) {
  const RunResult launched = run_line(launcher + " " + kTrain + "-o launched.pth", scratch);
  INFO(launched.err);
  REQUIRE(launched.exit_code == 0);
  CHECK_THAT(launched.err, Contains("in 2 processes"));
  const RunResult by_hand = run_line(
      std::string("export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29563; RANK=1 ") + kTrain +
          "-o by_hand.pth & RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29563 " + kTrain +
          "-o by_hand.pth && wait",
      scratch);
  INFO(by_hand.err);
  REQUIRE(by_hand.exit_code == 0);
  CHECK(read_bytes(scratch.file("launched.pth")) == read_bytes(scratch.file("by_hand.pth")));
}

}  // namespace

TEST_CASE("mpirun starts a training of two processes", "[launchers]") {
  const ScratchFolder scratch;
  if (!has("mpirun", scratch)) {
    fmt::print(stderr, "SKIPPED a training by mpirun: it is not installed\n");
    return;
  }
  write_inputs(scratch);
  const std::string as_root = ::geteuid() == 0 ? " --allow-run-as-root" : "";
  check_trains_as_by_hand("mpirun -np 2 --oversubscribe" + as_root, scratch);
}

TEST_CASE("srun starts a training of two processes", "[launchers]") {
  const ScratchFolder scratch;
  if (!has_slurm("a training by srun", scratch)) {
    return;
  }
  write_inputs(scratch);
  fs::create_directory(scratch.file("slurm"));
  check_trains_as_by_hand("\"$slurm\" \"$PWD/slurm\" srun --ntasks 2 --overcommit", scratch);
}

TEST_CASE("An array job of Slurm trains the blocks as one process does", "[launchers]") {
  const ScratchFolder scratch;
  if (!has_slurm("blocks by sbatch", scratch)) {
    return;
  }
  write_inputs(scratch);
  fs::create_directory(scratch.file("slurm"));
  write_text(scratch.file("r.yaml"),
             "name: r\nstages:\n  - train: {mode: blocks, from: teacher, block_steps: 3, steps: 0, "
             "batch: 2, length: 32}\n");
  output_of("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "2", "--n-embd", "64",
                           "--n-vocab", "256", "--quiet", "-o", scratch.file("m.pth")});
  const std::string convert =
      "convert m.pth --recipe r.yaml --vocab bytes --train-data text.txt --train-threads 1 "
      "--quiet ";
  write_text(scratch.file("job.sh"), "#!/bin/bash\n\"$RWKV_PRESS\" " + convert +
                                         "-o array.gguf --shard $SLURM_ARRAY_TASK_ID/2\n");
  const RunResult job = run_line(
      "RWKV_PRESS=$press \"$slurm\" \"$PWD/slurm\" sbatch --wait --array=1-2 --cpus-per-task=1 "
      "--mem=0 job.sh; cat slurm-*.out >&2; \"$press\" " +
          convert + "-o array.gguf --resume && \"$press\" " + convert + "-o alone.gguf",
      scratch);
  INFO(job.err);
  REQUIRE(job.exit_code == 0);
  CHECK(fs::exists(scratch.file("array.gguf.work/blocks/part-2-of-2")));
  CHECK(read_bytes(scratch.file("array.gguf")) == read_bytes(scratch.file("alone.gguf")));
}

TEST_CASE("An array job of Slurm sweeps as one process does", "[launchers]") {
  const ScratchFolder scratch;
  if (!has_slurm("a sweep by sbatch", scratch)) {
    return;
  }
  write_inputs(scratch);
  fs::create_directory(scratch.file("slurm"));
  write_text(scratch.file("sweep.yaml"),
             "stages: [quantize]\naxes: {quantize.codec: [f16, i8_row]}\nreferences: false\n"
             "evaluate: {text: [text.txt], max_tokens: 20, speed: false}\n");
  output_of("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "1", "--n-embd", "64",
                           "--n-vocab", "256", "--quiet", "-o", scratch.file("m.pth")});
  const std::string sweep = "m.pth --config sweep.yaml --vocab bytes --quiet --keep-models -o ";
  const RunResult job = run_line(
      "RWKV_PRESS=$press \"$slurm\" \"$PWD/slurm\" sbatch --wait --array=1-2 --cpus-per-task=1 "
      "--mem=0 " RWKV_SOURCE "/scripts/sweep_slurm.sh " +
          sweep + "array; cat rwkv-sweep-*.log >&2",
      scratch);
  INFO(job.err);
  REQUIRE(fs::exists(scratch.file("array/results.csv")));
  const RunResult alone = run_line("\"$press\" sweep " + sweep + "alone", scratch);
  INFO(alone.err);
  REQUIRE(alone.exit_code == 0);
  size_t n = 0;
  for (const auto& entry : fs::directory_iterator(scratch.file("alone/points"))) {
    const std::string model = entry.path().filename().string() + "/model.gguf";
    CHECK(read_bytes(scratch.file("array/points/" + model)) ==
          read_bytes(scratch.file("alone/points/" + model)));
    ++n;
  }
  CHECK(n == 2);
}
