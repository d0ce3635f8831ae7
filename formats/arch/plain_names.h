// From the names of any program to BlinkDL's. Decides by what is in the file: the prefix that all
// names have, the dialect (dialects.h), which way the small matrices lie, and whether time_first is
// a logarithm. The data is not touched; plain_source.h reads it.
#pragma once

#include <string>
#include <vector>

#include "formats/arch/dialects.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

/// A tensor under BlinkDL's name and shape, and how to read it.
struct PlainTensor {
  TensorInfo info;
  size_t from = 0;  ///< index of the tensor it is read from
  Change change = Change::None;
  uint64_t part = 0;  ///< of Joint: which vector
};

struct PlainNames {
  std::vector<PlainTensor> tensors;  ///< in the order of the file
  const Dialect* dialect = nullptr;  ///< none: the names are BlinkDL's, but for a prefix
  bool is_changed = false;           ///< false: all names and shapes are BlinkDL's already
  /// What was decided, one short sentence each.
  std::vector<std::string> notes;
};

struct NameOptions {
  /// The head of a model without one is its embedding (tie_word_embeddings).
  bool tied_head = false;
  /// Square small matrices of v7 lie as BlinkDL's: no other program writes this format.
  bool square_is_plain = true;
};

/// BadInput for small matrices that lie both ways or are square without any other that tells, and
/// for two tensors with one name. Names that are in no table stay as they are.
Result<PlainNames> find_plain_names(std::span<const TensorInfo> tensors,
                                    const NameOptions& options);

}  // namespace rwkv
