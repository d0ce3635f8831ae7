// The refusal of bytes that no sound file has. The way out is the same for all of them.
#pragma once

#include <string>
#include <utility>

#include "formats/base/status.h"

namespace rwkv {

/// BadInput: the formatted message, then "; the file is damaged, fetch it again".
template <typename... Args>
Status damaged(fmt::format_string<Args...> format, Args&&... args) {
  return bad_input("{}; the file is damaged, fetch it again",
                   fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace rwkv
