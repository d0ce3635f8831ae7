#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::U6Rows> : LutFormat<LutKind{6, LutLayout::Rows, 64}> {};

}  // namespace
}  // namespace rwkv::edge
