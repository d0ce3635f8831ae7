#pragma once

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::F32> : PlainRows {
  static constexpr InputForm kInputs = InputForm::Floats;
  static constexpr Element kElement = Element::F32;
  static constexpr size_t kAddedRows = 4;  // rows of f32 are long, and few have them
};

}  // namespace
}  // namespace rwkv::edge
