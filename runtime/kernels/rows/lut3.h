#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut3> : LutFormat<LutKind{3, LutLayout::Tiles, 64}> {};

}  // namespace
}  // namespace rwkv::edge
