// The command of the stage `external`: where the two files stand in it, and how they get there.
#pragma once

#include <string>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv::press {

/// Variables of the command's environment with the names of the two files.
inline constexpr const char* kInputVariable = "RWKV_INPUT";
inline constexpr const char* kOutputVariable = "RWKV_OUTPUT";

/// Usage if `command` lacks {input} or {output}, is too long, or has a byte 0, after which the
/// shell would see nothing.
Status check_command(std::string_view command);

/// `command` with {input} and {output} replaced, in one pass, by the variables that hold the names,
/// quoted so that a name with spaces or quotes stays one word, whether it stands in quotes or not.
/// A shell never reads the value of a variable as code, so no name of a folder can become a
/// command.
std::string with_variables(std::string_view command);

}  // namespace rwkv::press
