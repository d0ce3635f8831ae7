#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut5Rows> : LutFormat<LutKind{5, LutLayout::Rows, 64}> {};

}  // namespace
}  // namespace rwkv::edge
