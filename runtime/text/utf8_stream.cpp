// A decoder by states: the range of the next byte after each lead byte is that of table 3-7 of the
// Unicode standard, which excludes surrogates, overlong forms and values above U+10FFFF.
// (formats/base/utf8.h decodes whole texts and does not distinguish a character that is cut
// short from one that is wrong.)
#include "runtime/text/utf8_stream.h"

namespace rwkv::edge {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr size_t kUsualText = 1024;

}  // namespace

Utf8Stream::Utf8Stream() {
  out_.reserve(kUsualText);
}

std::string_view Utf8Stream::push(std::string_view bytes) {
  out_.clear();
  for (const char byte : bytes) {
    take(static_cast<uint8_t>(byte));
  }
  return out_;
}

std::string_view Utf8Stream::flush() {
  out_.clear();
  if (n_missing_ > 0) {
    out_ += kReplacement;
    n_missing_ = 0;
  }
  return out_;
}

void Utf8Stream::take(uint8_t byte) {
  if (n_missing_ > 0) {
    if (byte >= next_min_ && byte <= next_max_) {
      partial_[n_partial_++] = static_cast<char>(byte);
      next_min_ = 0x80;
      next_max_ = 0xbf;
      if (--n_missing_ == 0) {
        out_.append(partial_, n_partial_);
      }
      return;
    }
    out_ += kReplacement;  // and the byte begins something new
    n_missing_ = 0;
  }
  if (byte < 0x80) {
    out_ += static_cast<char>(byte);
    return;
  }
  if (byte < 0xc2 || byte > 0xf4) {
    out_ += kReplacement;
    return;
  }
  partial_[0] = static_cast<char>(byte);
  n_partial_ = 1;
  n_missing_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
  next_min_ = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
  next_max_ = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
}

}  // namespace rwkv::edge
