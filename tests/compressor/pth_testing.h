// Shared by the tests of the .pth reader, besides pickle_builder.h: opening bytes as a file, and
// what a refusal must look like.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compressor/checkpoint/pth_reader.h"
#include "formats/container/tensor_source.h"
#include "tests/compressor/pickle_builder.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv::test {

using OpenedPth = Result<std::unique_ptr<TensorSource>>;

inline OpenedPth open_bytes(const std::string& bytes) {
  const ScratchFolder scratch;
  write_text(scratch.file("a.pth"), bytes);
  return press::open_pth(scratch.file("a.pth"));  // stays open after the folder is gone
}

inline OpenedPth open_checkpoint(const std::string& pickle,
                                 const std::vector<std::string>& storages) {
  return open_bytes(make_zip(checkpoint_entries(pickle, storages)));
}

/// The message of what must fail: bad input, one line.
inline std::string refusal(const OpenedPth& opened) {
  REQUIRE_FALSE(opened.ok());
  REQUIRE(opened.status().code() == Code::BadInput);
  REQUIRE(opened.status().message().find('\n') == std::string::npos);
  INFO(opened.status().message());
  CHECK(says_what_to_do(opened.status().message()));
  return opened.status().message();
}

/// A tensor as floats.
inline std::vector<float> values(const TensorSource& source, size_t index) {
  std::vector<std::byte> bytes;
  REQUIRE_OK(source.read(index, bytes));
  std::vector<float> out(source.tensors()[index].n_elements());
  decode_to_f32(source.tensors()[index].dtype, bytes, out);
  return out;
}

/// 2x3 floats in storage 0.
inline TensorSpec plain_tensor() {
  return {"w", "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}};
}

}  // namespace rwkv::test
