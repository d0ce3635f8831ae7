#pragma once

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::F16> : PlainRows {
  static constexpr InputForm kInputs = InputForm::Floats;
  static constexpr Element kElement = Element::F16;
  static constexpr size_t kScatteredRows = 8;
};

}  // namespace
}  // namespace rwkv::edge
