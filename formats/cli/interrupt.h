// What a program says when a signal ends it.
#pragma once

#include <string>

namespace rwkv::cli {

/// A line for stderr when Ctrl-C, SIGTERM or SIGHUP ends the program: how to go on. Empty: none.
void set_interrupt_note(const std::string& line);

}  // namespace rwkv::cli
