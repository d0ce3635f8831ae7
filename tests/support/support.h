// What all tests share: where the optional real data lies, scratch folders, whole files as bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::test {

/// The path of a file of the optional test data (RWKV_TEST_DATA, default ../shared/data), or
/// nullopt after printing "SKIPPED <what>: <file> not found" on stderr. Tests return then, and
/// count as skipped at the end. With RWKV_REQUIRE_TEST_DATA=1 a missing file fails the test.
std::optional<std::string> test_data(std::string_view relative, std::string_view what);

/// Whether test_data lacked a file since the last call of this.
bool lacked_test_data();

/// A folder that exists while the object lives.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::string file(std::string_view name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }
  /// Names in the folder, sorted: to prove that nothing half-written stays behind.
  std::vector<std::string> entries() const;

 private:
  std::filesystem::path path_;
};

std::vector<std::byte> read_bytes(const std::string& path);
void write_bytes(const std::string& path, std::span<const std::byte> bytes);
void write_text(const std::string& path, std::string_view text);
std::span<const std::byte> as_bytes(std::string_view text);
/// Raw little-endian arrays as in the golden data.
std::vector<float> read_f32(const std::string& path);
std::vector<int32_t> read_i32(const std::string& path);

/// Deterministic noise: the i-th of a stream of floats in [-1, 1).
float noise(uint64_t seed, uint64_t i);

}  // namespace rwkv::test

/// Fails the test with the status's message.
#define REQUIRE_OK(expr)                       \
  do {                                         \
    const ::rwkv::Status test_status = (expr); \
    INFO(test_status.message());               \
    REQUIRE(test_status.ok());                 \
  } while (false)
