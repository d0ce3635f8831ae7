// rwkv-edge: the runtime's executable. This file only lists the commands.
#include <algorithm>
#include <filesystem>

#include "formats/cli/command.h"
#include "runtime/tools/commands.h"

namespace {

/// What "rwkv-edge MODEL" and options without a command mean: with a prompt to generate, else to
/// chat. Nothing for words that name neither a model nor an option.
std::string_view command_of(std::span<const std::string> words) {
  const std::string& first = words[0];
  std::error_code error;
  const bool is_model = first.ends_with(".gguf") || first.find('/') != std::string::npos ||
                        std::filesystem::exists(first, error);
  if (!is_model && !first.starts_with('-')) {
    return {};
  }
  const bool has_prompt = std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word.starts_with("-p") || word.starts_with("-f") || word.starts_with("--prompt") ||
           word == "--file" || word.starts_with("--file=");
  });
  return has_prompt ? "generate" : "chat";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace rwkv;
  static constexpr cli::Command kCommands[] = {
      {"chat", "MODEL.gguf", "Talk with a model", edge::declare_chat, edge::run_chat},
      {"generate", "MODEL.gguf -p PROMPT", "Continue a prompt", edge::declare_generate,
       edge::run_generate},
      {"perplexity", "MODEL.gguf --text FILE", "Perplexity of a text", edge::declare_perplexity,
       edge::run_perplexity},
      {"logits", "MODEL.gguf --tokens FILE.i32 -o FILE.f32", "Write the logits after every token",
       edge::declare_logits, edge::run_logits},
      {"bench", "MODEL.gguf", "Measure speed, memory and bandwidth", edge::declare_bench,
       edge::run_bench},
      {"profile", "MODEL.gguf -o FILE.json", "Measure how fast this device reads and computes",
       edge::declare_profile, edge::run_profile},
      {"tokenize", "MODEL.gguf --text FILE", "Convert text to token ids", edge::declare_tokenize,
       edge::run_tokenize},
      {"detokenize", "MODEL.gguf --ids FILE", "Convert token ids to text", edge::declare_detokenize,
       edge::run_detokenize},
      {"inspect", "MODEL.gguf", "Show the contents of a packed file", edge::declare_inspect,
       edge::run_inspect},
      {"--list-kernels", "", "List the kernel sets, and which of them run here",
       edge::declare_list_kernels, edge::run_list_kernels},
  };
  static constexpr cli::Program kProgram = {"rwkv-edge", "run packed RWKV models", kCommands,
                                            "MODEL.gguf   (to chat)", command_of};
  return cli::run_program(kProgram, argc, argv);
}
