// What this machine has and can do, measured: for estimates of what work will take.
#pragma once

#include <cstdint>
#include <string>

#include "compressor/numerics/needs.h"

namespace rwkv::press {

/// Rates per second of one thread, and of products on all threads together.
struct Machine {
  int threads = 1;
  double products = 0;           ///< floating-point operations in large products, one thread
  double products_together = 0;  ///< on all threads
  double loops = 0;              ///< operations in plain loops
  double bytes = 0;              ///< that operations over whole tensors read and write
  double files = 0;              ///< bytes written to the folder of the output
  double share = 1;              ///< of its threads' time that this process got while measuring
  double measured_in = 0;        ///< seconds

  /// Seconds of processors, and of a clock on the wall.
  double cpu_seconds(const Needs& needs) const;
  double wall_seconds(const Needs& needs) const;
};

/// Measures for about `seconds`, in short turns. `folder` receives an unnamed file for a moment.
/// What cannot be measured there (no such folder, a full disk) is assumed.
Machine measure_machine(double seconds, const std::string& folder);

/// Bytes that this process holds now (resident), and the most that it has held (VmHWM).
uint64_t resident_bytes();
uint64_t peak_bytes();
/// Bytes that this process may still take: what the system has available, or what is left within
/// the limits of its control groups, whichever is less. 0 if neither can be read.
uint64_t available_memory();
/// Bytes free for this user in the file system of `folder`; 0 if it cannot be asked.
uint64_t free_disk(const std::string& folder);

}  // namespace rwkv::press
