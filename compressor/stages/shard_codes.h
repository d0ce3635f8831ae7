// The codes of matrices at several widths.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "compressor/quantizers/quantizer.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

/// Puts the codes of full width of the matrices of work.plan.shards into work.source, where the
/// packer would have rounded; returns their names. Dropping these codes in the end leaves the
/// rounding to the packer again.
Result<std::vector<std::string>> round_to_full_width(Work& work);

/// Puts codes of every matrix of work.plan.shards at every width into work.source, all rows of it,
/// as "NAME@WIDTH". Values are those
/// before the rounding to full width, where they are known; a quantizer that learns has the moments
/// of the inputs in the model at full width. One block is in memory at a time. The same with any
/// number of threads.
Status quantize_shards(Work& work, const Quantizer& quantizer);

/// The codes of some pieces of a matrix, `codes`: its shared part, then the units of their rows.
std::vector<std::byte> codes_of_pieces(std::span<const std::byte> codes, Codec codec, uint64_t rows,
                                       uint64_t cols, uint64_t piece_rows,
                                       std::span<const uint64_t> pieces);

/// Sets the checksums of all pieces of work.plan.shards, from the codes in work.source.
Status sum_up_pieces(Work& work);

}  // namespace rwkv::press
