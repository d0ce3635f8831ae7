// The folder of a sweep may come from another machine, or from a stranger. What is in it is checked
// before names become paths and values are used.
#pragma once

#include <string>
#include <string_view>

#include "compressor/sweep/folder.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Whether `id` is the id of a point, NUMBER-HASH: at least 4 digits and 16 hexadecimal digits.
bool is_point_id(std::string_view id);

/// Usage unless everything that a sweep reads, writes or removes in its folder is a regular file or
/// a folder of its own: a link could lead anywhere. Things that a sweep does not know may be links.
Status check_entries(const SweepFolder& folder);

/// The manifest, with every field that it must have, of the right type. BadInput names the field.
Result<Json> read_manifest(const SweepFolder& folder);
/// The result and the speed of a point: BadInput for a field of another type than it must have.
Result<Json> read_result(const PointFolder& folder);
Result<Json> read_speed(const PointFolder& folder);

}  // namespace rwkv::press
