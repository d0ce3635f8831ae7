// A shell command that cannot outlive us: it has a process group of its own, and a process between
// us and it ends everything that it started when it ends, or when we end in whatever way.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// Runs `command` with /bin/sh and waits for it. Its standard input is empty; what it prints goes
/// to our standard error. `variables` (name, value) are added to its environment. Failed if there
/// was no process to have, if a signal ended the command, or if it ended with another code than 0.
///
/// When the command ends, and when we end (by a signal too, SIGKILL included), every process of its
/// group and every descendant is killed, those that left the group or the session too. A descendant
/// escapes only if it kills or stops the process between first, or gets rights that we do not have.
Status run_watched(const std::string& command,
                   const std::vector<std::pair<std::string, std::string>>& variables);

}  // namespace rwkv::press
