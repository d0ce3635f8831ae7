// What a packed file takes of a device: bytes in memory by the runtime's own account, and tokens
// per second.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// Ways to hold a model: "auto" first, then the runtime's modes. auto is streamed if bytes of
/// weights are given, else what the runtime chooses for a limit; without either, sparse for a file
/// with predictors or a clustered head, else loaded.
std::span<const char* const> footprint_modes();

/// How a model is held; 0: not given.
struct HeldAs {
  std::string mode = "auto";  ///< of footprint_modes()
  uint64_t memory_limit = 0;  ///< bytes for everything but the program
  uint64_t weight_bytes = 0;  ///< of all pieces that are streamed, chooses their widths
  uint64_t read_speed = 0;    ///< bytes per second of the storage, at most

  /// Whether anything but the mode is given.
  bool has_limits() const { return memory_limit > 0 || weight_bytes > 0 || read_speed > 0; }
};

struct Footprint {
  std::string mode;             ///< never auto
  uint64_t resident_bytes = 0;  ///< all that the runtime holds, the program itself left out
  uint64_t weight_bytes = 0;    ///< of it, weights and their caches
};

/// Opens the model, for one thread, and reads the account (runtime/account/account.h).
Result<Footprint> footprint(const std::string& packed, const HeldAs& held);

/// Tokens per second of `n_tokens` decoded one after another, median over the tokens; a few more
/// warm up. Opens the model and lets it go again.
Result<double> decode_speed(const std::string& packed, const HeldAs& held, unsigned n_threads,
                            uint64_t n_tokens);

/// The machine that speeds are of.
struct SpeedMachine {
  std::string cpu;       ///< as the system calls it
  unsigned threads = 1;  ///< that a process may run at once
  std::string kernels;   ///< in use: "x86_avx2"
};
SpeedMachine this_machine();

}  // namespace rwkv::press
