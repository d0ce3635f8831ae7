// The last step of every recipe: writes the packed file, one tensor in memory at a time.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compressor/numerics/needs.h"
#include "compressor/recipe/recipe.h"
#include "compressor/stages/plan.h"
#include "formats/base/file.h"
#include "formats/container/tensor_source.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

struct PackOptions {
  std::string output;
  OutputFile::Existing existing = OutputFile::Existing::Refuse;
  std::string model_name;
  std::string tool_version;
  std::optional<Vocabulary> vocabulary;
  /// Name of the chat template to store; empty: the one that vocabulary and names suggest.
  std::string chat_template;
  /// Called after every piece with the number of elements done so far.
  std::function<void(uint64_t done)> progress = [](uint64_t) {};
};

/// Writes `plan` of `source` to options.output. The same arguments give the same bytes. On failure
/// there is no file.
Status pack(const TensorSource& source, const PackPlan& plan, const Recipe& recipe,
            const PackOptions& options);

/// What pack() of `plan` will take, from shapes alone; as `disk` the file. `source_bytes`: of the
/// checkpoint, which is read once more for its checksum. `has_codes`: a stage has chosen the codes
/// of lut codecs, so that they are copied.
Needs pack_needs(const PackPlan& plan, uint64_t source_bytes, bool has_codes);

/// Predicts the bytes of packed files of one model, from shapes alone: exact where stages find
/// nothing out that changes shapes.
class PackedSize {
 public:
  /// Of options: model_name, tool_version, vocabulary and chat_template count. `source` must
  /// outlive it.
  PackedSize(const TensorSource& source, const PackOptions& options);
  Result<uint64_t> of(const PackPlan& plan, const Recipe& recipe) const;

 private:
  const TensorSource& source_;
  PackOptions options_;
  uint64_t vocabulary_bytes_ = 0;
};

}  // namespace rwkv::press
