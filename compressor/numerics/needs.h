// What a piece of work will take, from shapes alone: memory, temporary disk, and work in units that
// a second of measuring turns into time (compressor/estimate). Each stage states its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace rwkv::press {

/// Work by what bounds it.
struct Effort {
  double products = 0;  ///< floating-point operations of large matrix products
  double loops = 0;     ///< of plain loops over values that are in the cache
  double bytes = 0;     ///< that operations over whole tensors read and write in memory

  Effort& operator+=(const Effort& other) {
    products += other.products;
    loops += other.loops;
    bytes += other.bytes;
    return *this;
  }
  Effort operator*(double times) const { return {products * times, loops * times, bytes * times}; }
};

/// A setting that would lower the memory, and how far.
struct Remedy {
  std::string setting;  ///< "train.micro_batch=1"
  uint64_t memory = 0;
};

struct Needs {
  uint64_t memory = 0;  ///< bytes at the peak, besides the program itself
  uint64_t disk = 0;    ///< bytes of temporary data, which stay until the end of the conversion
  uint64_t files = 0;   ///< bytes of files read and written
  Effort parallel;      ///< on all threads
  Effort serial;        ///< on one thread
  std::vector<Remedy> remedies;  ///< the mildest first
  bool leaves_hidden = false;    ///< the activations after the last block stay for later stages

  /// The same work and `next` after it.
  Needs& then(const Needs& next) {
    memory = std::max(memory, next.memory);
    disk += next.disk;
    files += next.files;
    parallel += next.parallel;
    serial += next.serial;
    remedies.insert(remedies.end(), next.remedies.begin(), next.remedies.end());
    return *this;
  }
};

}  // namespace rwkv::press
