// What a file is by its first bytes, for the messages about files that lie where others belong.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "formats/base/status.h"

namespace rwkv {

/// So many bytes of a file, from its start, are enough for file_kind().
inline constexpr size_t kFileKindBytes = 512;

/// What file_kind() calls a GGUF file, and a JSON text.
inline constexpr const char* kGgufKind = "a GGUF file";
inline constexpr const char* kJsonKind = "a JSON text";

struct FileKind {
  /// "a PyTorch checkpoint", "a web page", "a text that begins with 'x'"; never empty, printable.
  std::string found;
  /// What to do whatever was expected, "git lfs pull"; empty if that depends on it.
  std::string advice;
  bool is_checkpoint = false;  ///< of a kind that rwkv-press converts
};

/// `head` is the beginning of a file, all of it if the file is shorter than kFileKindBytes.
FileKind file_kind(std::span<const std::byte> head);

/// file_kind() of a file; the error of opening or reading it.
Result<FileKind> file_kind(const std::string& path);

}  // namespace rwkv
