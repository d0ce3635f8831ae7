// "Did you mean": the closest of the names that would have been right.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace rwkv {

/// The candidate with the smallest edit distance to `name`, if it is close enough that `name` may
/// be a typing error; otherwise empty.
std::string_view nearest(std::string_view name, std::span<const std::string_view> candidates);

/// "; did you mean 'x'?", or the list of candidates if none is near.
std::string suggestion(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace rwkv
