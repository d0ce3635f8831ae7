// rwkv-edge chat on a pseudo-terminal: what a person types, and what comes back.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "formats/base/utf8.h"
#include "formats/container/gguf_reader.h"
#include "tests/cli/run.h"
#include "tests/cli/terminal.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;

std::string bytes_model(const ScratchFolder& scratch) {
  TinyModelOptions options;
  options.vocabulary = TinyVocabulary::Bytes;
  options.n_vocab = 256;
  return write_tiny_model(scratch, options, "bytes.gguf");
}

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// The messages in a file that /save wrote.
std::vector<std::string> messages_in(const std::string& path) {
  const auto mapping = MappedFile::open(path);
  REQUIRE_OK(mapping.status());
  const auto file = GgufFile::parse(mapping.value()->bytes(), path);
  REQUIRE_OK(file.status());
  const auto messages = file.value().metadata().get_strings("chat.user");
  REQUIRE_OK(messages.status());
  return *messages.value();
}

/// With libedit where the machine has it, and without.
const Arguments kEditors[] = {{}, {"--no-editing"}};

}  // namespace

TEST_CASE("A model alone on a terminal chats; Ctrl-D and two Ctrl-C end it", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  for (const Arguments& editor : kEditors) {
    Terminal by_end(with({model, "-n", "5"}, editor));
    REQUIRE(by_end.reaches_prompt(1));
    CHECK_THAT(by_end.screen(), Contains("template none") && Contains("seed "));
    by_end.type("\x04");
    CHECK(by_end.wait() == 0);

    Terminal by_interrupts(with({"chat", model, "-n", "5"}, editor));
    REQUIRE(by_interrupts.reaches_prompt(1));
    by_interrupts.type("\x03");
    REQUIRE(by_interrupts.reaches_prompt(2));
    by_interrupts.type("\x03");
    CHECK(by_interrupts.wait() == 0);
  }
}

TEST_CASE("An answer is streamed, and Ctrl-C stops it and not the program", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  for (const Arguments& editor : kEditors) {
    Terminal chat(with({model, "-n", "100000000"}, editor));
    REQUIRE(chat.reaches_prompt(1));
    chat.type("go on\r");
    REQUIRE(chat.shows_answer(100));
    CHECK_FALSE(chat.screen().ends_with("> "));
    chat.type("\x03");
    REQUIRE(chat.reaches_prompt(2));
    chat.ask("/set n 3");
    CHECK(chat.ask("again").size() < 100);
    chat.ask("/save " + scratch.file("chat"));
    CHECK(messages_in(scratch.file("chat")) == std::vector<std::string>{"go on", "again"});
  }
}

TEST_CASE("Neither Ctrl-C nor another width ends a chat that waits for its terminal", "[cli]") {
  constexpr auto kMoment = std::chrono::milliseconds(100);
  const char* const stop_terminal = "\x13";
  const char* const go_on = "\x11";
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  for (const Arguments& editor : kEditors) {
    Terminal chat(with({model, "-n", "100000000"}, editor));
    REQUIRE(chat.reaches_prompt(1));
    chat.type("go on\r");
    REQUIRE(chat.shows_answer(100));
    chat.type(stop_terminal);
    std::this_thread::sleep_for(kMoment);  // until it waits in a write
    chat.resize(60);
    std::this_thread::sleep_for(kMoment);
    chat.type(go_on);
    REQUIRE(chat.shows_answer(chat.screen().size() + 10000));
    chat.type(stop_terminal);
    std::this_thread::sleep_for(kMoment);
    chat.type("\x03");
    REQUIRE(chat.reaches_prompt(2));
    CHECK_THAT(chat.ask("/set n 3"), !Contains("error"));
  }
}

TEST_CASE("/retry gives another answer, /undo and the same message the same one", "[cli]") {
  const ScratchFolder scratch;
  Terminal chat({bytes_model(scratch), "-n", "40", "--seed", "5", "--top-p", "1"});
  REQUIRE(chat.reaches_prompt(1));
  const std::string first = chat.ask("one");
  const std::string second = chat.ask("two");
  CHECK(chat.ask("/retry") != second);
  CHECK_THAT(chat.ask("/undo"), Contains("took back: two"));
  CHECK(chat.ask("two") == second);
  chat.ask("/undo");
  chat.ask("/undo");
  CHECK_THAT(chat.ask("/undo"), Contains("no turn to take back"));
  CHECK(chat.ask("one") == first);
  CHECK(chat.ask("two") == second);
  chat.ask("/reset");
  CHECK(chat.ask("one") == first);
  CHECK_THAT(chat.ask("/stats"), Contains("tokens read") && Contains("written"));
}

TEST_CASE("A conversation that was saved goes on as it would have", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  const std::string file = scratch.file("a chat");
  const Arguments options = {model, "-n", "40", "--top-p", "1", "--system", "Be brief.\\n"};
  std::string next, after;
  {
    Terminal chat(options);
    REQUIRE(chat.reaches_prompt(1));
    chat.ask("one");
    CHECK_THAT(chat.ask("/save " + file), Contains("1 turns"));
    next = chat.ask("two");
    chat.ask("/reset");
    after = chat.ask("three");
  }
  Terminal loaded({model, "-n", "40", "--top-p", "1", "--load", file});
  REQUIRE(loaded.reaches_prompt(1));
  CHECK(loaded.ask("two") == next);
  loaded.ask("/reset");
  CHECK(loaded.ask("three") == after);
  CHECK_THAT(loaded.ask("/load " + model), Contains("saved conversation"));
  CHECK_THAT(loaded.ask("/load " + file), Contains("1 turns"));
  CHECK(loaded.ask("two") == next);

  TinyModelOptions other;
  other.vocabulary = TinyVocabulary::Bytes;
  other.n_vocab = 256;
  other.seed = 2;
  const RunResult refused =
      run("rwkv-edge", {"chat", write_tiny_model(scratch, other, "other.gguf"), "--load", file});
  CHECK(refused.exit_code == 3);
  CHECK_THAT(refused.err, Contains("another model"));
}

TEST_CASE("What is typed and pasted arrives whole, in any window", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  const std::string file = scratch.file("chat");
  const std::string smile = "\xf0\x9f\x98\x80";
  const std::string wide = "\xe4\xbd\xa0\xe5\xa5\xbd";
  std::string longer;
  for (int i = 0; i < 30; ++i) {
    longer += "word" + std::to_string(i) + " ";
  }
  for (const Arguments& editor : kEditors) {
    Terminal chat(with({model, "-n", "3"}, editor), 40);
    REQUIRE(chat.reaches_prompt(1));
    chat.ask(longer + smile);
    chat.ask("\x1b[200~first\r\rthird " + wide + "\rfourth\x1b[201~ end");
    chat.ask("a" + smile + "x" + "\x7f" + wide);
    chat.ask("begun \\\rended");
    chat.resize(60);
    chat.ask(longer);
    chat.ask("/usr/bin is a folder");
    chat.ask("/save " + file);
    const std::vector<std::string> typed = messages_in(file);
    REQUIRE(typed.size() == 6);
    CHECK(typed[0] == longer + smile);
    CHECK(typed[1] == "first\n\nthird " + wide + "\nfourth end");
    CHECK(typed[2] == "a" + smile + wide);
    CHECK(typed[3] == "begun \nended");
    CHECK(typed[4] == longer);
    CHECK(typed[5] == "/usr/bin is a folder");
  }
}

TEST_CASE("History brings messages back", "[cli]") {
  const ScratchFolder scratch;
  Terminal chat({bytes_model(scratch), "-n", "3"});
  REQUIRE(chat.reaches_prompt(1));
  if (chat.screen().find("libedit") == std::string::npos) {
    WARN("skipped: this machine has no libedit");
    return;
  }
  chat.ask("one");
  chat.ask("two");
  chat.ask("\x1b[A\x1b[A more");  // twice up
  chat.ask("/save " + scratch.file("chat"));
  CHECK(messages_in(scratch.file("chat")) == std::vector<std::string>{"one", "two", "one more"});
}

TEST_CASE("A conversation or a state replaces its like, and no other file", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  const std::string conversation = scratch.file("chat"), state = scratch.file("state");
  write_text(scratch.file("notes"), "what must not be lost\n");
  write_text(scratch.file("empty"), "");
  const auto before = read_bytes(model);
  const auto saves_state = [&](const std::string& path) {
    return run("rwkv-edge", {"generate", model, "-p", "1", "-n", "2", "--save-state", path, "-q"});
  };
  for (int i = 0; i < 2; ++i) {
    Terminal chat({model, "-n", "3"});
    REQUIRE(chat.reaches_prompt(1));
    CHECK_THAT(chat.ask("/save " + model), Contains("GGUF file") && Contains("another name"));
    CHECK_THAT(chat.ask("/save " + scratch.file("notes")), Contains("what must not be lost"));
    CHECK_THAT(chat.ask("/save " + conversation), Contains("0 turns"));
    CHECK(saves_state(state).exit_code == 0);
  }
  CHECK(saves_state(scratch.file("empty")).exit_code == 0);
  for (const std::string& path : {conversation, scratch.file("notes")}) {
    const auto kept = read_bytes(path);
    const RunResult refused = saves_state(path);
    CHECK(refused.exit_code == 2);
    CHECK_THAT(refused.err, Contains("only a saved state is replaced"));
    CHECK(read_bytes(path) == kept);
  }
  CHECK(read_bytes(model) == before);
}

TEST_CASE("A pipe is answered line by line", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = bytes_model(scratch);
  write_text(scratch.file("in"), "one\n/undo\n\none\n/nothing\n");
  const RunResult result = run("/bin/sh", {"-c", "\"$0\" \"$1\" -n 10 -s 3 < \"$2\"",
                                           executable("rwkv-edge"), model, scratch.file("in")});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("took back: one") && Contains("unknown command '/nothing'"));
  const size_t middle = result.out.size() / 2;
  CHECK(result.out.substr(0, middle) == result.out.substr(middle));
  CHECK(result.out.find("\x1b") == std::string::npos);
}

TEST_CASE("chat refuses what cannot be", "[cli]") {
  const ScratchFolder scratch;
  TinyModelOptions options;
  options.vocabulary = TinyVocabulary::None;
  const std::string ids = write_tiny_model(scratch, options, "ids.gguf");
  const RunResult no_words = run("rwkv-edge", {"chat", ids});
  CHECK(no_words.exit_code == 2);
  CHECK_THAT(no_words.err, Contains("without a vocabulary"));
  const RunResult unknown = run("rwkv-edge", {"chat", bytes_model(scratch), "--template", "wrold"});
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Contains("did you mean 'world'"));
}

#ifdef RWKV_WITH_PRESS

namespace {

/// Talks with `model` in a narrow window: streaming, doing again, taking back, saving, loading.
void try_chat(const ScratchFolder& scratch, const std::string& model, const std::string& form) {
  const Arguments options = {model, "-n", "30", "--top-p", "1", "--seed", "11"};
  const std::string file = scratch.file("talk");
  const std::string greeting = "\xf0\x9f\x91\x8b Hello, \xe4\xbd\xa0\xe5\xa5\xbd!";
  std::string next;
  {
    Terminal chat(options, 40);
    REQUIRE(chat.reaches_prompt(1));
    CHECK_THAT(chat.screen(), Contains("template " + form));
    const std::string first = chat.ask(greeting);
    CHECK(is_valid_utf8(first));
    CHECK(chat.ask("/retry") != first);
    chat.ask("/undo");
    CHECK(chat.ask(greeting) == first);
    chat.ask("/save " + file);
    next = chat.ask("\x1b[200~Two\rlines\x1b[201~");
    chat.ask("/set n 1000000");
    chat.type("And then?\r");
    REQUIRE(chat.shows_answer(1));
    chat.type("\x03");
    REQUIRE(chat.reaches_prompt(9));
  }
  Terminal loaded({model, "-n", "30", "--top-p", "1", "--load", file}, 40);
  REQUIRE(loaded.reaches_prompt(1));
  CHECK(loaded.ask("\x1b[200~Two\rlines\x1b[201~") == next);
  CHECK(messages_in(file) == std::vector<std::string>{greeting});
}

std::string converted(const ScratchFolder& scratch, const Arguments& more,
                      const std::string& name) {
  const std::string packed = scratch.file(name);
  const RunResult result =
      run("rwkv-press", with({"convert"}, with(more, {"-o", packed, "--quiet"})));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return packed;
}

}  // namespace

TEST_CASE("The demo model chats", "[cli]") {
  const ScratchFolder scratch;
  const std::string folder = std::string(RWKV_SOURCE_DIR) + "/configs/demo/";
  try_chat(scratch,
           converted(scratch, {folder + "demo.pth", "--vocab", folder + "vocab.txt"}, "demo.gguf"),
           "none");
}

TEST_CASE("A model with World's vocabulary chats with the template that its name asks for",
          "[cli]") {
  const auto vocabulary =
      test_data("tokenizer/rwkv_vocab_v20230424.txt", "a chat with World's vocabulary");
  if (!vocabulary) {
    return;
  }
  const ScratchFolder scratch;
  const std::string source = scratch.file("rwkv7-g1a-tiny.pth");
  REQUIRE(run("rwkv-press", {"synth", "--arch", "v7", "--n-layer", "2", "--n-embd", "64",
                             "--n-vocab", "65536", "--quiet", "-o", source})
              .exit_code == 0);
  const std::string g1 = converted(scratch, {source, "--vocab", *vocabulary}, "a.gguf");
  try_chat(scratch, g1, "g1");
  const std::string world =
      converted(scratch, {source, "--vocab", *vocabulary, "--chat-template", "world"}, "b.gguf");
  const RunResult stored = run("rwkv-press", {"inspect", world, "--metadata"});
  CHECK_THAT(stored.out, Contains("press.chat_template"));
  Terminal chat({world, "-n", "3"});
  REQUIRE(chat.reaches_prompt(1));
  CHECK_THAT(chat.screen(), Contains("template world"));
}

#endif

TEST_CASE("A long prompt shows how far it is read, and Ctrl-C ends the reading", "[cli]") {
  const ScratchFolder scratch;
  TinyModelOptions options;
  options.vocabulary = TinyVocabulary::Bytes;
  options.n_vocab = 256;
  options.n_embd = 768;
  options.n_head = 12;
  options.dim_ffn = 2048;
  const std::string model = write_tiny_model(scratch, options, "wide.gguf");
  write_text(scratch.file("long.txt"), std::string(2000000, 'a'));
  const std::string state = scratch.file("state");
  Terminal generate({"generate", model, "-f", scratch.file("long.txt"), "-n", "5", "-t", "1",
                     "--save-state", state});
  const auto n_shown = [&] {
    size_t n = 0;
    for (size_t at = 0;
         (at = generate.screen().find("\rreading the prompt: ", at)) != std::string::npos; ++at) {
      ++n;
    }
    return n;
  };
  REQUIRE(generate.shows("of 2000000 tokens\rreading the prompt: "));
  CHECK(n_shown() >= 2);
  generate.type("\x03");
  CHECK(generate.wait() == 128 + SIGINT);
  // The line is erased, and what was read can go on.
  CHECK_THAT(generate.screen(), Contains("\r\x1b[K"));
  CHECK(run("rwkv-edge", {"generate", model, "--state", state, "-p", "b", "-n", "1"}).exit_code ==
        0);

  // Into a pipe, nothing is shown.
  write_text(scratch.file("short.txt"), std::string(3000, 'a'));
  const RunResult piped =
      run("rwkv-edge", {"generate", model, "-f", scratch.file("short.txt"), "-n", "1"});
  CHECK(piped.exit_code == 0);
  CHECK_THAT(piped.err, !Contains("reading the prompt"));
}

TEST_CASE("Ctrl-C ends generate by its signal, with the text so far on the screen", "[cli]") {
  const ScratchFolder scratch;
  Terminal generate({"generate", bytes_model(scratch), "-p", "go on", "-n", "100000000"});
  REQUIRE(generate.shows("seed "));
  const size_t before = generate.screen().size();
  while (generate.screen().size() < before + 200) {
    REQUIRE(generate.shows_more());
  }
  generate.type("\x03");
  CHECK(generate.wait() == 128 + SIGINT);
  CHECK_THAT(generate.screen(), Contains("tokens/s"));
}
