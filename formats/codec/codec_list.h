// The one list of codecs. X(Name, name): the enumerator Codec::Name, and the name that users and
// files use. `name` is also the name of the two halves: formats/codec/name.cpp, how values lie on
// disk, and runtime/kernels/rows/name.h, how kernels read them. CMake reads the list too.
#pragma once

#define RWKV_CODECS(X)   \
  X(F32, f32)            \
  X(F16, f16)            \
  X(I8Row, i8_row)       \
  X(Mm8, mm8)            \
  X(SignRow, sign_row)   \
  X(U6, u6)              \
  X(U6Rows, u6_rows)     \
  X(Lut5, lut5)          \
  X(Lut5Rows, lut5_rows) \
  X(Lut4, lut4)          \
  X(Lut4Rows, lut4_rows) \
  X(Lut3, lut3)          \
  X(Lut3Rows, lut3_rows) \
  X(Lut2, lut2)          \
  X(Lut2Rows, lut2_rows) \
  /* the next one goes here */
