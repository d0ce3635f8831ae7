// Snapshots of trainings as files that something may have changed meanwhile: every bit counts, what
// no training leaves is refused, and a training continues from the newest that is whole.
#include <ATen/Parallel.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "compressor/checkpoint/sealed_file.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/loss_log.h"
#include "compressor/train/snapshot.h"
#include "compressor/train/token_data.h"
#include "formats/base/little_endian.h"
#include "formats/container/safetensors_reader.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;
using press::Snapshot, press::Trained, press::TrainJob;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kSteps = 100;
const std::string kSettings = "student: tiny\nlr: 0.5\n";

// An optimiser with two small parameters, and their snapshot of step 6.
class Small {
 public:
  Small() : optimizer({{"matrix", at::ones({7, 5})}, {"vector", at::ones({11})}}, {}) {
    path = save({.step = 6, .seconds = 1.5, .settings = kSettings, .threads = {2}});
  }
  std::string save(const Snapshot& state) {
    auto saved = press::save_snapshot(scratch.path().string(), state, optimizer);
    REQUIRE_OK(saved.status());
    return saved.take();
  }
  Result<Snapshot> load(const std::string& from) {
    return press::load_snapshot(from, kSettings, kSteps, optimizer);
  }
  void check_refused(const std::string& from, const std::string& says) {
    const Status status = load(from).status();
    INFO(status.message());
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains(from) && Contains(says));
    CHECK(status.message().find('\n') == std::string::npos);
  }

  ScratchFolder scratch;
  press::AdamW optimizer;
  std::string path;
};

// A tensor of a snapshot, to be changed.
struct Raw {
  TensorInfo info;
  std::vector<std::byte> bytes;
};

std::vector<Raw> tensors_of(const std::string& path) {
  auto source = open_safetensors(path);
  REQUIRE_OK(source.status());
  std::vector<Raw> all;
  for (size_t i = 0; i + 1 < source.value()->tensors().size(); ++i) {  // the last is the checksum
    Raw& raw = all.emplace_back(Raw{source.value()->tensors()[i], {}});
    REQUIRE_OK(source.value()->read(i, raw.bytes));
  }
  return all;
}

// With a checksum that is right.
void write_tensors(const std::string& path, const std::vector<Raw>& tensors) {
  std::vector<TensorInfo> infos;
  for (const Raw& raw : tensors) {
    infos.push_back(raw.info);
  }
  REQUIRE_OK(press::write_sealed(path, OutputFile::Existing::Replace, infos,
                                 [&](size_t i, std::vector<std::byte>& out) -> Status {
                                   out = tensors[i].bytes;
                                   return {};
                                 }));
}

// A training of 12 steps that stops after `last`, what it says, and its folder.
class Run {
 public:
  explicit Run(const std::string& arch = "v5.2") : tiny_(make_tiny(arch)) {
    write_text(scratch.file("text.txt"), repetitive_text(3000));
  }
  TrainJob job(const std::string& folder, uint64_t last = 1000) {
    TrainJob job = make_job(tiny_, scratch.file("text.txt"), scratch.file(folder));
    job.options.save_every = 3;
    job.callbacks = stop_after(last);
    job.callbacks.on_note = [this](const std::string& line) { notes += line + "\n"; };
    job.callbacks.on_warning = [this](const std::string& line) { warnings += line + "\n"; };
    return job;
  }
  TrainJob resumed(const std::string& folder) {
    TrainJob again = job(folder);
    again.resume = true;
    notes.clear();
    warnings.clear();
    return again;
  }

  ScratchFolder scratch;
  std::string notes, warnings;

 private:
  TinyModel tiny_;
};

class Threads {
 public:
  explicit Threads(int n) { at::set_num_threads(n); }
  ~Threads() { at::set_num_threads(before_); }

 private:
  int before_ = at::get_num_threads();
};

}  // namespace

TEST_CASE("Every bit of a snapshot is checked, and every length", "[train][snapshot]") {
  Small small;
  const auto whole = small.load(small.path);
  REQUIRE_OK(whole.status());
  CHECK(whole.value().step == 6);
  CHECK(whole.value().seconds == 1.5);
  CHECK(whole.value().threads == std::vector<int>{2});
  const std::vector<std::byte> bytes = read_bytes(small.path);
  REQUIRE(bytes.size() > 1000);
  size_t believed = 0;
  const auto try_file = [&] {
    const auto state = small.load(small.path);
    believed += state.ok() || state.status().code() != Code::BadInput ? 1 : 0;
  };
  // In place: files are slow to make.
  std::fstream file(small.path, std::ios::in | std::ios::out | std::ios::binary);
  const auto put = [&](size_t at, std::span<const std::byte> piece) {
    file.seekp(static_cast<std::streamoff>(at));
    file.write(reinterpret_cast<const char*>(piece.data()),
               static_cast<std::streamsize>(piece.size()));
    file.flush();
  };
  for (size_t at = 0; at < bytes.size(); ++at) {
    const std::byte flipped = bytes[at] ^ (std::byte{1} << (at % 8));
    put(at, std::span(&flipped, 1));
    try_file();
    put(at, std::span(bytes).subspan(at, 1));
  }
  constexpr size_t kZeros = 64;
  for (size_t at = 0; at < bytes.size(); at += kZeros) {
    const auto piece = std::span(bytes).subspan(at, std::min(kZeros, bytes.size() - at));
    const std::vector<std::byte> zeros(piece.size());
    if (!std::equal(piece.begin(), piece.end(), zeros.begin())) {
      put(at, zeros);
      try_file();
      put(at, piece);
    }
  }
  put(0, std::vector<std::byte>(bytes.size()));
  try_file();
  put(0, bytes);
  put(bytes.size(), std::vector<std::byte>(1));
  try_file();
  file.close();
  for (size_t length = bytes.size(); length > 0; length -= std::min<size_t>(length, 37)) {
    fs::resize_file(small.path, length - 1);
    try_file();
  }
  CHECK(believed == 0);
  write_bytes(small.path, bytes);
  REQUIRE_OK(small.load(small.path).status());
  CHECK(small.scratch.entries().size() == 1);
}

TEST_CASE("A snapshot with values that no training leaves is refused", "[train][snapshot]") {
  Small small;
  const auto with = [&](const auto& change) {
    Snapshot state{.step = 6, .seconds = 1.5, .settings = kSettings, .threads = {2}};
    change(state);
    return small.save(state);
  };
  small.check_refused(with([](Snapshot& s) { s.step = uint64_t{1} << 63; }),
                      "expected a step from 1 to 100, found 9223372036854775808");
  small.check_refused(with([](Snapshot& s) { s.step = kSteps + 1; }), "found 101");
  small.check_refused(with([](Snapshot& s) { s.step = 0; }), "found 0");
  for (const double seconds : {-1.0, 1e300, std::nan(""), HUGE_VAL}) {
    small.check_refused(with([&](Snapshot& s) { s.seconds = seconds; }), "seconds");
  }
  for (const int n : {0, -1, 1 << 30}) {
    small.check_refused(with([&](Snapshot& s) { s.threads = {1, n}; }), std::to_string(n));
  }
  small.check_refused(with([](Snapshot& s) { s.threads = std::vector<int>(70000, 1); }),
                      "train.threads");
  const std::string other = with([](Snapshot& s) { s.settings = "student: tiny\nlr: \x1b[2J\n"; });
  const Status differs = small.load(other).status();
  CHECK(differs.code() == Code::Usage);
  CHECK_THAT(differs.message(), Contains("now 'lr: 0.5'"));
  CHECK(differs.message().find('\x1b') == std::string::npos);

  // Of another step, under the name of this one.
  const std::string ninth = with([](Snapshot& s) { s.step = 9; });
  fs::rename(ninth, small.path);
  small.check_refused(small.path, "step 9; it is another snapshot");
  with([](Snapshot&) {});

  const std::vector<Raw> tensors = tensors_of(small.path);
  const auto changed = [&](const std::string& name, const auto& change, const std::string& says) {
    std::vector<Raw> copy = tensors;
    const auto found = std::find_if(copy.begin(), copy.end(),
                                    [&](const Raw& raw) { return raw.info.name == name; });
    REQUIRE(found != copy.end());
    change(*found);
    write_tensors(small.path, copy);
    CAPTURE(name);
    small.check_refused(small.path, says);
  };
  const auto value = [](float x) { return [x](Raw& raw) { store_le(raw.bytes.data() + 8, x); }; };
  for (const char* name : {"values.matrix", "mean.vector", "square.matrix"}) {
    changed(name, value(std::nanf("")), "finite");
    changed(name, value(-HUGE_VALF), "finite");
    changed(
        name, [](Raw& raw) { raw.info.name = "nothing"; }, name);
    changed(
        name,
        [](Raw& raw) {
          raw.info.shape = {3};
          raw.bytes.resize(12);
        },
        "has 3 numbers");
  }
  changed("square.vector", value(-1.0f), "0 or more");
  changed(
      "train.step", [](Raw& raw) { raw.info.name = "step"; }, "'train.step' is missing");
  changed(
      "train.step", [](Raw& raw) { raw.info.dtype = DType::F64; }, "train.step");
  changed(
      "train.seconds",
      [](Raw& raw) {
        raw.info.shape = {2};
        raw.bytes.resize(16);
      },
      "train.seconds");
  write_tensors(small.path, tensors);
  REQUIRE_OK(small.load(small.path).status());
}

TEST_CASE("A damaged newest snapshot is passed over, and that is said", "[train][snapshot]") {
  Run run;
  const Trained whole = train_all(run.job("whole"));
  train_all(run.job("stopped", 9));
  const std::string newest = run.scratch.file("stopped/step-00000009.safetensors");
  const std::string before = run.scratch.file("stopped/step-00000006.safetensors");
  const std::vector<std::byte> newest_bytes = read_bytes(newest);
  const std::vector<std::byte> before_bytes = read_bytes(before);
  const auto resumes_from_6 = [&](const std::vector<std::byte>& damaged, const std::string& says) {
    fs::remove_all(run.scratch.file("again"));
    fs::copy(run.scratch.file("stopped"), run.scratch.file("again"));
    const std::string there = run.scratch.file("again/step-00000009.safetensors");
    write_bytes(there, damaged);
    const Trained resumed = train_all(run.resumed("again"));
    CHECK(same_parameters(resumed, whole));
    CHECK_THAT(run.warnings, Contains(there) && Contains(says) && Contains("passed over"));
    CHECK(std::count(run.warnings.begin(), run.warnings.end(), '\n') == 1);
    CHECK_THAT(run.notes, Contains("going on from ") && Contains("step-00000006"));
    CHECK(read_bytes(there) != damaged);  // written again
  };
  std::vector<std::byte> flipped = newest_bytes;
  flipped[flipped.size() / 2] ^= std::byte{1};
  resumes_from_6(flipped, "checksum");
  resumes_from_6({newest_bytes.begin(), newest_bytes.begin() + 5000}, "checksum");
  resumes_from_6({}, "cut");
  resumes_from_6(std::vector<std::byte>(newest_bytes.size()), "checksum");
  resumes_from_6(before_bytes, "found step 6");

  // Two that were exchanged, and nothing whole: a refusal that says what to do.
  const auto refused = [&](const std::string& says) {
    const TrainJob job = run.resumed("stopped");
    const auto group = one_process();
    const Status status = press::train(job, *group).status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains(job.folder) && Contains("of 2") && Contains(says) &&
                                     Contains("remove the folder"));
    CHECK_THAT(run.warnings, Contains(newest) && Contains(before));
  };
  write_bytes(newest, before_bytes);
  write_bytes(before, newest_bytes);
  refused("found step 6");
  write_bytes(newest, flipped);
  write_bytes(before, {});
  refused("checksum");
  CHECK(read_bytes(newest) == flipped);

  // What is passed over does not push whole ones out.
  write_bytes(newest, flipped);
  write_bytes(before, before_bytes);
  TrainJob part = run.resumed("stopped");
  part.callbacks.on_step = [](const press::StepReport& report) { return report.row.step < 8; };
  part.options.save_every = 3;
  train_all(part);
  CHECK(fs::exists(before));
  const Trained resumed = train_all(run.resumed("stopped"));
  CHECK_THAT(run.notes, Contains("step-00000008"));
  CHECK(same_parameters(resumed, whole));
}

TEST_CASE("A resumed training keeps its number of threads, unless told", "[train][snapshot]") {
  Run run;
  const Threads threads(2);
  const Trained whole = train_all(run.job("whole"));
  train_all(run.job("stopped", 5));
  for (const char* folder : {"same", "other", "told"}) {
    fs::copy(run.scratch.file("stopped"), run.scratch.file(folder));
  }
  CHECK(same_parameters(train_all(run.resumed("same")), whole));
  CHECK_THAT(run.notes, Contains("threads: 2 as before\n"));
  CHECK(run.warnings.empty());
  at::set_num_threads(1);
  CHECK(same_parameters(train_all(run.resumed("other")), whole));
  CHECK_THAT(run.notes, Contains("threads: 2 as before, not 1") && Contains("--threads"));
  CHECK(run.warnings.empty());
  CHECK(at::get_num_threads() == 1);
  TrainJob told = run.resumed("told");
  told.threads = 1;
  train_all(told);
  CHECK_THAT(run.warnings, Contains("threads: 2 before, now 1") && Contains("differ in rounding"));
}

TEST_CASE("A damaged file of ids is made again from the text", "[train][snapshot]") {
  const ScratchFolder scratch;
  const std::string cache = scratch.file("cache");
  fs::create_directory(cache);
  write_text(scratch.file("text.txt"), repetitive_text(3000));
  const auto open = [&] {
    auto data = press::TokenData::open({scratch.file("text.txt")}, Vocabulary{}, 256, 100, cache);
    REQUIRE_OK(data.status());
    return data.value().fingerprint();
  };
  const uint64_t expected = open();
  const std::string ids = fs::directory_iterator(cache)->path().string();
  const std::vector<std::byte> bytes = read_bytes(ids);
  REQUIRE(bytes.size() == 2 * 3000 + 8);
  const auto is_mended = [&](std::span<const std::byte> damaged) {
    write_bytes(ids, damaged);
    CHECK(open() == expected);
    CHECK(read_bytes(ids) == bytes);
  };
  for (const size_t at : {size_t{0}, bytes.size() / 2, bytes.size() - 9, bytes.size() - 1}) {
    std::vector<std::byte> flipped = bytes;
    flipped[at] ^= std::byte{0x40};
    is_mended(flipped);
  }
  for (const size_t length : {size_t{0}, size_t{7}, size_t{8}, bytes.size() - 2}) {
    is_mended(std::span(bytes).first(length));
  }
}

TEST_CASE("A log that something wrote over does not end a training", "[train][snapshot]") {
  const ScratchFolder scratch;
  const auto rows = [&](const std::string& text, uint64_t step) {
    write_text(scratch.file("loss.csv"), text);
    auto log = press::LossLog::open(scratch.path().string(), step);
    REQUIRE_OK(log.status());
    REQUIRE_OK(log.value().save());
    const auto bytes = read_bytes(scratch.file("loss.csv"));
    return std::count(bytes.begin(), bytes.end(), std::byte{'\n'}) - 1;
  };
  const std::string row = ",96,1,0.1,2,2,0,0,1,\n";
  CHECK(rows("step,tokens\n1" + row + "2" + row, 9) == 2);
  CHECK(rows("2" + row + "1" + row + "2" + row + "3" + row, 9) == 2);
  CHECK(rows("9223372036854775808" + row + "nonsense\n\x1b\n1" + row, 9) == 1);
  CHECK(rows("1,96,1,0.1,nan,inf,-inf,1e308,1,\n2" + row, 9) == 2);
  CHECK(rows("1,96,1,0.1,0,0,0,0,1,\n2,96,1,0.1,5e-324,0,0,0,1,1e308\n", 9) == 2);
  CHECK(rows("1,96,1,0.1,1e300,0,0,0,1,\n2,96,1,0.1,1.0000000000001e300,0,0,0,1,\n", 9) == 2);
  CHECK(rows(std::string(1 << 20, '1'), 9) == 0);
  CHECK(rows(std::string(1 << 20, '\0'), 1 << 30) == 0);
}
