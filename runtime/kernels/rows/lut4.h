#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut4> : LutFormat<LutKind{4, LutLayout::Tiles, 64}> {};

}  // namespace
}  // namespace rwkv::edge
