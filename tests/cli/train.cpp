// rwkv-press train from outside: configurations, kills, Ctrl-C, several processes, full disks.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <thread>

#include "formats/container/safetensors_reader.h"
#include "tests/cli/process.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;
std::vector<std::string> names_in(const std::string& folder, const std::string& prefix = "") {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix)) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> states_in(const std::string& folder) {
  auto names = names_in(folder, "step-");
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".safetensors"); });
  return names;
}

constexpr const char* kModel =
    "model: {version: v5.2, n_layer: 2, n_embd: 64, n_vocab: 256, dim_ffn: 96}\n";
constexpr const char* kTrain =
    "train: {steps: 60, batch: 4, micro_batch: 2, length: 96, lr: 0.002, warmup: 2, save_every: 2, "
    "precision: fp32}\n";

// A configuration and a text, and the arguments that train with them into FOLDER/m.pth.
class Setting {
 public:
  explicit Setting(const std::string& config = std::string("seed: 3\n") + kModel + kTrain) {
    write_text(scratch.file("config.yaml"), config);
    std::string text;
    for (int i = 0; i < 2000; ++i) {
      text += fmt::format("{} squared is {}.\n", i % 97, (i % 97) * (i % 97));
    }
    write_text(scratch.file("text.txt"), text);
  }
  Arguments arguments(const std::string& folder, const Arguments& more = {}) const {
    fs::create_directories(scratch.file(folder));
    Arguments all = {"train",
                     "--config",
                     scratch.file("config.yaml"),
                     "--data",
                     scratch.file("text.txt"),
                     "--vocab",
                     "bytes",
                     "-o",
                     output(folder)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string output(const std::string& folder) const { return scratch.file(folder + "/m.pth"); }
  std::string work(const std::string& folder) const { return output(folder) + ".work"; }

  ScratchFolder scratch;
};

// Trains to the end without being disturbed.
RunResult run_whole(const Setting& setting, const std::string& folder, const Arguments& more = {}) {
  const RunResult result = run("rwkv-press", setting.arguments(folder, more));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

// Ended by SIGINT after its first snapshots.
void run_interrupted(const Setting& setting, const std::string& folder) {
  Process process(setting.scratch, "interrupted", setting.arguments(folder));
  REQUIRE(wait_until([&] { return !states_in(setting.work(folder)).empty(); }));
  process.send(SIGINT);
  const RunResult result = process.wait();
  INFO(result.err);
  CHECK(result.signal == 0);
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.err, Contains("rwkv-press: error: stopped after step ") &&
                             Contains("--resume") && Contains(setting.work(folder)));
  CHECK_FALSE(fs::exists(setting.output(folder)));
  REQUIRE_FALSE(states_in(setting.work(folder)).empty());
}

// Two of them removed each other's snapshots, and the slower one could not write its result.
void check_second_is_refused(const Setting& setting, const std::string& folder) {
  const RunResult second = run("rwkv-press", setting.arguments(folder, {"--resume"}));
  INFO(second.err);
  CHECK(second.exit_code == 2);
  CHECK_THAT(second.err, Contains("another training works in this folder: process "));
}

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  socklen_t size = sizeof(address);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

Environment rank_of_two(int rank, int port) {
  return {{"RANK", std::to_string(rank)},
          {"WORLD_SIZE", "2"},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)},
          {"RWKV_PRESS_RANK_TIMEOUT", "20"}};
}

std::map<std::string, std::vector<float>> numbers_of(const std::string& path) {
  auto source = rwkv::open_safetensors(path);
  REQUIRE_OK(source.status());
  std::map<std::string, std::vector<float>> all;
  for (size_t i = 0; i < source.value()->tensors().size(); ++i) {
    REQUIRE(source.value()->tensors()[i].dtype == rwkv::DType::F32);
    std::vector<std::byte> raw;
    REQUIRE_OK(source.value()->read(i, raw));
    std::vector<float>& values = all[source.value()->tensors()[i].name];
    values.resize(raw.size() / sizeof(float));
    std::memcpy(values.data(), raw.data(), raw.size());
  }
  return all;
}

void check_refused(const Arguments& arguments, int exit_code, const std::string& says) {
  const RunResult result = run("rwkv-press", arguments);
  INFO(Catch::Detail::stringify(arguments) << "\n" << result.err);
  CHECK(result.signal == 0);
  CHECK(result.exit_code == exit_code);
  const size_t at = result.err.find("rwkv-press: error: ");
  REQUIRE(at != std::string::npos);
  CHECK(result.err.find('\n', at) == result.err.size() - 1);
  CHECK_THAT(result.err, Contains(says));
}

}  // namespace

TEST_CASE("A second training in a folder where one works is refused by name", "[train]") {
  const Setting setting;
  {
    Process process(setting.scratch, "first", setting.arguments("a"));
    REQUIRE(wait_until([&] { return !states_in(setting.work("a")).empty(); }));
    check_second_is_refused(setting, "a");
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
  }
  // The lock ended with its owner.
  run_whole(setting, "a", {"--resume"});
  run_whole(setting, "b");
  CHECK(read_bytes(setting.output("a")) == read_bytes(setting.output("b")));
}

TEST_CASE("rwkv-press train makes a model that the other commands take", "[train]") {
  const Setting setting;
  const RunResult made = run_whole(setting, "a", {"--valid", setting.scratch.file("text.txt")});
  CHECK_THAT(made.out, Contains("m.pth") && Contains("60 steps") && Contains("v5.2"));
  CHECK_THAT(made.err, Contains("step 60 of 60") && Contains("validation loss"));
  CHECK(states_in(setting.work("a")) ==
        Arguments{"step-00000058.safetensors", "step-00000060.safetensors"});
  CHECK(fs::exists(setting.work("a") + "/loss.csv"));
  CHECK(fs::exists(setting.work("a") + "/loss.svg"));
  const RunResult inspected = run("rwkv-press", {"inspect", setting.output("a"), "--verify"});
  CHECK(inspected.exit_code == 0);
  // Once more from the result, as a checkpoint to start from.
  write_text(setting.scratch.file("config.yaml"), kTrain);
  const RunResult tuned = run_whole(setting, "b", {setting.output("a"), "--set", "train.steps=3"});
  CHECK_THAT(tuned.out, Contains("3 steps"));
  // Neither an output nor a folder with checkpoints is overwritten unasked.
  check_refused(setting.arguments("a", {setting.output("b")}), 2, "--force");
  check_refused(setting.arguments("a", {setting.output("b"), "--force"}), 2, "--resume");
}

TEST_CASE("rwkv-press train names what is wrong with a configuration", "[train]") {
  const std::string model = kModel;
  const auto refused = [](const std::string& config, const std::string& says,
                          const Arguments& more = {}, int exit_code = 2) {
    const Setting setting(config);
    check_refused(setting.arguments("a", more), exit_code, says);
    CHECK(names_in(setting.scratch.file("a"), "m.pth.work/step").empty());
    CHECK_FALSE(fs::exists(setting.output("a")));
  };
  refused(model + "train: {stepz: 3}\n", "'train.stepz' (line 2); did you mean 'steps'");
  refused(model + "train: [\n", "not valid YAML");
  refused("model: {version: v8, n_layer: 2, n_embd: 64, n_vocab: 256}\n", "'v8'");
  refused(kTrain, "nothing to train");
  refused(model + "train: {length: 1000000}\n", "1000001", {"--ignore-estimate"});
  refused(model + "train: {distill: 0.5}\n", "--teacher");
  refused(model, "'f16'", {"--dtype", "f16"});

  const Setting setting;
  const std::string there = setting.scratch.file("there.pth");
  REQUIRE(run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "2", "--n-embd", "64",
                             "--n-vocab", "256", "--quiet", "-o", there})
              .exit_code == 0);
  check_refused(setting.arguments("a", {there}), 2, "remove one of them");
  check_refused({"train", "--config", setting.scratch.file("config.yaml"), "-o",
                 setting.output("a"), "--vocab", "bytes"},
                2, "no training data");
  check_refused({"train", "-o", setting.output("a")}, 2, "config");
  check_refused({"train", "--config", setting.scratch.file("config.yaml"), "-o",
                 setting.scratch.file("m.gguf")},
                2, ".pth");
  // Files that are there but wrong.
  write_text(setting.scratch.file("config.yaml"), kTrain);
  check_refused(setting.arguments("a", {setting.scratch.file("text.txt")}), 3, "text.txt");
  const std::vector<uint16_t> ids(200, 300);
  write_bytes(setting.scratch.file("ids.u16"), std::as_bytes(std::span(ids)));
  write_text(setting.scratch.file("config.yaml"), std::string(kModel) + kTrain);
  check_refused({"train", "--config", setting.scratch.file("config.yaml"), "-o",
                 setting.output("a"), "--data", setting.scratch.file("ids.u16")},
                3, "ids.u16: token ");
}

TEST_CASE("A training killed with SIGKILL goes on to the same bytes", "[train]") {
  const Setting setting;
  run_whole(setting, "whole");
  {
    Process process(setting.scratch, "killed", setting.arguments("killed"));
    REQUIRE(wait_until([&] { return !states_in(setting.work("killed")).empty(); }));
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
  }
  CHECK_FALSE(fs::exists(setting.output("killed")));
  check_refused(setting.arguments("killed"), 2, "--resume");
  const RunResult resumed = run_whole(setting, "killed", {"--resume"});
  CHECK_THAT(resumed.err, Contains("going on from ") && Contains("of 60 steps done"));
  CHECK(read_bytes(setting.output("killed")) == read_bytes(setting.output("whole")));
}

TEST_CASE("A resumed training takes the threads of before, whatever the environment says",
          "[train]") {
  const Setting setting;
  const auto finish = [&](const std::string& folder, const Arguments& more,
                          const Environment& environment) {
    Process process(setting.scratch, folder, setting.arguments(folder, more), environment);
    const RunResult result = process.wait();
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return result.err;
  };
  const Arguments twelve = {"--set", "train.steps=12"};
  const auto with = [&](Arguments more) {
    more.insert(more.end(), twelve.begin(), twelve.end());
    return more;
  };
  const Environment two = {{"RWKV_PRESS_THREADS", "2"}};
  const Environment one = {{"RWKV_PRESS_THREADS", "1"}, {"OMP_NUM_THREADS", "1"}};
  finish("whole", with({}), two);
  // As if killed after step 10, whose snapshot is the newest then.
  const auto stopped = [&](const std::string& folder) {
    fs::create_directories(setting.scratch.file(folder));
    fs::copy(setting.work("whole"), setting.work(folder));
    fs::remove(setting.work(folder) + "/step-00000012.safetensors");
  };
  stopped("kept");
  const std::string kept = finish("kept", with({"--resume"}), one);
  CHECK_THAT(kept, Contains("10 of 12 steps done") && Contains("threads: 2 as before, not 1"));
  CHECK(read_bytes(setting.output("kept")) == read_bytes(setting.output("whole")));
  stopped("same");
  CHECK_THAT(finish("same", with({"--resume"}), two), Contains("threads: 2 as before\n"));
  CHECK(read_bytes(setting.output("same")) == read_bytes(setting.output("whole")));
  stopped("told");
  const std::string told = finish("told", with({"--resume", "--quiet", "--threads", "1"}), two);
  CHECK_THAT(told, Contains("rwkv-press: warning: threads: 2 before, now 1; the result"));
  for (const char* wrong : {"0", "257", "many"}) {
    stopped("wrong");
    check_refused(setting.arguments("wrong", {"--threads", wrong}), 2, "--threads");
    fs::remove_all(setting.scratch.file("wrong"));
  }
}

TEST_CASE("A damaged snapshot is passed over, said even by a quiet run", "[train]") {
  const Setting setting;
  const Arguments six = {"--set", "train.steps=6"};
  run_whole(setting, "whole", six);
  run_whole(setting, "again", six);
  fs::remove(setting.output("again"));
  const std::string newest = setting.work("again") + "/step-00000006.safetensors";
  auto bytes = read_bytes(newest);
  bytes[bytes.size() / 3] ^= std::byte{4};
  write_bytes(newest, bytes);
  Arguments quiet = {"--resume", "--quiet"};
  quiet.insert(quiet.end(), six.begin(), six.end());
  const RunResult resumed = run_whole(setting, "again", quiet);
  CHECK_THAT(resumed.err, Contains("rwkv-press: warning: " + newest + ": expected the checksum ") &&
                              Contains("passed over for the snapshot before it"));
  CHECK(read_bytes(setting.output("again")) == read_bytes(setting.output("whole")));

  fs::remove(setting.output("again"));
  for (const std::string& name : states_in(setting.work("again"))) {
    write_bytes(setting.work("again") + "/" + name, std::vector<std::byte>(500));
  }
  check_refused(setting.arguments("again", quiet), 3, "found no snapshot that a training can");
}

TEST_CASE("Ctrl-C ends a training after a snapshot, to be resumed", "[train]") {
  const Setting setting;
  run_interrupted(setting, "a");
  run_whole(setting, "a", {"--resume"});
  run_whole(setting, "whole");
  CHECK(read_bytes(setting.output("a")) == read_bytes(setting.output("whole")));
}

TEST_CASE("Two processes train as one does", "[train]") {
  const Setting setting;
  const auto into = [&](const std::string& folder) {
    Arguments arguments = setting.arguments(folder, {"--set", "train.steps=20", "--dtype", "f32"});
    *std::find(arguments.begin(), arguments.end(), setting.output(folder)) =
        setting.scratch.file(folder + "/m.safetensors");
    return arguments;
  };
  const RunResult alone = run("rwkv-press", into("one"));
  INFO(alone.err);
  REQUIRE(alone.exit_code == 0);
  const int port = free_port();
  Process first(setting.scratch, "rank0", into("two"), rank_of_two(0, port));
  Process second(setting.scratch, "rank1", into("two"), rank_of_two(1, port));
  for (Process* process : {&first, &second}) {
    const RunResult result = process->wait();
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
  }
  const auto expected = numbers_of(setting.scratch.file("one/m.safetensors"));
  const auto found = numbers_of(setting.scratch.file("two/m.safetensors"));
  REQUIRE(found.size() == expected.size());
  double worst = 0;
  double largest = 0;
  for (const auto& [name, values] : expected) {
    const std::vector<float>& theirs = found.at(name);
    REQUIRE(theirs.size() == values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(theirs[i] - values[i])));
      // These begin as zeros.
      const bool has_moved = name.ends_with("att.output.weight");
      largest = std::max(largest, has_moved ? std::fabs(static_cast<double>(values[i])) : 0.0);
    }
  }
  fmt::print("two processes against one: largest difference {:.1e}, moved by {:.2f}\n", worst,
             largest);
  CHECK(largest > 0.01);
  CHECK(worst < 1e-5);

  // A batch that two cannot share.
  const int other = free_port();
  const Arguments uneven =
      setting.arguments("three", {"--set", "train.batch=3", "--set", "train.micro_batch=1"});
  Process third(setting.scratch, "rank0", uneven, rank_of_two(0, other));
  Process fourth(setting.scratch, "rank1", uneven, rank_of_two(1, other));
  for (Process* process : {&third, &fourth}) {
    const RunResult result = process->wait();
    CHECK(result.exit_code == 2);
    CHECK_THAT(result.err, Contains("train.batch 3") && Contains("2 processes"));
  }
}

TEST_CASE("When a rank is killed the other ends, and one process can go on", "[train]") {
  const Setting setting;
  const int port = free_port();
  Process first(setting.scratch, "rank0", setting.arguments("a"), rank_of_two(0, port));
  Process second(setting.scratch, "rank1", setting.arguments("a"), rank_of_two(1, port));
  REQUIRE(wait_until([&] { return !states_in(setting.work("a")).empty(); }));
  second.send(SIGKILL);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(second.wait().signal == SIGKILL);
  const RunResult left = first.wait();
  INFO(left.err);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
  CHECK(left.signal == 0);
  CHECK(left.exit_code == 1);
  CHECK_THAT(left.err, Contains("rwkv-press: error: rank 0 of 2") && Contains("--resume"));
  CHECK_FALSE(fs::exists(setting.output("a")));
  const RunResult resumed = run_whole(setting, "a", {"--resume"});
  CHECK_THAT(resumed.err, Contains("going on from ") &&
                              Contains("processes: 2 before, now 1; the result will differ"));
  CHECK(fs::exists(setting.output("a")));
}

TEST_CASE("A full disk ends a training and leaves the last checkpoint", "[train]") {
  const Setting setting;
  run_interrupted(setting, "a");
  const auto before = names_in(setting.work("a"));
  const std::string last = setting.work("a") + "/" + states_in(setting.work("a")).back();
  const auto bytes = read_bytes(last);
  REQUIRE(bytes.size() > 600000);
  const RunResult full = run("rwkv-press", setting.arguments("a", {"--resume"}), 300000);
  INFO(full.err);
  CHECK(full.signal == 0);
  CHECK(full.exit_code == 1);
  CHECK_THAT(full.err, Contains("rwkv-press: error: " + setting.work("a") + "/step-"));
  CHECK(names_in(setting.work("a")) == before);
  CHECK(read_bytes(last) == bytes);
  CHECK_FALSE(fs::exists(setting.output("a")));
  run_whole(setting, "a", {"--resume"});
}
