// Each stop string follows the text byte by byte with its own table. The longest beginning of a
// stop string that the text ends with must be held back.
#include "runtime/text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace rwkv::edge {
namespace {

constexpr size_t kUsualText = 1024;

std::vector<size_t> shorter_beginnings(const std::string& text) {
  std::vector<size_t> shorter(text.size() + 1, 0);
  size_t n = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (n > 0 && text[n] != text[i]) {
      n = shorter[n];
    }
    if (text[n] == text[i]) {
      ++n;
    }
    shorter[i + 1] = n;
  }
  return shorter;
}

}  // namespace

Status check_stop_strings(std::span<const std::string> stops) {
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) {
      return usage_error("stop string {} of {}: expected at least one byte, found an empty string",
                         i + 1, stops.size());
    }
  }
  return {};
}

StopStrings::StopStrings(std::vector<std::string> stops) {
  size_t longest = 0;
  for (std::string& stop : stops) {
    if (!stop.empty()) {
      longest = std::max(longest, stop.size());
      std::vector<size_t> shorter = shorter_beginnings(stop);
      patterns_.push_back({std::move(stop), std::move(shorter), 0});
    }
  }
  buffer_.reserve(longest + kUsualText);
}

std::string_view StopStrings::push(std::string_view text) {
  buffer_.erase(0, n_shown_);
  n_shown_ = 0;
  if (stopped_ || text.empty()) {
    return {};
  }
  size_t n_held = 0;
  for (const char byte : text) {
    buffer_ += byte;
    n_held = 0;
    size_t n_complete = 0;
    for (Pattern& pattern : patterns_) {
      pattern.take(byte);
      n_held = std::max(n_held, pattern.n_matched);
      if (pattern.n_matched == pattern.text.size()) {
        n_complete = std::max(n_complete, pattern.n_matched);
      }
    }
    if (n_complete > 0) {
      stopped_ = true;
      buffer_.resize(buffer_.size() - n_complete);
      n_held = 0;
      break;
    }
  }
  n_shown_ = buffer_.size() - n_held;
  return std::string_view(buffer_).substr(0, n_shown_);
}

std::string_view StopStrings::flush() {
  buffer_.erase(0, n_shown_);
  n_shown_ = buffer_.size();
  for (Pattern& pattern : patterns_) {
    pattern.n_matched = 0;
  }
  return buffer_;
}

void StopStrings::reset() {
  flush();
  buffer_.clear();
  n_shown_ = 0;
  stopped_ = false;
}

void StopStrings::Pattern::take(char byte) {
  while (n_matched > 0 && text[n_matched] != byte) {
    n_matched = shorter[n_matched];
  }
  if (text[n_matched] == byte) {
    ++n_matched;
  }
}

}  // namespace rwkv::edge
