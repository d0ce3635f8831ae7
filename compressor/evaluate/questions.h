// Common to all kinds of questions: how they are asked, and how many were answered right.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compressor/evaluate/confidence.h"

namespace rwkv::press {

/// Documents, and how many of them were right.
struct Tally {
  uint64_t documents = 0;
  uint64_t right = 0;

  void add(bool is_right);
  /// p = right / documents, 0 to 1.
  double accuracy() const;
  /// Of the accuracy, documents taken as independent: sqrt(p (1 - p) / documents).
  double standard_error() const;
  /// 95 %, Wilson's.
  Interval interval() const;
};

struct QuestionOptions {
  unsigned n_threads = 1;  ///< changes no result
  /// Called with the number of documents done.
  std::function<void(uint64_t)> progress = [](uint64_t) {};
  /// Tokens in front of every context, of the model's vocabulary.
  std::vector<int32_t> prefix = {};
};

}  // namespace rwkv::press
