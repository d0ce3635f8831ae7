// What a packed file will take of a device, in every memory mode: bytes in memory and bytes read
// per token, before anything is loaded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/memory/residency.h"

namespace rwkv::edge {

struct ModeNeeds {
  MemoryMode mode;
  uint64_t resident = 0;  ///< the account's total for a session of one thread, without the program
  ReadPerToken read;
  bool is_made_for = false;  ///< the mode that the file opens in unless told otherwise
};

/// One entry for each mode, in the order of the list. The shapes and shares of `file` decide it, so
/// a file that does not exist yet will do. `tokenizer_bytes` is Tokenizer::memory_bytes.
Result<std::vector<ModeNeeds>> device_needs(const PackedFile& file, uint64_t tokenizer_bytes);

/// The same of the packed file at `path`; errors as PackedFile::open().
Result<std::vector<ModeNeeds>> device_needs(const std::string& path);

/// "reads 33.4 MB per token" or "reads at most ..."; empty if nothing is read.
std::string describe(const ReadPerToken& read);
/// Lines for people, one per mode, each begun with `indent`: bytes, and what is read.
std::string describe(std::span<const ModeNeeds> needs, const std::string& indent);

}  // namespace rwkv::edge
