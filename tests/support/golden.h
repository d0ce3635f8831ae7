// The packed files that are kept as bytes, in tests/formats/golden.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/tiny_model.h"

namespace rwkv::test {

/// The path of a golden file.
std::string golden_file(std::string_view name);

struct GoldenTinyModel {
  const char* file;
  TinyModelOptions options;
};
/// Tiny models as the writer of the newest format writes them.
std::vector<GoldenTinyModel> golden_tiny_models();

}  // namespace rwkv::test
