#include "formats/arch/finite.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace rwkv {
namespace {

constexpr uint64_t kValuesAtATime = uint64_t{1} << 18;

bool may_be_infinite(std::string_view tensor) {
  return tensor.ends_with(".att.time_decay") || tensor.ends_with(".att.time_first") ||
         tensor.ends_with(".att.time_faaaa");
}

}  // namespace

Status check_values(std::string_view tensor, std::span<const float> values, uint64_t cols,
                    uint64_t first_row) {
  const float most = may_be_infinite(tensor) ? std::numeric_limits<float>::infinity()
                                             : std::numeric_limits<float>::max();
  // NaN fails the comparison too.
  const auto is_bad = [most](float value) { return !(std::fabs(value) <= most); };
  // Counted first, because that loop is vectorised and all values are sound nearly always.
  size_t n_bad = 0;
  for (const float value : values) {
    n_bad += is_bad(value) ? 1 : 0;
  }
  if (n_bad == 0) {
    return {};
  }
  const auto bad = std::find_if(values.begin(), values.end(), is_bad);
  const auto at = static_cast<uint64_t>(bad - values.begin());
  return bad_input(
      "tensor '{}': row {}, column {} holds {}, expected a finite number; the weights are spoiled "
      "(a training that diverged, or a damaged file): take an earlier or the original checkpoint",
      tensor, first_row + at / cols, at % cols, *bad);
}

Status check_values(std::string_view tensor, const MatrixView& w) {
  const uint64_t step = std::clamp<uint64_t>(kValuesAtATime / w.cols, 1, w.rows);
  std::vector<float> values(step * w.cols);
  for (uint64_t row = 0; row < w.rows; row += step) {
    const uint64_t n = std::min(step, w.rows - row);
    const auto here = std::span(values).first(n * w.cols);
    codec_traits(w.codec).decode_rows(w, row, n, here);
    RWKV_TRY(check_values(tensor, here, w.cols, row));
  }
  return {};
}

}  // namespace rwkv
