// The page without results, compiled in: made of web/ and the charting library by embed.cmake.
#pragma once

#include <string_view>

namespace rwkv::press {

/// HTML; the results' JSON goes in the place of the first kResultsMark.
std::string_view report_page();

inline constexpr std::string_view kResultsMark = "@RESULTS@";

}  // namespace rwkv::press
