// A model to evaluate: a packed file as it is, or a checkpoint in a temporary packed file.
#pragma once

#include <memory>
#include <string>

#include "compressor/tools/commands.h"
#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

class PackedInput {
 public:
  /// A packed file is used in place. A checkpoint is packed in f32, which loses nothing, into a
  /// file in the system's folder for temporary files (TMPDIR); the file is removed with the object
  /// or when the program is interrupted. The vocabulary is chosen as in convert
  /// (choose_vocabulary); a checkpoint without one is a usage error.
  /// `from` says what its tensors do not show.
  static Result<PackedInput> open(const std::string& path, const std::string& vocab,
                                  const InputOptions& from);

  const std::string& name() const { return name_; }
  const std::string& packed_path() const { return packed_path_; }
  bool is_checkpoint() const { return temporary_ != nullptr; }

 private:
  std::string name_;         ///< as given
  std::string packed_path_;  ///< to run
  std::unique_ptr<OutputFile> temporary_;
};

}  // namespace rwkv::press
