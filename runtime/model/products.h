// Products of a pass: cut into pieces for the threads, inputs prepared once for all that share
// them.
#pragma once

#include <span>

#include "runtime/model/pass.h"

namespace rwkv::edge {

/// Any number of products that do not need one another's results: threads wait for one another
/// once. Pieces of a stream are awaited, in the order of `products`, each in the codec it comes in.
/// Failed if scratch memory was counted for fewer, or if storage fails.
Status matmul_all(Pass& pass, std::span<const Product> products);
Status matmul(Pass& pass, const Matrix& w, const float* x, float* y);

/// y[t][names[i]] = (row ids[i] of w) . x[t] for every token; y has `ldy` floats per token. Rows
/// are brought in as needed; `ids` ascend, and `order` says whether most follow the one before.
/// Fails if storage does.
Status matmul_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids,
                   std::span<const uint32_t> names, RowOrder order, const float* x, float* y,
                   size_t ldy);
/// y[t] = sum_i a[t][ids[i]] (row ids[i] of w); a has w.rows() floats per token, y has w.cols().
Status add_scaled_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids, const float* a,
                       float* y);

}  // namespace rwkv::edge
