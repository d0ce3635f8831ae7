// The log of a training: a CSV with a row per step, and a plot of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

struct LossRow {
  uint64_t step = 0;
  uint64_t tokens = 0;   ///< since the start
  double seconds = 0.0;  ///< since the start, training only
  double rate = 0.0;     ///< learning rate
  double loss = 0.0;     ///< the minimised loss, per token
  double cross_entropy = 0.0, divergence = 0.0, block_match = 0.0;  ///< its parts, nats per token
  double gradient_norm = 0.0;
  double valid = -1.0;  ///< nats per token on the validation data; below 0: not measured
};

class LossLog {
 public:
  /// FOLDER/loss.csv and FOLDER/loss.svg; rows after `step` in a CSV that is there are dropped,
  /// with step 0 all, and so are rows out of order and what is no row.
  static Result<LossLog> open(const std::string& folder, uint64_t step);
  void add(const LossRow& row) { rows_.push_back(row); }
  /// nullptr if there is none.
  const LossRow* last() const { return rows_.empty() ? nullptr : &rows_.back(); }
  /// Writes both files completely.
  Status save() const;

 private:
  std::string folder_;
  std::vector<LossRow> rows_;
};

/// The plot: loss over steps, smoothed, and the validation loss; self-contained SVG.
std::string plot_loss(const std::vector<LossRow>& rows);

}  // namespace rwkv::press
