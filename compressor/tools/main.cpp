// rwkv-press: the offline tool. This file only lists the commands.
#include "compressor/numerics/spinning.h"
#include "compressor/tools/blas_check.h"
#include "compressor/tools/commands.h"
#include "formats/cli/command.h"

int main(int argc, char** argv) {
  using namespace rwkv;
  static constexpr cli::Command kCommands[] = {
      {"convert", "INPUT -o OUT.gguf", "Convert a checkpoint to a packed file, following a recipe",
       press::declare_convert, press::run_convert},
      {"calibrate", "INPUT -o STATS.safetensors",
       "Collect activation statistics from text, for use by convert", press::declare_calibrate,
       press::run_calibrate},
      {"train", "[INPUT] --config FILE -o OUT.pth", "Train a checkpoint, or a model from scratch",
       press::declare_train, press::run_train},
      {"eval", "MODEL... --text FILE", "Measure the quality of packed models", press::declare_eval,
       press::run_eval},
      {"plan", "INPUT", "Show what convert would do: codec and bytes per tensor",
       press::declare_plan, press::run_plan},
      {"recipes", "[NAME | KEYS]", "List presets with their cost and gain, or the keys of recipes",
       press::declare_recipes, press::run_recipes},
      {"sweep", "INPUT --config SWEEP.yaml -o DIR", "Convert and measure many recipes",
       press::declare_sweep, press::run_sweep},
      {"sweep-point", "", nullptr, press::declare_sweep_point, press::run_sweep_point},
      {"inspect", "FILE", "Show the contents of a checkpoint or packed file",
       press::declare_inspect, press::run_inspect},
      {"synth", "--arch V -o OUT.pth", "Write a checkpoint with random weights",
       press::declare_synth, press::run_synth},
      {"export", "INPUT -o OUT.pth", "Convert a checkpoint or packed file to .pth or .safetensors",
       press::declare_export, press::run_export},
  };
  static constexpr cli::Program kProgram = {"rwkv-press", "compress RWKV checkpoints", kCommands};
  press::set_up_threads();
  const press::SpinWatch spin_watch;
  press::warn_about_slow_blas();
  return cli::run_program(kProgram, argc, argv);
}
