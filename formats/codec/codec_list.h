// The one list of codecs. X(Name, name): the enumerator Codec::Name; `name` is what people and
// files call it, and the name of its two halves: formats/codec/name.cpp, how values lie on disk,
// and runtime/kernels/rows/name.h, how kernels read them. CMake reads the list too.
#pragma once

#define RWKV_CODECS(X) \
  X(F32, f32)          \
  X(F16, f16)          \
  X(I8Row, i8_row)     \
  X(Mm8, mm8)          \
  X(SignRow, sign_row)
