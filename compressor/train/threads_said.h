// What a training that goes on says of its threads, on whose number the bits of its result depend.
#pragma once

#include <string>
#include <vector>

namespace rwkv::press {

/// Threads of one process.
struct OwnThreads {
  int before = 0;     ///< by the snapshot; 0: none is known
  int now = 0;        ///< that it uses
  int otherwise = 0;  ///< that it would use without a snapshot
};

struct ThreadsSaid {
  std::string line;  ///< empty if there is nothing to say
  bool is_warning = false;
};

/// `saved` and `now`: those of all processes, by rank; `saved` is empty in a new training.
ThreadsSaid say_threads(const std::vector<int>& saved, const std::vector<int>& now,
                        const OwnThreads& own);

}  // namespace rwkv::press
