// Names of processes that outlive them, in files of folders that machines share.
#pragma once

#include <cstdint>
#include <string>

namespace rwkv::press {

/// The machine, with its numbering of processes: those of a container are its own.
std::string this_host();

/// When a process of this machine started, in ticks, because process ids are reused. Empty if there
/// is no such process, or if it has ended and is a zombie.
std::string start_of(int64_t pid);

}  // namespace rwkv::press
