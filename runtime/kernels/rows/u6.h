#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::U6> : LutFormat<LutKind{6, LutLayout::Tiles, 64}> {};

}  // namespace
}  // namespace rwkv::edge
