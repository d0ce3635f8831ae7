#include "compressor/evaluate/lines.h"

#include <zlib.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/base/file.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxComplaints = 5;
constexpr size_t kMaxLineBytes = size_t{1} << 20;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxLines = uint64_t{1} << 20;  // what they hold is kept
// Files of questions compress to a tenth, with the same examples in front of every question to a
// hundredth; more is made to fill memory.
constexpr uint64_t kFreeBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxRatio = 256;
constexpr uint64_t kMaxKeptRatio = 32;
constexpr size_t kBufferBytes = size_t{1} << 18;

struct Close {
  void operator()(gzFile file) const { gzclose(file); }
};
using GzFile = std::unique_ptr<gzFile_s, Close>;

// Bytes of a file, inflated if it is gzip.
class Input {
 public:
  static Result<Input> open(const std::string& path) {
    RWKV_ASSIGN(const auto file, InputFile::open(path));
    Input input;
    input.path_ = path;
    input.size_ = file->size();
    input.file_.reset(gzopen(path.c_str(), "rb"));
    if (!input.file_) {
      return failed("{}: cannot be opened", path);
    }
    input.buffer_.resize(kBufferBytes);
    return input;
  }

  // The next piece; empty at the end.
  Result<std::string_view> next() {
    const int n = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
    int code = Z_OK;
    gzerror(file_.get(), &code);
    // At the end of a cut stream gzread() gives what there is, and only gzerror() tells.
    if (code == Z_BUF_ERROR) {
      return bad_input("{}: the gzip stream ends too early; download the file again", path_);
    }
    if (code == Z_DATA_ERROR) {
      return bad_input("{}: cannot be inflated; the file is damaged, download it again", path_);
    }
    if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      return failed("{}: cannot be read", path_);
    }
    total_ += static_cast<uint64_t>(n);
    if (total_ > kMaxFileBytes) {
      return bad_input("{}: has more than {} bytes (inflated); split it", path_, kMaxFileBytes);
    }
    if (total_ > kFreeBytes + kMaxRatio * size_) {
      return bad_input(
          "{}: inflates to more than {} bytes, {} times its size; if that is meant, unpack it with "
          "gunzip and name the plain file",
          path_, total_ - static_cast<uint64_t>(n), kMaxRatio);
    }
    return std::string_view(buffer_.data(), static_cast<size_t>(n));
  }

 private:
  std::string path_;
  GzFile file_;
  std::string buffer_;
  uint64_t size_ = 0;   // of the file
  uint64_t total_ = 0;  // inflated
};

// Cuts pieces into lines.
class Lines {
 public:
  Lines(const std::string& path, const UseLine& use, Skipped& malformed)
      : path_(path), use_(use), malformed_(malformed) {}

  void add(std::string_view piece) {
    while (!piece.empty() && end_.ok()) {
      const size_t end = std::min(piece.find('\n'), piece.size());
      keep(piece.substr(0, end));
      if (end == piece.size()) {
        return;
      }
      finish();
      piece.remove_prefix(end + 1);
    }
  }

  // Ends a line, also the last one that has no end of its own.
  void finish() {
    ++number_;
    if (is_long_) {
      any_ = true;
      complain(fmt::format("has more than {} bytes", kMaxLineBytes));
    } else if (line_.find_first_not_of(" \t\r") != std::string::npos) {
      any_ = true;
      const Status status = use_(number_, line_);
      if (status.code() == Code::BadInput) {
        complain(status.message());
      } else {
        end_ = status;
      }
    }
    line_.clear();
    is_long_ = false;
  }

  bool any() const { return any_; }
  /// Why nothing more is to be read.
  const Status& end() const { return end_; }
  uint64_t number() const { return number_; }

 private:
  void keep(std::string_view part) {
    is_long_ = is_long_ || part.size() > kMaxLineBytes - line_.size();
    if (is_long_) {
      line_.clear();
    } else {
      line_ += part;
    }
  }
  void complain(const std::string& why) {
    malformed_.add(fmt::format("{}: line {}: {}", path_, number_, why));
  }

  const std::string& path_;
  const UseLine& use_;
  Skipped& malformed_;
  Status end_;
  std::string line_;
  uint64_t number_ = 0;
  bool is_long_ = false;
  bool any_ = false;
};

}  // namespace

void Skipped::add(std::string complaint) {
  ++count;
  if (complaints.size() < kMaxComplaints) {
    complaints.push_back(std::move(complaint));
  }
}

Status read_lines(const std::string& path, const UseLine& use, Skipped& malformed) {
  RWKV_ASSIGN(Input input, Input::open(path));
  Lines lines(path, use, malformed);
  while (true) {
    RWKV_ASSIGN(const std::string_view piece, input.next());
    if (piece.empty()) {
      break;
    }
    lines.add(piece);
    RWKV_TRY(lines.end());
    if (lines.number() > kMaxLines) {
      return bad_input("{}: has more than {} lines; split it", path, kMaxLines);
    }
  }
  lines.finish();
  RWKV_TRY(lines.end());
  if (!lines.any()) {
    return bad_input("{}: expected a JSON object on every line, found an empty file", path);
  }
  return {};
}

Status read_again(const std::string& path, const std::vector<uint64_t>& wanted,
                  const UseLine& use) {
  size_t done = 0;
  const auto use_wanted = [&](uint64_t number, std::string_view line) -> Status {
    if (done < wanted.size() && number == wanted[done]) {
      RWKV_TRY(use(number, line));
      ++done;
    }
    return {};
  };
  Skipped known;
  RWKV_TRY(read_lines(path, use_wanted, known));
  return done == wanted.size()
             ? Status()
             : bad_input("{}: line {} has changed while the file was read", path, wanted[done]);
}

Result<KeptBytes> KeptBytes::of_file(const std::string& path) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  return KeptBytes(path, kFreeBytes + kMaxKeptRatio * file->size());
}

Status KeptBytes::add(size_t n_bytes) {
  kept_ += n_bytes;
  return kept_ <= most_
             ? Status()
             : usage_error(
                   "{}: its documents take more than {} bytes of memory, {} times the file; draw "
                   "some of them with --max-docs, or unpack it with gunzip and name the plain file",
                   path_, most_, kMaxKeptRatio);
}

Result<Json> parse_object(std::string_view line) {
  Json object = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!object.is_object()) {
    return bad_input("is not a JSON object");
  }
  return object;
}

Result<std::string> string_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) {
    return bad_input("has no string under '{}'", key);
  }
  return found->get<std::string>();
}

Result<uint64_t> number_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  // Whole numbers that are read without a sign are unsigned.
  if (found == object.end() || !found->is_number_unsigned()) {
    return bad_input("has no integer of 0 or more under '{}'", key);
  }
  return found->get<uint64_t>();
}

}  // namespace rwkv::press
