#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <>
struct RowFormat<Codec::Lut3Rows> : LutFormat<LutKind{3, LutLayout::Rows, 64}> {};

}  // namespace
}  // namespace rwkv::edge
