#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut5> : LutFormat<LutKind{5, LutLayout::Tiles, 64}> {};

}  // namespace
}  // namespace rwkv::edge
