#include "tests/cli/fault_commands.h"

#include <filesystem>

#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::test {

namespace fs = std::filesystem;

namespace {

void require_run(const char* program, const std::vector<std::string>& arguments) {
  const RunResult result = run(program, arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
}

std::vector<std::string> training(const std::string& in, const std::string& output) {
  return {"train",   "--config", in + "/train.yaml", "--data", in + "/text.txt",
          "--vocab", "bytes",    "--quiet",          "-o",     output};
}

// What a training that was interrupted after its second step has left.
void make_interrupted(const std::string& in) {
  const std::string folder = in + "/interrupted";
  fs::create_directory(folder);
  require_run("rwkv-press", training(in, folder + "/m.pth"));
  fs::remove(folder + "/m.pth");
  fs::remove(folder + "/m.pth.work/step-00000003.safetensors");
  REQUIRE(fs::exists(folder + "/m.pth.work/step-00000002.safetensors"));
}

}  // namespace

void make_fault_inputs(const std::string& in) {
  fs::create_directories(in);
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += fmt::format("{} squared is {}.\n", i, i * i);
  }
  write_text(in + "/text.txt", text);
  write_text(in + "/train.yaml",
             "seed: 3\nmodel: {version: v5.2, n_layer: 1, n_embd: 64, n_vocab: 256, dim_ffn: 64}\n"
             "train: {steps: 3, batch: 1, length: 16, lr: 0.002, warmup: 1, save_every: 1, "
             "precision: fp32}\n");
  write_text(in + "/recipe.yaml",
             "name: tiny\ncalibration: {samples: 2, length: 16}\nstages:\n"
             "  - low_rank: {factor: 8}\n  - quantize: {codec: i8_row, min_numbers: 0}\n");
  write_text(in + "/sweep.yaml",
             "name: tiny\ncalibration: {samples: 2, length: 16}\nstages:\n"
             "  - low_rank: {factor: 8}\n"
             "  - quantize: {codec: f16, min_numbers: 0}\naxes:\n  quantize.codec: [f16, i8_row]\n"
             "evaluate: {text: [text.txt], max_tokens: 20, speed: false}\nreferences: false\n");
  for (const char* name : {"/m.pth", "/m.safetensors"}) {
    require_run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "1", "--n-embd", "64",
                               "--n-vocab", "256", "--dim-ffn", "64", "--quiet", "-o", in + name});
  }
  require_run("rwkv-press",
              {"synth", "--arch", "v7", "--n-layer", "1", "--n-embd", "64", "--n-vocab", "256",
               "--dim-ffn", "64", "--quiet", "-o", in + "/v7.pth"});
  require_run("rwkv-press", {"convert", in + "/m.pth", "--vocab", "bytes", "--preset", "int8",
                             "--quiet", "-o", in + "/m.gguf"});
  fs::copy_file(in + "/m.gguf", in + "/streamed.gguf");
  write_bytes(in + "/tokens", std::vector<std::byte>(8));
  make_interrupted(in);
}

const std::vector<FaultCommand>& fault_commands() {
  static const char* const kPress = "rwkv-press";
  static const char* const kEdge = "rwkv-edge";
  static const std::vector<FaultCommand> kCommands = {
      {"convert, from .pth",
       kPress,
       {"convert", "IN/m.pth", "--vocab", "bytes", "--preset", "int8", "--quiet", "-o",
        "OUT/m.gguf"},
       {"m.gguf"}},
      {"convert, from .safetensors, with stages that learn",
       kPress,
       {"convert", "IN/m.safetensors", "--vocab", "bytes", "--recipe", "IN/recipe.yaml",
        "--calibration", "IN/text.txt", "--quiet", "-o", "OUT/m.gguf"},
       {"m.gguf"},
       {"--resume"},
       "",
       "m.gguf.work"},
      {"convert --json-log",
       kPress,
       {"convert", "IN/m.pth", "--vocab", "bytes", "--quiet", "--json-log", "OUT/log.jsonl", "-o",
        "OUT/m.gguf"},
       {"m.gguf"},
       {},
       "",
       "log.jsonl"},
      {"calibrate",
       kPress,
       {"calibrate", "IN/m.pth", "--vocab", "bytes", "--calibration", "IN/text.txt", "--samples",
        "2", "--length", "16", "--quiet", "-o", "OUT/s.safetensors"},
       {"s.safetensors"}},
      {"train",
       kPress,
       {"train", "--config", "IN/train.yaml", "--data", "IN/text.txt", "--vocab", "bytes",
        "--quiet", "-o", "OUT/m.pth"},
       {"m.pth"},
       {"--resume"},
       "",
       "m.pth.work"},
      {"train --resume",
       kPress,
       {"train", "--config", "IN/train.yaml", "--data", "IN/text.txt", "--vocab", "bytes",
        "--quiet", "--resume", "-o", "OUT/m.pth"},
       {"m.pth"},
       {},
       "interrupted",
       "m.pth.work"},
      {"sweep",
       kPress,
       {"sweep", "IN/m.pth", "--config", "IN/sweep.yaml", "--vocab", "bytes", "--calibration",
        "IN/text.txt", "--keep-models", "--quiet", "-o", "OUT/sweep"},
       {},
       {},
       "",
       "sweep",
       false,
       37},
      {"export, to .safetensors",
       kPress,
       {"export", "IN/m.pth", "--quiet", "-o", "OUT/m.safetensors"},
       {"m.safetensors"}},
      {"export, a packed file to .pth",
       kPress,
       {"export", "IN/m.gguf", "--quiet", "-o", "OUT/m.pth"},
       {"m.pth"}},
      {"export --to llama.cpp",
       kPress,
       {"export", "IN/v7.pth", "--to", "llama.cpp", "--type", "q4_0", "--vocab", "bytes", "--quiet",
        "-o", "OUT/m.gguf"},
       {"m.gguf"}},
      {"calibrate --imatrix",
       kPress,
       {"calibrate", "IN/v7.pth", "--vocab", "bytes", "--calibration", "IN/text.txt", "--samples",
        "2", "--length", "16", "--quiet", "--imatrix", "OUT/i.gguf"},
       {"i.gguf"}},
      {"synth",
       kPress,
       {"synth", "--arch", "v7", "--n-layer", "1", "--n-embd", "64", "--n-vocab", "64", "--quiet",
        "-o", "OUT/m.safetensors"},
       {"m.safetensors"}},
      {"generate --save-state",
       kEdge,
       {"generate", "IN/m.gguf", "-p", "1", "-n", "2", "-t", "1", "-q", "--seed", "1",
        "--save-state", "OUT/state.gguf"},
       {"state.gguf"},
       {},
       "",
       "",
       false},
      {"logits",
       kEdge,
       {"logits", "IN/m.gguf", "--tokens", "IN/tokens", "-t", "1", "-o", "OUT/l.f32"},
       {"l.f32"}},
      {"logits, streamed",
       kEdge,
       {"logits", "IN/streamed.gguf", "--tokens", "IN/tokens", "-t", "1", "--memory", "streamed",
        "-o", "OUT/l.f32"},
       {"l.f32"}},
  };
  return kCommands;
}

}  // namespace rwkv::test
