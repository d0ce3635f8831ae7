#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut4Rows> : LutFormat<LutKind{4, LutLayout::Rows, 64}> {};

}  // namespace
}  // namespace rwkv::edge
