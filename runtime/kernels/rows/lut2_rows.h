#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut2Rows> : LutFormat<LutKind{2, LutLayout::Rows, 32}> {};

}  // namespace
}  // namespace rwkv::edge
