#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut2> : LutFormat<LutKind{2, LutLayout::Tiles, 32}> {};

}  // namespace
}  // namespace rwkv::edge
