// A model to evaluate: a packed file as it is, a checkpoint packed for the time being.
#pragma once

#include <memory>
#include <string>

#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

class PackedInput {
 public:
  /// A packed file is left where it is. A checkpoint is packed in f32, which loses nothing, into a
  /// file of the system's folder for temporary files (TMPDIR), removed with the object or when the
  /// program is interrupted; `vocab` and what is found without are as for convert
  /// (choose_vocabulary), a checkpoint without any is a usage error.
  static Result<PackedInput> open(const std::string& path, const std::string& vocab, bool quiet);

  const std::string& name() const { return name_; }
  const std::string& packed_path() const { return packed_path_; }
  bool is_checkpoint() const { return temporary_ != nullptr; }

 private:
  std::string name_;         ///< as given
  std::string packed_path_;  ///< to run
  std::unique_ptr<OutputFile> temporary_;
};

}  // namespace rwkv::press
