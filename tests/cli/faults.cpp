// Each call of the commands that write files fails once, in turn: a message, no half file, nothing
// unfinished, and the next run gives the undisturbed bytes. Also short calls, interrupted calls,
// full disks and kills. RWKV_FAULTS=all injects into every call of every command.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>

#include "tests/cli/fault_commands.h"
#include "tests/cli/fault_server.h"
#include "tests/cli/harmless_faults.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
namespace fs = std::filesystem;

namespace {

using Files = std::map<std::string, std::vector<std::byte>>;

std::string replaced(std::string text, const std::string& in, const std::string& out) {
  for (const auto& [short_name, folder] : {std::pair("IN/", in), std::pair("OUT/", out)}) {
    if (text.starts_with(short_name)) {
      text = folder + "/" + text.substr(std::string(short_name).size());
    }
  }
  return text;
}

// One command, its folder, and what it does when nothing disturbs it.
class Trial {
 public:
  Trial(const FaultCommand& command, FaultServer& server, const ScratchFolder& scratch)
      : command_(command), server_(server), in_(scratch.file("in")), out_(scratch.file("out")) {
    begin(false);
    server_.expect(Fault::None);
    const RunResult result = run(false);
    INFO(command_.name);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    expected_ = outputs();
    REQUIRE(!expected_.empty());
    for (int i = 0; i < kCalls; ++i) {
      counts_[i] = server_.count(static_cast<Call>(i));
    }
  }

  int64_t count(Call call) const { return counts_[static_cast<int>(call)]; }
  uint64_t n_bytes() const {
    uint64_t n = 0;
    for (const auto& [name, bytes] : expected_) {
      n += bytes.size();
    }
    return n;
  }
  int64_t n_injected() const { return n_injected_; }
  /// Whether an older output can be in the way.
  bool may_replace() const { return !command_.outputs.empty(); }

  /// Puts the folder into its state before a run, with an older output if there is to be one.
  void begin(bool is_replacing) {
    fs::remove_all(out_);
    fs::create_directory(out_);
    if (!command_.start.empty()) {
      fs::copy(in_ + "/" + command_.start, out_, fs::copy_options::recursive);
    }
    if (is_replacing) {
      // Longer than what replaces it, and of its kind: some outputs replace only their like.
      std::vector<std::byte> older = expected_.at(command_.outputs.front());
      older.resize(older.size() + 3, std::byte{'x'});
      write_bytes(out_ + "/" + command_.outputs.front(), older);
    }
    before_ = outputs();
    names_ = names();
  }

  RunResult run(bool is_again) const {
    std::vector<std::string> arguments;
    for (const std::string& argument : command_.arguments) {
      arguments.push_back(replaced(argument, in_, out_));
    }
    if (is_again) {
      arguments.insert(arguments.end(), command_.again.begin(), command_.again.end());
    }
    if (command_.has_force && (is_again || !before_.empty())) {
      arguments.push_back("--force");
    }
    return server_.run(arguments);
  }

  /// Makes the n-th call fail and checks everything. False if there is no such call.
  bool fail(Call call, int64_t n, int error, bool is_replacing = false) {
    begin(is_replacing);
    server_.expect(Fault::Fail, call, n, error);
    const RunResult result = run(false);
    const FaultPlan& plan = server_.plan();
    if (plan.n_struck == 0) {
      return false;
    }
    ++n_injected_;
    INFO(what("fail", call, n));
    INFO(result.err);
    CHECK(result.signal == 0);
    if (result.exit_code == 0) {
      CHECK(is_harmless(plan));
      CHECK((outputs() == expected_));
    } else {
      check_failure(result);
    }
    check_rerun();
    return true;
  }

  /// Fewer bytes than asked for, or a signal's interruption: nobody may notice.
  bool pass(Fault fault, Call call, int64_t n) {
    begin(false);
    server_.expect(fault, call, n, EINTR);
    const RunResult result = run(false);
    if (server_.plan().n_struck == 0) {
      return false;
    }
    ++n_injected_;
    INFO(what(fault == Fault::Short ? "shorten" : "interrupt", call, n));
    INFO(result.err);
    CHECK(result.exit_code == 0);
    CHECK((outputs() == expected_));
    CHECK(unfinished() == 0);
    return true;
  }

  /// No room: all at once, from a byte on, or as a write that takes nothing.
  void fill(int64_t room, bool is_replacing) {
    begin(is_replacing);
    server_.expect_room(room);
    check_full(fmt::format("{}: room for {} bytes", command_.name, room));
  }
  void take_nothing(int64_t n) {
    begin(false);
    server_.expect(Fault::Zero, Call::Write, n);
    check_full(what("take nothing", Call::Write, n));
  }

  bool kill(Call call, int64_t n, bool is_replacing) {
    begin(is_replacing);
    server_.expect(Fault::Kill, call, n);
    const RunResult result = run(false);
    if (server_.plan().n_struck == 0) {
      return false;
    }
    ++n_injected_;
    INFO(what("kill before", call, n));
    INFO(result.err);
    CHECK((result.signal == SIGKILL || (command_.outputs.empty() && result.exit_code == 1)));
    check_outputs(true);
    check_rerun();
    return true;
  }

 private:
  std::string what(const char* verb, Call call, int64_t n) const {
    return fmt::format("{}: {} {} {} of {} ({})", command_.name, verb,
                       kCallNames[static_cast<int>(call)], n, count(call), server_.plan().struck);
  }

  Files outputs() const {
    Files files;
    for (const std::string& name : command_.outputs) {
      if (fs::exists(out_ + "/" + name)) {
        files[name] = read_bytes(out_ + "/" + name);
      }
    }
    for (const auto& entry : fs::recursive_directory_iterator(out_)) {
      if (command_.outputs.empty() && entry.path().filename() == "model.gguf") {
        files[entry.path().lexically_relative(out_)] = read_bytes(entry.path());
      }
    }
    return files;
  }

  // What is in the folder, without what may stay in a work folder.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(out_)) {
      const std::string name = entry.path().filename().string();
      if (name != command_.work) {
        all.push_back(name);
      }
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  int unfinished() const {
    int n = 0;
    for (const auto& entry : fs::recursive_directory_iterator(out_)) {
      n += entry.path().string().find(".unfinished-") != std::string::npos ? 1 : 0;
    }
    return n;
  }

  // Each output is as it was, or whole.
  void check_outputs(bool may_be_whole) const {
    for (const auto& [name, bytes] : outputs()) {
      INFO(name);
      const auto old = before_.find(name);
      const bool is_old = old != before_.end() && old->second == bytes;
      const auto whole = expected_.find(name);
      CHECK((is_old || (may_be_whole && whole != expected_.end() && whole->second == bytes)));
    }
    for (const auto& [name, bytes] : before_) {
      CHECK(fs::exists(out_ + "/" + name));
    }
  }

  // A run that failed: its message, and what it left.
  void check_failure(const RunResult& result) const {
    CHECK((result.exit_code == 1 || result.exit_code == 3));
    std::istringstream lines(result.err);
    int n_errors = 0;
    for (std::string line; std::getline(lines, line);) {
      n_errors += line.starts_with(fmt::format("{}: error: ", command_.program)) ? 1 : 0;
    }
    CHECK(n_errors == 1);
    // The points of a sweep are finished one by one.
    const bool says_whole = result.err.find("is complete") != std::string::npos;
    check_outputs(says_whole || command_.outputs.empty());
    if (!says_whole) {
      CHECK(names() == names_);
    }
    CHECK(unfinished() == 0);
  }

  void check_full(const std::string& text) {
    const RunResult result = run(false);
    if (server_.plan().n_struck == 0) {
      return;
    }
    ++n_injected_;
    INFO(text);
    INFO(result.err);
    CHECK(result.signal == 0);
    if (result.exit_code == 0 && std::string(server_.plan().struck).ends_with("/log.jsonl")) {
      // A log that ends is said, and fails nothing.
      CHECK_THAT(result.err, Catch::Contains("cannot write the log"));
      CHECK((outputs() == expected_));
      check_rerun();
      return;
    }
    CHECK(result.exit_code == 1);
    CHECK_THAT(result.err, Catch::Contains("No space left") || Catch::Contains("points failed"));
    check_failure(result);
    check_rerun();
  }

  void check_rerun() {
    server_.expect(Fault::None);
    const RunResult result = run(true);
    INFO("the run after it");
    INFO(result.err);
    CHECK(result.exit_code == 0);
    CHECK((outputs() == expected_));
    CHECK(unfinished() == 0);
  }

  const FaultCommand& command_;
  FaultServer& server_;
  const std::string in_;
  const std::string out_;
  Files before_;
  Files expected_;
  std::vector<std::string> names_;
  int64_t counts_[kCalls] = {};
  int64_t n_injected_ = 0;
};

// RWKV_FAULTS_CALL=open: only that kind of call fails.
bool is_asked_for(Call call) {
  const char* const only = std::getenv("RWKV_FAULTS_CALL");
  return only == nullptr || std::string(only) == kCallNames[static_cast<int>(call)];
}

bool injects_everywhere() {
  const char* const text = std::getenv("RWKV_FAULTS");
  return text != nullptr && std::string(text) == "all";
}

// The injector would have to be loaded in front of the sanitizers, which insist on being first.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

// Runs `inject(trial, stride)`, where stride(call) is 1 or more, for every command and prints how
// many faults there were.
template <typename Inject>
void for_commands(const char* title, const Inject& inject) {
  if (kIsSanitized) {
    fmt::print(stderr, "SKIPPED {}: not with sanitizers\n", title);
    return;
  }
  const ScratchFolder scratch;
  make_fault_inputs(scratch.file("in"));
  std::map<std::string, std::unique_ptr<FaultServer>> servers;
  const char* const only = std::getenv("RWKV_FAULTS_COMMAND");
  for (const FaultCommand& command : fault_commands()) {
    if (only != nullptr && std::string(command.name).find(only) == std::string::npos) {
      continue;
    }
    auto& server = servers[command.program];
    if (!server) {
      server = std::make_unique<FaultServer>(command.program, scratch.path().string());
    }
    Trial trial(command, *server, scratch);
    inject(trial, [&](Call call) {
      // Reads of inputs are many, and alike.
      constexpr int64_t kReads = 5;
      const bool is_input = call == Call::Read && command.start.empty();
      return injects_everywhere() ? 1 : std::max(command.stride, is_input ? kReads : 1);
    });
    std::string counts;
    for (int i = 0; i < kCalls; ++i) {
      const int64_t n = trial.count(static_cast<Call>(i));
      counts += n > 0 ? fmt::format(" {} {}", kCallNames[i], n) : "";
    }
    fmt::print("{}: {}: {} injected; calls:{}\n", title, command.name, trial.n_injected(), counts);
    std::fflush(stdout);
  }
}

constexpr Call kOfOutputs[] = {Call::Write, Call::Sync,   Call::Rename,
                               Call::Lock,  Call::Access, Call::Remove};

}  // namespace

TEST_CASE("Every call that fails ends a command with a message, whole files and a way on",
          "[faults]") {
  for_commands("failing calls", [](Trial& trial, const auto& stride) {
    for (int i = 0; i < kCalls; ++i) {
      const auto call = static_cast<Call>(i);
      const int error = call == Call::Write ? ENOSPC : EIO;
      for (int64_t n = 0; n < trial.count(call) && is_asked_for(call); n += stride(call)) {
        trial.fail(call, n, error);
      }
    }
  });
}

TEST_CASE("A file that would be replaced stays as it was when a call fails", "[faults]") {
  for_commands("failing calls over an older file", [](Trial& trial, const auto& stride) {
    if (!trial.may_replace()) {
      return;
    }
    for (const Call call : kOfOutputs) {
      for (int64_t n = 0; trial.fail(call, n, call == Call::Write ? ENOSPC : EIO, true);
           n += stride(call)) {
      }
    }
  });
}

TEST_CASE("Short and interrupted calls change nothing", "[faults]") {
  for_commands("short and interrupted calls", [](Trial& trial, const auto& stride) {
    if (!trial.may_replace()) {
      return;
    }
    for (const Call call : {Call::Read, Call::Write}) {
      for (int64_t n = 0; trial.pass(Fault::Short, call, n); n += stride(call)) {
      }
    }
    for (const Call call : {Call::Open, Call::Read, Call::Write, Call::Sync, Call::Lock}) {
      for (int64_t n = 0; trial.pass(Fault::Fail, call, n); n += stride(call)) {
      }
    }
  });
}

TEST_CASE("A disk that is full from some byte on is said, and leaves nothing", "[faults]") {
  for_commands("full disks", [](Trial& trial, const auto& stride) {
    if (!trial.may_replace()) {
      return;
    }
    const auto n_bytes = static_cast<int64_t>(trial.n_bytes());
    for (const int64_t room : {int64_t{0}, int64_t{1}, n_bytes / 7, n_bytes / 2, n_bytes - 1}) {
      trial.fill(room, trial.may_replace() && room % 2 == 1);
    }
    for (int64_t n = 0; n < trial.count(Call::Write); n += stride(Call::Write)) {
      trial.take_nothing(n);
    }
  });
}

TEST_CASE("A killed command leaves whole files; the next run removes what it left", "[faults]") {
  for_commands("kills", [](Trial& trial, const auto& stride) {
    if (!trial.may_replace()) {
      return;
    }
    for (const Call call : {Call::Write, Call::Sync, Call::Rename, Call::Lock, Call::Remove}) {
      for (int64_t n = 0; trial.kill(call, n, trial.may_replace() && n % 2 == 1);
           n += stride(call)) {
      }
    }
  });
}
