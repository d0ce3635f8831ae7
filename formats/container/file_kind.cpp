#include "formats/container/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/printable.h"

namespace rwkv {
namespace {

using namespace std::string_view_literals;

constexpr const char* kNotThePage =
    "download the file itself, not its page (Hugging Face: the address with /resolve/)";

// Compared with the beginning of the file as it is.
struct Magic {
  std::string_view begin;
  const char* found;
  const char* advice;
  bool is_checkpoint;
};
constexpr std::array kMagics = {
    Magic{"GGUF", kGgufKind, "", true},
    Magic{"fmgg", "an rwkv.cpp file", "", true},
    Magic{"\x80\x02", "a PyTorch checkpoint", "", true},
    Magic{"\x1f\x8b", "a file packed with gzip", "unpack it first: gunzip", false},
    Magic{"\xfd"
          "7zXZ",
          "a file packed with xz", "unpack it first: unxz", false},
    Magic{"BZh", "a file packed with bzip2", "unpack it first: bunzip2", false},
    Magic{"\x28\xb5\x2f\xfd", "a file packed with zstd", "unpack it first: unzstd", false},
    Magic{"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first", false},
    Magic{"Rar!", "a RAR archive", "unpack it first", false},
    Magic{"\x93NUMPY", "a NumPy array", "", false},
    Magic{"\x89HDF", "an HDF5 file", "", false},
};
constexpr std::string_view kZip = "PK\x03\x04";
constexpr size_t kTarMagicAt = 257;

// Compared with the beginning in lower case, without blanks and a mark of UTF-8 in front.
struct TextStart {
  std::string_view begin;
  const char* found;
  const char* advice;
  bool is_no_text = false;
};
constexpr std::array kTexts = {
    TextStart{"version https://git-lfs", "a pointer of Git LFS in its place",
              "fetch the file itself: git lfs pull", true},
    TextStart{"<!doctype", "a web page", kNotThePage},
    TextStart{"<html", "a web page", kNotThePage},
    TextStart{"<?xml", "an XML text", "download the file itself; this may be a server's error"},
    TextStart{"{", kJsonKind, ""},
    TextStart{"[", kJsonKind, ""},
};

std::string without_blanks(std::string_view head) {
  head.remove_prefix(head.starts_with("\xef\xbb\xbf") ? 3 : 0);
  std::string text(head.substr(std::min(head.size(), head.find_first_not_of(" \t\r\n"))));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_text(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= 0x20 && c != 0x7f) || c == '\t' || c == '\r' || c == '\n';
  });
}

// A line "1 '\x00' 1": an id, a literal of Python, its length.
bool is_vocabulary(std::string_view line) {
  const size_t space = line.find(' ');
  return space != line.npos && space > 0 && line.find_first_not_of("0123456789") == space &&
         (line.substr(space + 1, 1) == "'" || line.substr(space + 1, 1) == "\"" ||
          line.substr(space + 1, 2) == "b'");
}

FileKind zip_kind(std::string_view head) {
  // torch.save writes the pickle first.
  return head.find("data.pkl") != head.npos
             ? FileKind{"a PyTorch checkpoint", "", true, true}
             : FileKind{"a zip archive", "unpack it first: unzip", false, true};
}

FileKind text_kind(const std::string& text) {
  for (const TextStart& row : kTexts) {
    if (text.starts_with(row.begin)) {
      return {row.found, row.advice, false, row.is_no_text};
    }
  }
  constexpr size_t kShown = 40;
  const std::string line = text.substr(0, text.find_first_of("\r\n"));
  if (is_vocabulary(line)) {
    return {"a vocabulary", "it belongs to rwkv-press convert --vocab", false};
  }
  return {fmt::format("a text that begins with '{}'", printable(line.substr(0, kShown))), "",
          false};
}

}  // namespace

FileKind file_kind(std::span<const std::byte> bytes) {
  bytes = bytes.first(std::min(bytes.size(), kFileKindBytes));
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (head.empty()) {
    return {"an empty file", "", false};
  }
  if (head.starts_with(kZip)) {
    return zip_kind(head);
  }
  for (const Magic& row : kMagics) {
    if (head.starts_with(row.begin)) {
      return {row.found, row.advice, row.is_checkpoint, true};
    }
  }
  // A length of eight bytes stands before the header of a safetensors file.
  if (head.size() > 8 && head[8] == '{' && head[7] == '\0') {
    return {"a safetensors file", "", true, true};
  }
  if (head.size() > kTarMagicAt && head.substr(kTarMagicAt).starts_with("ustar")) {
    return {"a tar archive", "unpack it first: tar -xf", false, true};
  }
  if (const std::string text = without_blanks(head); is_text(text)) {
    return text_kind(text);
  }
  std::array<unsigned, 4> shown{};
  for (size_t i = 0; i < std::min(shown.size(), bytes.size()); ++i) {
    shown[i] = std::to_integer<unsigned>(bytes[i]);
  }
  return {fmt::format("a file that begins with {:02x}", fmt::join(shown, " ")), "", false};
}

namespace {

Result<std::vector<std::byte>> head_of(const std::string& path) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  std::vector<std::byte> head(std::min<uint64_t>(file->size(), kFileKindBytes));
  RWKV_TRY(file->read_at(0, head));
  return head;
}

}  // namespace

Result<FileKind> file_kind(const std::string& path) {
  RWKV_ASSIGN(const std::vector<std::byte> head, head_of(path));
  return file_kind(head);
}

Status check_plain_text(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    return {};  // what is read from a pipe is gone
  }
  const auto kind = file_kind(path);
  if (!kind.ok() || !kind.value().is_no_text) {
    return {};
  }
  const FileKind& found = kind.value();
  return bad_input("{}: expected a text, found {}; {}", path, found.found,
                   found.advice.empty() ? "name the file of the text itself" : found.advice);
}

Status check_replaced_kind(const std::string& path, const char* own,
                           bool (*is_own)(std::string_view head)) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    return {};  // OutputFile says what is wrong with anything else
  }
  RWKV_ASSIGN(const std::vector<std::byte> head, head_of(path));
  if (head.empty() || is_own({reinterpret_cast<const char*>(head.data()), head.size()})) {
    return {};
  }
  return usage_error("{}: is {}, and only {} is replaced here; choose another name, or remove it",
                     path, file_kind(head).found, own);
}

}  // namespace rwkv
