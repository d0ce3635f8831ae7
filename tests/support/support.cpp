#include "tests/support/support.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace rwkv::test {

namespace fs = std::filesystem;

static bool lacked_data = false;

std::optional<std::string> test_data(std::string_view relative, std::string_view what) {
  const char* from_environment = std::getenv("RWKV_TEST_DATA");
  const fs::path root = from_environment ? from_environment : RWKV_TEST_DATA_DEFAULT;
  const fs::path path = root / relative;
  if (fs::exists(path)) {
    return path.string();
  }
  const char* required = std::getenv("RWKV_REQUIRE_TEST_DATA");
  if (required && std::string_view(required) == "1") {
    throw std::runtime_error(
        fmt::format("{} is missing, RWKV_REQUIRE_TEST_DATA is 1", path.string()));
  }
  fmt::print(stderr, "SKIPPED {}: {} not found in the test data folder\n", what, relative);
  lacked_data = true;
  return std::nullopt;
}

bool lacked_test_data() {
  return std::exchange(lacked_data, false);
}

ScratchFolder::ScratchFolder() {
  std::string pattern = (fs::temp_directory_path() / "rwkv-test-XXXXXX").string();
  if (!mkdtemp(pattern.data())) {
    throw std::runtime_error("cannot make a scratch folder");
  }
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::string> ScratchFolder::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::byte> read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw std::runtime_error("cannot read " + path);
  }
  const std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::vector<std::byte> bytes(content.size());
  std::memcpy(bytes.data(), content.data(), content.size());
  return bytes;
}

void write_bytes(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  if (!out) {
    throw std::runtime_error("cannot write " + path);
  }
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

void write_text(const std::string& path, std::string_view text) {
  write_bytes(path, as_bytes(text));
}

template <typename T>
static std::vector<T> read_array(const std::string& path) {
  const std::vector<std::byte> bytes = read_bytes(path);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

std::vector<float> read_f32(const std::string& path) {
  return read_array<float>(path);
}
std::vector<int32_t> read_i32(const std::string& path) {
  return read_array<int32_t>(path);
}

float noise(uint64_t seed, uint64_t i) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u + 1;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<float>(static_cast<int64_t>(z >> 40) - (1 << 23)) * 0x1p-23f;
}

}  // namespace rwkv::test
