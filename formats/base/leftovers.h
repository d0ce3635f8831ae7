// What killed processes left of their outputs: NAME.unfinished-PID next to NAME. Process ids are
// reused, and belong to one machine or container; so the owner of such a file holds its lock, and a
// file whose lock is free is nobody's.
#pragma once

#include <string>

namespace rwkv {

/// What stands between the name of an output and the process id.
inline constexpr const char* kUnfinished = ".unfinished-";

/// Removes the leftovers of outputs in `folder`: those of the output `name`, or all if `name` is
/// empty. Files that another process is writing stay. Those that cannot be removed, and those on
/// file systems without locks, stay too, and are named. Each is one line for the listener.
void remove_leftovers(const std::string& folder, const std::string& name);

/// Where these lines go; nowhere until a program says so. For the start of a program.
void set_leftover_listener(void (*listener)(const std::string& line));

}  // namespace rwkv
