// The compiled-in page without results, made by embed.cmake from web/ and the charting library.
#pragma once

#include <string_view>

namespace rwkv::press {

/// HTML; the JSON of the results replaces the first kResultsMark.
std::string_view report_page();

inline constexpr std::string_view kResultsMark = "@RESULTS@";

}  // namespace rwkv::press
