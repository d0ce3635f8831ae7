// The directory of a zip file: where it is, what records it lists, and whether each record's own
// header agrees. Part of zip_archive.h, which reads the records.
#pragma once

#include <cstdint>
#include <vector>

#include "compressor/checkpoint/zip_archive.h"
#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// All records in the order of the directory, each checked against its local header. Names are
/// unique, records lie between the start of the file and the directory and do not overlap.
Result<std::vector<ZipRecord>> read_zip_directory(const InputFile& file);

}  // namespace rwkv::press
