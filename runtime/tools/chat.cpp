// rwkv-edge chat: talks with a model on a terminal, or answers the lines of a pipe.
#include <cstdlib>

#include "formats/cli/command.h"
#include "formats/cli/option_table.h"
#include "runtime/text/prompt.h"
#include "runtime/tools/chat_commands.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/interrupt.h"
#include "runtime/tools/prompt_progress.h"

namespace rwkv::edge {
namespace {

// What the author of the models chats with.
constexpr SamplerOptions chat_sampling() {
  SamplerOptions options;
  options.top_p = 0.3f;
  options.presence_penalty = 0.5f;
  options.frequency_penalty = 0.5f;
  return options;
}

Result<const ChatTemplate*> template_from(const cxxopts::ParseResult& arguments,
                                          const Model& model) {
  if (arguments.count("template") == 0) {
    return &model.chat_template();
  }
  return chat_template_named(arguments["template"].as<std::string>(), "--template");
}

Result<std::string> system_from(const cxxopts::ParseResult& arguments) {
  if (arguments.count("system") > 0 && arguments.count("system-file") > 0) {
    return usage_error("expected either --system or --system-file, found both");
  }
  if (arguments.count("system-file") > 0) {
    RWKV_ASSIGN(std::string bytes, text_from(arguments, "system-file"));
    auto text = prompt_in_file(std::move(bytes));
    return text.ok() ? std::move(text)
                     : text.status().in(arguments["system-file"].as<std::string>());
  }
  std::vector<std::string> unknown;
  return arguments.count("system") > 0
             ? replace_escapes(arguments["system"].as<std::string>(), unknown)
             : std::string();
}

Status greet(const cxxopts::ParseResult& arguments, const Conversation& chat, unsigned n_threads,
             const LineReader& reader) {
  const ChatTemplate& form = chat.chat_template();
  const bool is_chosen = arguments.count("template") > 0;
  const std::string editor = reader.editor();
  say_decisions(arguments, chat.session().model(), n_threads,
                {fmt::format("template {}{}", form.name, is_chosen ? "" : " (see --template)"),
                 seed_note(chat.sampler()), editor.empty() ? "" : "lines edited with " + editor});
  if (reads_terminal()) {
    say(arguments, "/help lists what else can be typed; Ctrl-C stops an answer, Ctrl-D ends");
  }
  return {};
}

}  // namespace

void declare_chat(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  options.add_options()("template",
                        "How turns are written (default: as the file says, or as its name and "
                        "vocabulary suggest)",
                        cxxopts::value<std::string>(),
                        chat_template_names())("system", "Text before all turns; \\n is a new line",
                                               cxxopts::value<std::string>(), cli::kTextArgument)(
      "system-file", "Read it from a file", cxxopts::value<std::string>(), "FILE")(
      "load", "Go on with a conversation that /save wrote", cxxopts::value<std::string>(), "FILE")(
      "n,n-predict,predict", "Number of tokens of an answer at most",
      cxxopts::value<std::string>()->default_value("1000"),
      "N")("no-editing", "Read lines as the terminal gives them, without history and editing");
  declare_sampling_options(options, chat_sampling());
  options.add_options()(
      "c,ctx-size",
      "Understood and ignored: the memory of these models does not grow with the text",
      cxxopts::value<std::string>(), "N");
}

Status run_chat(const cxxopts::ParseResult& arguments) {
  SessionOptions options;
  RWKV_ASSIGN(options.n_threads, threads_from(arguments));
  ConversationOptions chat_options;
  RWKV_ASSIGN(chat_options.sampler, sampler_from(arguments));
  RWKV_ASSIGN(const int64_t n_tokens, cli::integer(arguments, "n", 1, INT32_MAX));
  chat_options.max_tokens = static_cast<size_t>(n_tokens);
  RWKV_ASSIGN(const std::string system, system_from(arguments));
  if (!system.empty() && arguments.count("load") > 0) {
    return usage_error(
        "expected either a system prompt or --load, which brings its own, found both");
  }
  RWKV_ASSIGN(const auto model, model_from(arguments));
  RWKV_ASSIGN(chat_options.chat_template, template_from(arguments, *model));
  RWKV_ASSIGN(auto session, Session::create(model, options));
  RWKV_ASSIGN(const auto conversation, Conversation::create(std::move(session), chat_options));

  const CatchInterrupts interrupts(false);
  const bool quiet = arguments.count("quiet") > 0;
  if (arguments.count("load") > 0) {
    RWKV_TRY(conversation->load(arguments["load"].as<std::string>(), arguments.count("seed") > 0));
  }
  const auto reader = LineReader::for_standard_input(arguments.count("no-editing") == 0);
  RWKV_TRY(greet(arguments, *conversation, options.n_threads, *reader));
  Chat chat(*conversation, *reader, quiet);
  if (!system.empty()) {
    RWKV_TRY(chat.set_system(system));
  }
  return chat.run();
}

}  // namespace rwkv::edge
