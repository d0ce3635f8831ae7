// Damage done to a good checkpoint file, systematically and by seeded chance: a reader may refuse
// it or read it, but must keep its promises.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "formats/container/tensor_source.h"

namespace rwkv::test {

using OpenSource = std::function<Result<std::unique_ptr<TensorSource>>(const std::string& path)>;

/// Reads every tensor whole and in part; fails the test if sizes or parts disagree. A Status on
/// the way is fine.
void check_reads_agree(const TensorSource& source);

/// The file cut at every fiftieth of its length, and at each of its first 200 bytes, is BadInput.
void check_every_cut_is_refused(std::span<const std::byte> good, const OpenSource& open);

/// Some hundred seeded flips of single bits, most of them within the first `header_bytes`.
void check_bit_flips(std::span<const std::byte> good, const OpenSource& open,
                     size_t header_bytes = 1000);

}  // namespace rwkv::test
