// Memory that readers take for files that are made to take much: it is bounded by a few times the
// size of the file, and a constant. Counted in bytes of operator new.
#include <functional>

#include "formats/base/little_endian.h"
#include "formats/base/strict_json.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/safetensors_reader.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/allocations.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;

constexpr size_t kConstant = size_t{96} << 20;
constexpr size_t kFactor = 4;

template <typename T>
void put(std::string& out, T value) {
  out.resize(out.size() + sizeof(T));
  store_le(reinterpret_cast<std::byte*>(out.data() + out.size() - sizeof(T)), value);
}

void put_text(std::string& out, const std::string& text) {
  put<uint64_t>(out, text.size());
  out += text;
}

std::string gguf_head(uint64_t n_tensors, uint64_t n_entries) {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put(out, n_tensors);
  put(out, n_entries);
  return out;
}

// Metadata of `n` keys of one byte each.
std::string gguf_of_keys(uint64_t n) {
  std::string out = gguf_head(0, n);
  for (uint64_t i = 0; i < n; ++i) {
    put_text(out, std::to_string(i));
    put(out, static_cast<uint32_t>(GgufType::U8));
    put<uint8_t>(out, 1);
  }
  return out;
}

std::string gguf_of_array(GgufType element, uint64_t n, size_t bytes_each) {
  std::string out = gguf_head(0, 1);
  put_text(out, "a");
  put(out, static_cast<uint32_t>(GgufType::Array));
  put(out, static_cast<uint32_t>(element));
  put(out, n);
  out.resize(out.size() + n * bytes_each);
  return out;
}

std::string gguf_of_tensors(uint64_t n) {
  std::string out = gguf_head(n, 0);
  for (uint64_t i = 0; i < n; ++i) {
    put_text(out, std::to_string(i));
    put<uint32_t>(out, 1);
    put<uint64_t>(out, 1);
    put(out, static_cast<uint32_t>(GgmlType::I8));
    put<uint64_t>(out, 32 * i);
  }
  out.resize(align_up(out.size(), 32) + 32 * n);
  return out;
}

std::string safetensors_of(const std::string& header, size_t data_bytes) {
  std::string out;
  put<uint64_t>(out, header.size());
  return out + header + std::string(data_bytes, '\0');
}

std::string safetensors_of_keys(int n) {
  std::string header = "{\"__metadata__\":{\"a\":\"\"";
  for (int i = 1; i < n; ++i) {
    header += ",\"" + std::to_string(i) + "\":\"\"";
  }
  return safetensors_of(header + "}}", 0);
}

std::string safetensors_of_tensors(int n) {
  std::string header = "{";
  for (int i = 0; i < n; ++i) {
    header += fmt::format("{}\"{}\":{{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[{},{}]}}",
                          i == 0 ? "" : ",", i, i, i + 1);
  }
  return safetensors_of(header + "}", static_cast<size_t>(n));
}

Status parse_gguf(const std::string& file) {
  return GgufFile::parse(test::as_bytes(file), "a.gguf").status();
}

Status parse_safetensors(const std::string& file) {
  const test::ScratchFolder folder;
  test::write_text(folder.file("a.safetensors"), file);
  return open_safetensors(folder.file("a.safetensors")).status();
}

using Read = std::function<Status(const std::string&)>;

void check_bounded(const std::string& file, const Read& read) {
  const test::PeakBytes peak;
  REQUIRE_OK(read(file));
  CAPTURE(file.size(), peak.value());
  CHECK(peak.value() <= kConstant + kFactor * file.size());
}

// Refused before anything is built from it.
void check_refused(const std::string& file, const std::string& says, const Read& read,
                   size_t most_bytes) {
  const test::PeakBytes peak;
  const Status status = read(file);
  CAPTURE(file.size(), peak.value());
  REQUIRE(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Contains(says));
  CHECK(peak.value() <= most_bytes);
}

}  // namespace

TEST_CASE("Memory for metadata and tensor lists of GGUF is bounded", "[reader_memory]") {
  constexpr size_t kLittle = size_t{1} << 16;
  check_bounded(gguf_of_keys(1 << 13), parse_gguf);
  check_bounded(gguf_of_tensors(1 << 16), parse_gguf);
  check_bounded(gguf_of_array(GgufType::U8, 1 << 22, 1), parse_gguf);
  check_bounded(gguf_of_array(GgufType::String, 1 << 22, 8), parse_gguf);
  check_refused(gguf_of_keys(2'000'000), "2000000 metadata entries, at most", parse_gguf, kLittle);
  check_refused(gguf_of_tensors((1 << 16) + 1), "65537 tensors and", parse_gguf, kLittle);
  check_refused(gguf_of_array(GgufType::Bool, (1 << 22) + 1, 1), "has 4194305 elements", parse_gguf,
                kLittle);
}

TEST_CASE("Memory for headers of safetensors is bounded", "[reader_memory]") {
  check_bounded(safetensors_of_keys(1 << 13), parse_safetensors);
  check_bounded(safetensors_of_tensors(1 << 16), parse_safetensors);
  const std::string many_keys = safetensors_of_keys(1 << 20);
  check_refused(many_keys, "more than 8192 metadata keys", parse_safetensors,
                kConstant / 4 + many_keys.size());
  const std::string many_tensors = safetensors_of_tensors((1 << 16) + 1);
  check_refused(many_tensors, "more than 65536 tensors", parse_safetensors,
                kConstant / 2 + many_tensors.size());
}

TEST_CASE("Memory for JSON and vocabularies is bounded", "[reader_memory]") {
  const auto parse_json = [](const std::string& text) { return parse_strict_json(text).status(); };
  const auto repeated = [](const std::string& what, size_t n) {
    std::string text = "[" + what;
    for (size_t i = 1; i < n; ++i) {
      text += "," + what;
    }
    return text + "]";
  };
  check_bounded(repeated("[]", (1 << 18) - 1), parse_json);
  check_bounded(repeated("{}", (1 << 18) - 1), parse_json);
  check_bounded(repeated("\"\"", (1 << 20) - 1), parse_json);
  check_bounded(repeated("0", (1 << 20) - 1), parse_json);
  std::string members = "{\"a\":0";
  for (int i = 0; i < 1'000'000; ++i) {
    members += ",\"" + std::to_string(i) + "\":0";
  }
  check_bounded(members + "}", parse_json);

  std::string world;
  for (int i = 1; i < 500'000; ++i) {
    world += fmt::format("{} '{:05x}' 5\n", i, i);
  }
  check_bounded(world,
                [](const std::string& text) { return parse_vocabulary(text, "v.txt").status(); });
}

}  // namespace rwkv
