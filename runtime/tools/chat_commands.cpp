#include "runtime/tools/chat_commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

#include "formats/base/byte_size.h"
#include "formats/base/nearest.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/interrupt.h"
#include "runtime/tools/prompt_progress.h"

namespace rwkv::edge {
namespace {

using Clock = std::chrono::steady_clock;

struct ChatCommand {
  std::string_view name;
  std::string_view argument;
  std::string_view summary;
  Status (Chat::*run)(const std::string& argument);
};

constexpr ChatCommand kCommands[] = {
    {"/retry", "", "answer the last message again", &Chat::retry},
    {"/undo", "", "take back the last message and its answer", &Chat::undo},
    {"/reset", "", "forget everything but the system prompt", &Chat::reset},
    {"/system", "TEXT", "begin again with this text before all turns; without TEXT, show it",
     &Chat::system},
    {"/save", "FILE", "keep the conversation, with the model's memory of it, in a file",
     &Chat::save},
    {"/load", "FILE", "go on with a conversation from a file", &Chat::load},
    {"/set", "NAME VALUE", "change how tokens are chosen; without NAME, show it", &Chat::set},
    {"/stats", "", "speed, and where memory is used", &Chat::stats},
    {"/memory", "SIZE", "streamed weights: go on within so much memory", &Chat::memory},
    {"/help", "", "this list", &Chat::help},
    {"/quit", "", "end; so do Ctrl-D, and Ctrl-C twice", &Chat::quit},
};

/// The name of the command that a line begins with; empty for a message. Paths and fractions begin
/// with a slash too, but not with a slash and one word of letters.
std::string_view command_word(std::string_view typed) {
  const std::string_view word = typed.substr(0, typed.find_first_of(" \t\n"));
  const bool is_word =
      word.size() > 1 && word[0] == '/' &&
      word.find_first_not_of("abcdefghijklmnopqrstuvwxyz", 1) == std::string_view::npos;
  return is_word ? word : std::string_view();
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  return begin == std::string_view::npos
             ? std::string()
             : std::string(text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin));
}

/// The path that was typed, with the home folder for "~".
Result<std::string> path_from(const std::string& argument, std::string_view command) {
  if (argument.empty()) {
    return usage_error("{} expects the name of a file, found none", command);
  }
  const char* home = std::getenv("HOME");
  return argument.starts_with("~/") && home ? home + argument.substr(1) : argument;
}

/// A setting of /set, as a number.
struct Setting {
  std::string_view name;
  double low, high;
  double (*get)(const Conversation& chat);
  void (*change)(SamplerOptions& sampler, size_t& max_tokens, double value);
};

constexpr Setting kSettings[] = {
    {"temp", 0, 100, [](const Conversation& c) { return double{c.sampler().temperature}; },
     [](SamplerOptions& s, size_t&, double v) { s.temperature = static_cast<float>(v); }},
    {"top-p", 0, 1, [](const Conversation& c) { return double{c.sampler().top_p}; },
     [](SamplerOptions& s, size_t&, double v) { s.top_p = static_cast<float>(v); }},
    {"top-k", 0, INT32_MAX,
     [](const Conversation& c) { return static_cast<double>(c.sampler().top_k); },
     [](SamplerOptions& s, size_t&, double v) { s.top_k = static_cast<int>(v); }},
    {"presence", -100, 100,
     [](const Conversation& c) { return double{c.sampler().presence_penalty}; },
     [](SamplerOptions& s, size_t&, double v) { s.presence_penalty = static_cast<float>(v); }},
    {"frequency", -100, 100,
     [](const Conversation& c) { return double{c.sampler().frequency_penalty}; },
     [](SamplerOptions& s, size_t&, double v) { s.frequency_penalty = static_cast<float>(v); }},
    {"penalty-decay", 0, 1, [](const Conversation& c) { return double{c.sampler().penalty_decay}; },
     [](SamplerOptions& s, size_t&, double v) { s.penalty_decay = static_cast<float>(v); }},
    {"seed", 0, 9007199254740991.0,
     [](const Conversation& c) { return static_cast<double>(c.sampler().seed); },
     [](SamplerOptions& s, size_t&, double v) { s.seed = static_cast<uint64_t>(v); }},
    {"n", 1, INT32_MAX, [](const Conversation& c) { return static_cast<double>(c.max_tokens()); },
     [](SamplerOptions&, size_t& n, double v) { n = static_cast<size_t>(v); }},
};

std::string first_line(std::string_view text) {
  constexpr size_t kShown = 40;
  const std::string_view line = text.substr(0, text.find('\n'));
  return line.size() == text.size() && line.size() <= kShown
             ? std::string(line)
             : std::string(line.substr(0, kShown)) + "...";
}

}  // namespace

bool reads_terminal() {
  return ::isatty(STDIN_FILENO) != 0;
}

Chat::Chat(Conversation& conversation, LineReader& reader, bool quiet)
    : conversation_(conversation), reader_(reader), quiet_(quiet) {}

void Chat::note(const std::string& text) const {
  if (!quiet_) {
    cli::print(stderr, "{}\n", text);
  }
}

Status Chat::run() {
  bool was_interrupted = false;
  while (!is_over_) {
    std::string typed;
    CatchInterrupts::clear();
    const LineReader::End end = reader_.read("> ", typed);
    if (end == LineReader::End::EndOfInput) {
      break;
    }
    if (end == LineReader::End::Interrupted) {
      std::fputs("\n", stdout);
      if (was_interrupted || !reads_terminal()) {
        break;
      }
      was_interrupted = true;
      note("Ctrl-C again, or Ctrl-D, ends");
      continue;
    }
    was_interrupted = false;
    if (trimmed(typed).empty()) {
      continue;
    }
    CatchInterrupts::clear();
    const Status status = take(typed);
    if (std::ferror(stdout) != 0) {
      return failed("cannot write the answer to stdout");
    }
    if (!status.ok()) {
      cli::print(stderr, "error: {}\n", printable(status.message()));
    }
  }
  if (reads_terminal()) {
    std::fputs("\n", stdout);
  }
  return {};
}

Status Chat::take(const std::string& typed) {
  const std::string_view word = command_word(typed);
  if (word.empty()) {
    return say(typed);
  }
  std::vector<std::string_view> names;
  for (const ChatCommand& command : kCommands) {
    if (command.name == word) {
      return (this->*command.run)(trimmed(std::string_view(typed).substr(word.size())));
    }
    names.push_back(command.name);
  }
  return usage_error("unknown command '{}'{}", word, suggestion(word, names));
}

template <typename Ask>
Status Chat::print_answer(const Ask& ask) {
  const ChatTemplate& form = conversation_.chat_template();
  std::optional<PromptProgress> progress;
  const auto start = Clock::now();
  auto begin = start;
  const auto on_read = [&](size_t n_done, size_t n_tokens) {
    if (!progress) {
      progress.emplace(n_tokens, quiet_);
    }
    progress->update(n_done);
    return !CatchInterrupts::requested();
  };
  std::string_view shown_first = form.answer_begin;
  shown_first.remove_prefix(std::min(shown_first.find_first_not_of(' '), shown_first.size()));
  // Answers begin with the blank that stands after "Assistant:".
  bool skips_blanks = form.joins_blank_lines && shown_first.empty();
  bool has_begun = false;
  const auto on_text = [&](std::string_view text) {
    if (!has_begun) {
      has_begun = true;
      begin = Clock::now();
      progress.reset();
      cli::print_text(shown_first);
    }
    while (skips_blanks && !text.empty() && (text[0] == ' ' || text[0] == '\n')) {
      text.remove_prefix(1);
    }
    skips_blanks = skips_blanks && text.empty();
    cli::print_text(text);
    return std::fflush(stdout) == 0 && !CatchInterrupts::requested();
  };
  const Result<StopReason> reason = ask(on_read, on_text);
  progress.reset();
  if (has_begun) {
    read_seconds_ += std::chrono::duration<double>(begin - start).count();
    write_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);
  RWKV_TRY(reason.status());
  if (reason.value() == StopReason::MaxTokens) {
    note(fmt::format("(stopped after {} tokens; /set n changes that)", conversation_.max_tokens()));
  }
  return {};
}

Status Chat::say(const std::string& message) {
  return print_answer(
      [&](const Conversation::OnRead& on_read, const Conversation::OnText& on_text) {
        return conversation_.say(message, on_read, on_text);
      });
}

Status Chat::retry(const std::string&) {
  return print_answer(
      [&](const Conversation::OnRead& on_read, const Conversation::OnText& on_text) {
        return conversation_.retry(on_read, on_text);
      });
}

Status Chat::undo(const std::string&) {
  if (conversation_.turns().empty()) {
    return usage_error("there is no turn to take back");
  }
  const std::string message = conversation_.turns().back().user;
  RWKV_ASSIGN(const bool is_back,
              conversation_.undo([&](size_t, size_t) { return !CatchInterrupts::requested(); }));
  if (is_back) {
    note(fmt::format("took back: {}", first_line(message)));
  }
  return {};
}

Status Chat::reset(const std::string&) {
  RWKV_TRY(conversation_.reset());
  note("everything but the system prompt is forgotten");
  return {};
}

Status Chat::set_system(const std::string& text) {
  std::optional<PromptProgress> progress;
  RWKV_ASSIGN(const bool is_read,
              conversation_.set_system(text, [&](size_t n_done, size_t n_tokens) {
                if (!progress) {
                  progress.emplace(n_tokens, quiet_);
                }
                progress->update(n_done);
                return !CatchInterrupts::requested();
              }));
  if (!is_read) {
    note("interrupted; the conversation is as it was");
  }
  return {};
}

Status Chat::system(const std::string& argument) {
  if (argument.empty()) {
    note(conversation_.system().empty() ? "there is no system prompt" : conversation_.system());
    return {};
  }
  return set_system(argument);
}

Status Chat::save(const std::string& argument) {
  RWKV_ASSIGN(const std::string path, path_from(argument, "/save"));
  RWKV_TRY(conversation_.save(path));
  note(fmt::format("{}: {} turns", path, conversation_.turns().size()));
  return {};
}

Status Chat::load(const std::string& argument) {
  RWKV_ASSIGN(const std::string path, path_from(argument, "/load"));
  RWKV_TRY(conversation_.load(path, false));
  note(fmt::format("{}: {} turns, template {}, {}", path, conversation_.turns().size(),
                   conversation_.chat_template().name, seed_note(conversation_.sampler())));
  return {};
}

Status Chat::set(const std::string& argument) {
  const std::string name = argument.substr(0, argument.find_first_of(" \t="));
  if (name.empty()) {
    for (const Setting& setting : kSettings) {
      note(fmt::format("{:<14} {:g}", setting.name, setting.get(conversation_)));
    }
    return {};
  }
  std::vector<std::string_view> names;
  for (const Setting& setting : kSettings) {
    names.push_back(setting.name);
    if (setting.name != name) {
      continue;
    }
    std::string text = trimmed(argument.substr(name.size()));
    text = text.starts_with('=') ? trimmed(text.substr(1)) : text;
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= setting.low) ||
        !(value <= setting.high)) {
      return usage_error("/set {}: expected a number from {:g} to {:g}, found '{}'", name,
                         setting.low, setting.high, text);
    }
    SamplerOptions sampler = conversation_.sampler();
    size_t max_tokens = conversation_.max_tokens();
    setting.change(sampler, max_tokens, value);
    return conversation_.set_options(sampler, max_tokens);
  }
  return usage_error("/set: unknown setting '{}'{}", name, suggestion(name, names));
}

Status Chat::stats(const std::string&) {
  const ConversationCounts counts = conversation_.counts();
  const auto speed = [](size_t n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
  };
  cli::print(stderr, "{} turns; {} tokens read, {:.1f} tokens/s; {} written, {:.1f} tokens/s\n",
             conversation_.turns().size(), counts.n_read, speed(counts.n_read, read_seconds_),
             counts.n_written, speed(counts.n_written, write_seconds_));
  cli::print(stderr, "{} for the states before turns, for /undo and /retry\n",
             cli::human_bytes(conversation_.kept_bytes()));
  print_account(conversation_.session().model().weights(), conversation_.session().n_evaluated());
  return {};
}

Status Chat::memory(const std::string& argument) {
  if (argument.empty()) {
    return usage_error("/memory expects a size such as 200MB, found none");
  }
  RWKV_ASSIGN(const uint64_t limit, parse_bytes(argument));
  const Model& model = conversation_.session().model();
  RWKV_TRY(model.plan_again({.limit = limit}));
  note(fmt::format("{:.1f} % of the weights stay in memory, {} in all",
                   100 * model.weights().residency().kept_share,
                   cli::human_bytes(model.weights().account().total())));
  return {};
}

Status Chat::help(const std::string&) {
  for (const ChatCommand& command : kCommands) {
    cli::print(stderr, "{:<18} {}\n", fmt::format("{} {}", command.name, command.argument),
               command.summary);
  }
  cli::print(stderr,
             "Alt-Enter, or a backslash at its end, goes on in the next line. Pasted text is one "
             "message.\n");
  return {};
}

Status Chat::quit(const std::string&) {
  is_over_ = true;
  return {};
}

}  // namespace rwkv::edge
