// What a file is by its first bytes, for the messages about files that lie where others belong.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

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
  bool is_no_text = false;     ///< of a known kind that nobody means as a text
};

/// `head` is the beginning of a file, all of it if the file is shorter than kFileKindBytes.
FileKind file_kind(std::span<const std::byte> head);

/// file_kind() of a file; the error of opening or reading it.
Result<FileKind> file_kind(const std::string& path);

/// BadInput, saying what is there, if the file `path` is known to be something else than a text: a
/// checkpoint, an archive. Nothing if it is a pipe or cannot be read: whoever reads it says so.
Status check_plain_text(const std::string& path);

/// Usage, saying what is there, if `path` is a file with something in it whose beginning (at most
/// kFileKindBytes) is not `is_own`: for outputs that replace their like without being told, so that
/// a slip of the hand costs no model. `own` is what may be replaced: "a saved conversation".
Status check_replaced_kind(const std::string& path, const char* own,
                           bool (*is_own)(std::string_view head));

}  // namespace rwkv
