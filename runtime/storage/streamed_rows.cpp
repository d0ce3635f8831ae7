#include "runtime/storage/streamed_rows.h"

#include <algorithm>

namespace rwkv::edge {

// One piece at a time. Waiting for the next one, here or in a product, ends the use of this one.
Result<size_t> StreamedRows::gather(ThreadPool&, Traffic& traffic, std::span<const uint32_t> ids,
                                    const std::byte** rows) {
  const auto part = std::find_if(parts_.begin(), parts_.end(), [&](const MatrixPart& candidate) {
    return ids[0] < candidate.first_row + candidate.n_rows;
  });
  RWKV_TRY(stream_.await(part->step, traffic));
  const MatrixView view = stream_.view(part->step);
  form_ = {view.shared, view.codec, view.units == nullptr};
  const uint64_t row_bytes = codec_traits(view.codec).unit_bytes(view.cols);
  const uint64_t end = part->first_row + part->n_rows;
  const size_t most = std::min(ids.size(), kMaxGather);
  size_t n = 0;
  for (; n < most && ids[n] < end; ++n) {
    rows[n] = form_.is_left_out ? nullptr : view.units + (ids[n] - part->first_row) * row_bytes;
  }
  return n;
}

}  // namespace rwkv::edge
