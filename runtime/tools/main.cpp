// rwkv-edge: the runtime's executable. This file only lists the commands.
#include "formats/cli/command.h"
#include "runtime/tools/commands.h"

int main(int argc, char** argv) {
  using namespace rwkv;
  static constexpr cli::Command kCommands[] = {
      {"generate", "MODEL.gguf -p PROMPT", "Continue a prompt", edge::declare_generate,
       edge::run_generate},
      {"perplexity", "MODEL.gguf --text FILE", "Perplexity of a text", edge::declare_perplexity,
       edge::run_perplexity},
      {"logits", "MODEL.gguf --tokens FILE.i32 -o FILE.f32", "Write the logits after every token",
       edge::declare_logits, edge::run_logits},
      {"bench", "MODEL.gguf", "Measure speed, memory and bandwidth", edge::declare_bench,
       edge::run_bench},
      {"tokenize", "MODEL.gguf --text FILE", "Convert text to token ids", edge::declare_tokenize,
       edge::run_tokenize},
      {"detokenize", "MODEL.gguf --ids FILE", "Convert token ids to text", edge::declare_detokenize,
       edge::run_detokenize},
      {"inspect", "MODEL.gguf", "Show the contents of a packed file", edge::declare_inspect,
       edge::run_inspect},
      {"--list-kernels", "", "List the kernel sets, and which of them run here",
       edge::declare_list_kernels, edge::run_list_kernels},
  };
  static constexpr cli::Program kProgram = {"rwkv-edge", "run packed RWKV models", kCommands};
  return cli::run_program(kProgram, argc, argv);
}
