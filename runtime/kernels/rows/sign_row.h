#pragma once

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::SignRow> : PlainRows {
  static constexpr InputForm kInputs = InputForm::BytePlanes;
  static constexpr Element kElement = Element::Bit;
  static constexpr size_t kHeader = 4;
  static constexpr size_t kDenseRows = 4;
  static Affine affine(const RowPlace& row, size_t /*group*/) {
    const float low = finite_half_at(row.unit);
    return {finite_half_at(row.unit + 2) - low, low};
  }
};

}  // namespace
}  // namespace rwkv::edge
