// How far a piece of work is, for progress: a share, and what is known besides.
#pragma once

#include <cstdint>
#include <optional>

namespace rwkv::press {

struct Share {
  double done = 0;                     ///< from 0 to 1
  uint64_t block = 0;                  ///< the block that is done, from 1; 0: not by blocks
  uint64_t blocks = 0;                 ///< of so many
  std::optional<double> loss;          ///< of a training
  std::optional<double> seconds_left;  ///< where the work knows better than its share tells

  // A bare share is one, so that work which knows no more says only that.
  Share(double share) : done(share) {}      // NOLINT(google-explicit-constructor)
  operator double() const { return done; }  // NOLINT(google-explicit-constructor)
  static Share of_blocks(uint64_t block, uint64_t blocks) {
    Share share(static_cast<double>(block) / static_cast<double>(blocks));
    share.block = block;
    share.blocks = blocks;
    return share;
  }
};

}  // namespace rwkv::press
