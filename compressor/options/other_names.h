// Other names that people use: of codecs and presets, which are understood, and of keys, for hints.
#pragma once

#include <string_view>
#include <vector>

namespace rwkv::press {

/// The other names of a codec or preset: "int8" of "i8_row", "f16" of "fp16"; none if it has none.
std::vector<const char*> other_names(std::string_view name);
/// Whether `found` is `name` or another name of it.
bool is_same_format(std::string_view found, std::string_view name);

/// What a person means by `key` of `owner` (a stage, or "" for the top of a recipe), with the
/// owner: "low_rank.factor"; empty if the list does not have it.
std::string_view meant_by(std::string_view owner, std::string_view key);

}  // namespace rwkv::press
