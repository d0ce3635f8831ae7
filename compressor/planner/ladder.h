// The codecs that a plan chooses from, as rungs of a ladder: each smaller than the one above it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/codec/codec.h"

namespace rwkv::press {

class Ladder {
 public:
  /// What plans choose from unless a budget says otherwise: f16, i8_row, u6 and lut5 to lut2.
  Ladder();
  /// At least one codec, each once, in any order.
  explicit Ladder(std::vector<Codec> codecs);

  /// From the most bytes to the least.
  std::span<const Codec> rungs() const { return rungs_; }
  /// The codec of the dense model that losses are measured against: it costs nothing.
  Codec finest() const { return rungs_.front(); }
  Codec coarsest() const { return rungs_.back(); }
  /// The rungs that a matrix of so many columns as packed can have: lut codecs need whole groups.
  std::vector<Codec> rungs_for(uint64_t packed_cols) const;
  /// All rungs but the finest.
  std::span<const Codec> below() const { return rungs().subspan(1); }
  /// The rungs next to `codec`, the larger first: two, or one at an end.
  std::vector<Codec> neighbours(Codec codec) const;
  /// "f16 i8_row".
  std::string describe() const;

 private:
  std::vector<Codec> rungs_;
};

}  // namespace rwkv::press
