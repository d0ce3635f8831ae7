// Selects the kernels of a codec. The generated row_formats.h includes the kernel
// half of every codec of the list; one that lacks it does not compile.
#pragma once

#include "runtime/kernels/row_format.h"
#include "runtime/kernels/row_formats.h"

namespace rwkv::edge {
namespace {

/// pick.operator()<C>() of the codec.
template <class Picked, class Pick>
Picked for_codec(Codec codec, const Pick& pick) {
  switch (codec) {
#define RWKV_CODEC(enumerator, file) \
  case Codec::enumerator:            \
    return pick.template operator()<Codec::enumerator>();
    RWKV_CODECS(RWKV_CODEC)
#undef RWKV_CODEC
  }
  return {};
}

/// The same; nullptr for codecs whose units are not single rows.
template <class Fn, class Pick>
Fn for_single_rows(Codec codec, const Pick& pick) {
  return for_codec<Fn>(codec, [&pick]<Codec C>() -> Fn {
    if constexpr (RowFormat<C>::kUnitRows == 1) {
      return pick.template operator()<C>();
    } else {
      return nullptr;
    }
  });
}

}  // namespace
}  // namespace rwkv::edge
