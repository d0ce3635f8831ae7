#pragma once

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::I8Row> : PlainRows {
  static constexpr InputForm kInputs = InputForm::Integers;
  static constexpr Element kElement = Element::I8;
  static constexpr size_t kHeader = 8;
  static Affine affine(const RowPlace& row, size_t /*group*/) {
    return {float_at(row.unit), float_at(row.unit + 4)};
  }
};

}  // namespace
}  // namespace rwkv::edge
