#include "compressor/train/block_options.h"

#include <array>
#include <charconv>

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 2> kFrom = {"student", "teacher"};

bool parse(std::string_view digits, uint64_t& value) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size();
}

}  // namespace

Result<BlockShard> parse_block_shard(const std::string& text) {
  const std::string_view all = text;
  const size_t slash = all.find('/');
  uint64_t number = 0;
  BlockShard shard;
  if (slash == std::string_view::npos || !parse(all.substr(0, slash), number) ||
      !parse(all.substr(slash + 1), shard.n) || number < 1 || number > shard.n) {
    return usage_error("--shard: expected i/n with i from 1 to n, found '{}'", text);
  }
  shard.index = number - 1;
  return shard;
}

std::vector<Setting> block_settings(BlockOptions& options, bool shown) {
  using namespace setting;
  constexpr uint64_t kMost = uint64_t{1} << 40;
  constexpr uint64_t kMostSequences = uint64_t{1} << 32;
  return {
      count("block_steps", options.steps, 1, kMost, "optimiser steps for each block")
          .shown_if(shown),
      real("block_lr", options.learning_rate, 0, 10, "learning rate of blocks after the warm-up")
          .shown_if(shown),
      count("sequences", options.sequences, 0, kMostSequences,
            "that all blocks learn from, again and again; 0: as many as the steps have")
          .shown_if(shown),
      choice("from", options.from, kFrom,
             "inputs of a block: the student's own, in order, or the teacher's, with which blocks "
             "are independent")
          .shown_if(shown),
      real("state_weight", options.state_weight, 0, 1e6,
           "weight of the error of the state that a block leaves")
          .shown_if(shown),
  };
}

}  // namespace rwkv::press
