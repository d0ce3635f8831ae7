// formats/base: files that appear whole or not at all, checked cursors and products, suggestions,
// statuses and checksums. Half floats have a file of their own.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <vector>

#include "formats/base/byte_reader.h"
#include "formats/base/byte_size.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"
#include "formats/base/nearest.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;
using Existing = OutputFile::Existing;
using Entries = std::vector<std::string>;

constexpr uint64_t kMax = ~uint64_t{0};

std::unique_ptr<OutputFile> create(const std::string& path, Existing existing = Existing::Refuse) {
  auto file = OutputFile::create(path, existing);
  REQUIRE_OK(file.status());
  return file.take();
}

std::string content(const std::string& path) {
  auto text = read_text_file(path, 1 << 24);
  REQUIRE_OK(text.status());
  return text.take();
}

Status count_to(int limit, int& calls) {
  ++calls;
  return calls <= limit ? Status() : failed("call {}", calls);
}

Result<int> add_one(Result<int> input) {
  RWKV_ASSIGN(const int value, std::move(input));
  return value + 1;
}

}  // namespace

TEST_CASE("Status carries its code through context and macros") {
  REQUIRE(Status().in("file").ok());
  const Status status = bad_input("{} is not {}", 1, 2).in("file");
  REQUIRE(status.code() == Code::BadInput);
  REQUIRE(status.message() == "file: 1 is not 2");
  REQUIRE(usage_error("x").code() == Code::Usage);

  REQUIRE(add_one(1).value() == 2);
  REQUIRE(add_one(1).status().ok());
  REQUIRE(add_one(failed("no number")).status().message() == "no number");
  int calls = 0;
  const auto try_three = [&]() -> Status {
    for (int i = 0; i < 3; ++i) {
      RWKV_TRY(count_to(1, calls));
    }
    return {};
  };
  REQUIRE(try_three().message() == "call 2");
  REQUIRE(calls == 2);
}

TEST_CASE("Checked arithmetic finds every overflow") {
  uint64_t out = 0;
  REQUIRE(checked_mul(0, kMax, out));
  REQUIRE(out == 0);
  REQUIRE(checked_mul(1u << 31, uint64_t{1} << 32, out));
  REQUIRE(out == uint64_t{1} << 63);
  REQUIRE(checked_mul(3, kMax / 3, out));
  REQUIRE(out == kMax);
  REQUIRE_FALSE(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32, out));
  REQUIRE_FALSE(checked_mul(3, kMax / 3 + 1, out));
  REQUIRE(checked_add(kMax - 1, 1, out));
  REQUIRE(out == kMax);
  REQUIRE_FALSE(checked_add(kMax, 1, out));
  REQUIRE(align_up(0, 64) == 0);
  REQUIRE(align_up(1, 64) == 64);
  REQUIRE(align_up(64, 64) == 64);
  REQUIRE(align_up(65, 1) == 65);
}

TEST_CASE("ByteReader reads little-endian numbers and refuses to pass the end") {
  const std::array<uint8_t, 7> raw = {0x78, 0x56, 0x34, 0x12, 'a', 'b', 0xff};
  const std::string origin = "model.bin";
  ByteReader in(std::as_bytes(std::span(raw)), origin);
  REQUIRE(in.number<uint32_t>("a count").value() == 0x12345678u);
  REQUIRE(in.text(2, "a name").value() == "ab");
  REQUIRE(in.offset() == 6);
  const Status cut = in.number<uint16_t>("a type").status();
  REQUIRE(cut.code() == Code::BadInput);
  REQUIRE_THAT(cut.message(), Contains("model.bin") && Contains("expected 2 bytes for a type") &&
                                  Contains("offset 6") && Contains("found 1"));
  // A refused read moves nothing; lengths near 2^64 do not wrap around.
  REQUIRE_FALSE(in.bytes(kMax, "a blob").ok());
  REQUIRE_FALSE(in.bytes(kMax - 5, "a blob").ok());
  REQUIRE(in.number<uint8_t>("a byte").value() == 0xff);
  REQUIRE(in.left() == 0);
  REQUIRE(in.bytes(0, "nothing").ok());
}

TEST_CASE("XXH64 is the published one, whole and in pieces") {
  REQUIRE(xxh64({}) == 0xef46db3751d8e999u);
  REQUIRE(xxh64(test::as_bytes("abc")) == 0x44bc2cf5ad770999u);
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += static_cast<char>(i * 7);
  }
  for (const size_t piece : {1u, 31u, 32u, 33u, 999u}) {
    StreamingXxh64 hash;
    for (size_t at = 0; at < text.size(); at += piece) {
      hash.update(test::as_bytes(std::string_view(text).substr(at, piece)));
    }
    REQUIRE(hash.digest() == xxh64(test::as_bytes(text)));
  }
}

TEST_CASE("Suggestions name the nearest candidate, or all") {
  const std::array<std::string_view, 3> names = {"quantize", "low_rank", "pack"};
  REQUIRE(nearest("quantise", names) == "quantize");
  REQUIRE(nearest("lowrank", names) == "low_rank");
  REQUIRE(nearest("pack", names) == "pack");
  REQUIRE(nearest("evaluate_everything", names).empty());
  REQUIRE(nearest(std::string(100000, 'p'), names).empty());
  REQUIRE(nearest("pack", {}).empty());
  REQUIRE(suggestion("pak", names) == "; did you mean 'pack'?");
  REQUIRE(suggestion("evaluate_everything", names) == "; there are: quantize, low_rank, pack");
}

TEST_CASE("InputFile and MappedFile refuse what is not a file") {
  const test::ScratchFolder folder;
  const std::string fifo = folder.file("fifo");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const auto check = [&](const std::string& path, const char* reason) {
    for (const Status& status : {InputFile::open(path).status(), MappedFile::open(path).status()}) {
      REQUIRE(status.code() == Code::BadInput);
      REQUIRE_THAT(status.message(), Contains(path) && Contains(reason));
    }
  };
  check(folder.path().string(), "found a directory");
  check(folder.file("missing"), "No such file");
  check(fifo, "not a regular file");  // and does not wait for a writer
  REQUIRE_THAT(read_text_file(folder.path().string(), 100).status().message(),
               Contains("found a directory"));
}

TEST_CASE("read_text_file reads a pipe to its end, within the limit") {
  const std::string said(100000, 'x');  // more than a pipe holds
  for (const uint64_t limit : {uint64_t{100000}, uint64_t{99999}}) {
    int ends[2] = {};
    REQUIRE(::pipe(ends) == 0);
    std::thread writer([&] {
      REQUIRE(::write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size()));
      ::close(ends[1]);
    });
    const auto text = read_text_file("/dev/fd/" + std::to_string(ends[0]), limit);
    writer.join();
    ::close(ends[0]);
    if (limit == said.size()) {
      REQUIRE_OK(text.status());
      REQUIRE(text.value() == said);
    } else {
      REQUIRE(text.status().code() == Code::BadInput);
      REQUIRE_THAT(text.status().message(), Contains("at most 99999"));
    }
  }
}

TEST_CASE("InputFile reads ranges and refuses those after the end") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("ten");
  test::write_text(path, "0123456789");
  const auto file = InputFile::open(path).value();
  REQUIRE(file->size() == 10);
  std::array<std::byte, 4> part{};
  REQUIRE_OK(file->read_at(6, part));
  REQUIRE(part[3] == std::byte{'9'});
  REQUIRE_OK(file->read_at(10, {}));
  for (const uint64_t offset : {uint64_t{7}, uint64_t{11}, kMax - 1, kMax}) {
    const Status status = file->read_at(offset, part);
    REQUIRE(status.code() == Code::BadInput);
    REQUIRE_THAT(status.message(), Contains(path) && Contains("the file ends at 10"));
  }
  std::filesystem::resize_file(path, 5);
  REQUIRE_THAT(file->read_at(4, part).message(), Contains("became shorter"));

  test::write_text(path, "");
  REQUIRE(InputFile::open(path).value()->size() == 0);
  REQUIRE(MappedFile::open(path).value()->bytes().empty());
  REQUIRE(content(path).empty());
  test::write_text(path, "abc");
  REQUIRE(MappedFile::open(path).value()->bytes().size() == 3);
  REQUIRE_THAT(read_text_file(path, 2).status().message(), Contains("at most 2"));
}

TEST_CASE("OutputFile appears under its name when committed, not before") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("out");
  {
    const auto file = create(path);
    REQUIRE_OK(file->write(test::as_bytes("abc")));
    REQUIRE_OK(file->pad_to(8));
    REQUIRE_OK(file->pad_to(8));
    REQUIRE(file->position() == 8);
    REQUIRE_OK(file->write_at(1, test::as_bytes("X")));
    REQUIRE_OK(file->write(test::as_bytes("end")));
    REQUIRE_FALSE(std::filesystem::exists(path));
    REQUIRE(std::filesystem::exists(file->temporary_path()));
    REQUIRE_OK(file->commit());
    REQUIRE(folder.entries() == Entries{"out"});
  }
  REQUIRE(folder.entries() == Entries{"out"});
  REQUIRE(content(path) == std::string("aXc\0\0\0\0\0end", 11));
}

TEST_CASE("OutputFile destroyed without commit leaves nothing") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("out");
  {
    const auto file = create(path);
    REQUIRE_OK(file->write(std::vector<std::byte>(3 << 20)));
  }
  REQUIRE(folder.entries().empty());
  test::write_text(path, "old");
  {
    const auto file = create(path, Existing::Replace);
    REQUIRE_OK(file->write(test::as_bytes("new")));
  }
  REQUIRE(folder.entries() == Entries{"out"});
  REQUIRE(content(path) == "old");
  const auto file = create(folder.file("other"));
  remove_unfinished_outputs();
  REQUIRE(folder.entries() == Entries{"out"});
}

TEST_CASE("OutputFile refuses existing files unless told to replace them") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("out");
  test::write_text(path, "old");
  const Status refused = OutputFile::create(path, Existing::Refuse).status();
  REQUIRE(refused.code() == Code::Usage);
  REQUIRE_THAT(refused.message(), Contains(path) && Contains("--force"));
  REQUIRE(OutputFile::create(folder.path().string(), Existing::Replace).status().code() ==
          Code::Usage);
  REQUIRE(OutputFile::create(folder.file("no/such/folder"), Existing::Refuse).status().code() ==
          Code::Failed);

  const auto replacement = create(path, Existing::Replace);
  REQUIRE_OK(replacement->write(test::as_bytes("new")));
  REQUIRE_OK(replacement->commit());
  REQUIRE(content(path) == "new");

  // Somebody else's file that came while ours was written is not replaced either.
  const std::string late = folder.file("late");
  {
    const auto file = create(late);
    REQUIRE_OK(file->write(test::as_bytes("ours")));
    test::write_text(late, "theirs");
    REQUIRE(file->commit().code() == Code::Usage);
  }
  REQUIRE(content(late) == "theirs");
  REQUIRE(folder.entries() == Entries{"late", "out"});
}

TEST_CASE("OutputFile writes pieces of any size in order, and rewrites only what is there") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("out");
  std::vector<std::byte> expected;
  const auto file = create(path);
  // Around the size of the buffer, 1 MiB, and small ones between.
  for (const size_t size : {size_t{1}, size_t{1} << 20, size_t{3}, (size_t{1} << 20) - 1,
                            (size_t{2} << 20) + 5, size_t{0}, size_t{7}}) {
    const std::vector<std::byte> piece(size, static_cast<std::byte>(size % 251 + 1));
    REQUIRE_OK(file->write(piece));
    expected.insert(expected.end(), piece.begin(), piece.end());
  }
  REQUIRE(file->position() == expected.size());
  const auto end = file->position();
  REQUIRE_OK(file->write_at(end - 4, test::as_bytes("tail")));
  REQUIRE(file->write_at(end - 3, test::as_bytes("tail")).code() == Code::Failed);
  REQUIRE(file->write_at(kMax, test::as_bytes("tail")).code() == Code::Failed);
  REQUIRE_OK(file->commit());
  std::copy_n(test::as_bytes("tail").begin(), 4, expected.end() - 4);
  REQUIRE(test::read_bytes(path) == expected);
}

namespace {

// What the child process below found; exit codes must be small.
enum Outcome { kAsWanted = 0, kNotFailed = 10, kNoPath = 11, kLeftSomething = 12, kNoFile = 13 };

// Writes 3 MiB where the system allows 100000 bytes, as a full disk would.
Outcome write_to_the_limit(const test::ScratchFolder& folder, size_t piece) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {100000, 100000};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const std::string path = folder.file("out");
  {
    auto file = OutputFile::create(path, Existing::Refuse);
    if (!file.ok()) {
      return kNoFile;
    }
    const std::vector<std::byte> bytes(piece, std::byte{1});
    Status status;
    while (status.ok() && file.value()->position() < (3u << 20)) {
      status = file.value()->write(bytes);
    }
    if (status.ok()) {
      status = file.value()->commit();
    }
    if (status.code() != Code::Failed) {
      return kNotFailed;
    }
    if (status.message().find(path) == std::string::npos) {
      return kNoPath;
    }
  }
  return folder.entries().empty() ? kAsWanted : kLeftSomething;
}

}  // namespace

TEST_CASE("OutputFile that cannot be written whole fails and leaves nothing") {
  const size_t piece = GENERATE(size_t{1000}, size_t{100001}, size_t{3} << 20);
  const test::ScratchFolder folder;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::_exit(write_to_the_limit(folder, piece));
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == kAsWanted);
  REQUIRE(folder.entries().empty());
}

TEST_CASE("Sizes are read as people write them") {
  const std::pair<const char*, uint64_t> sizes[] = {
      {"67108864", 67108864}, {"64MB", 64'000'000},  {"512M", 512'000'000},
      {"512m", 512'000'000},  {"1G", 1'000'000'000}, {"1.5GB", 1'500'000'000},
      {"64MiB", 64 << 20},    {"64Mi", 64 << 20},    {"64 MB", 64'000'000},
      {"8kb", 8000},          {"8KiB", 8192},        {"1Gi", uint64_t{1} << 30}};
  for (const auto& [text, bytes] : sizes) {
    const auto parsed = parse_bytes(text);
    INFO(text);
    REQUIRE_OK(parsed.status());
    CHECK(parsed.value() == bytes);
  }
  for (const char* text :
       {"", "M", "lots", "-5MB", "0", "1e30GB", "64 M B", "64MBs", "nan", "inf"}) {
    INFO(text);
    CHECK(parse_bytes(text).status().code() == Code::Usage);
  }
}

}  // namespace rwkv
