// Failures that a command may survive, each with the reason.
#pragma once

#include "tests/support/fault_injector.h"

namespace rwkv::test {

/// Whether a command may well succeed after the fault of `plan`, which has struck. Its outputs must
/// be right all the same.
bool is_harmless(const FaultPlan& plan);

}  // namespace rwkv::test
