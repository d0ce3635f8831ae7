// Which files a checkpoint consists of: one file, or several parts with an index, as Hugging Face
// stores large models. A folder, an index and one of the parts all name the whole checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

struct CheckpointFiles {
  /// What stands for the whole: the only file, the index, or the folder of parts without an index.
  std::string path;
  /// Where what belongs to the checkpoint lies: config.json, vocabularies.
  std::string folder;
  std::vector<std::string> files;  ///< at least one, in order
  /// From the index: the tensors of each file; empty without one.
  std::map<std::string, std::vector<std::string>> tensors_of;
  /// Whether more than a single file was named: a folder, an index, a part.
  bool is_collection = false;
  std::vector<std::string> notes;  ///< what was decided, one short sentence each
};

/// BadInput for folders without a checkpoint or with several, and for parts that are missing, by
/// name.
Result<CheckpointFiles> find_checkpoint_files(const std::string& path);

/// XXH64 of the file, or over those of all parts.
Result<uint64_t> checkpoint_xxh64(const std::string& path);
/// Size of the file, or of all parts together.
Result<uint64_t> checkpoint_bytes(const std::string& path);
/// The name of the checkpoint without folders and extension; that of the folder for a collection
/// of parts.
Result<std::string> checkpoint_name(const std::string& path);

}  // namespace rwkv::press
