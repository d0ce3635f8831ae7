// The list of versions: one line each. Adding one: a file vN.cpp with its tensor table, a line
// here, then the compiler names every switch that must know it (docs/adding/version.md).
#pragma once

#include <span>
#include <string_view>

#include "formats/arch/model_config.h"
#include "formats/arch/tensor_spec.h"

namespace rwkv {

std::span<const TensorSpec> tensors_v4();
std::span<const TensorSpec> tensors_v5();
std::span<const TensorSpec> tensors_v6();
std::span<const TensorSpec> tensors_v7();
/// What stages add to a model of any version (extras.cpp); all optional.
std::span<const TensorSpec> tensors_of_stages();

struct VersionTraits {
  Version version;
  const char* name;
  std::span<const TensorSpec> (*tensors)();  ///< rows for other versions are passed over
};

inline constexpr VersionTraits kVersions[] = {
    {Version::V4, "v4", tensors_v4},     {Version::V5_0, "v5.0", tensors_v5},
    {Version::V5_1, "v5.1", tensors_v5}, {Version::V5_2, "v5.2", tensors_v5},
    {Version::V6, "v6", tensors_v6},     {Version::V7, "v7", tensors_v7},
    {Version::V7a, "v7a", tensors_v7},
};

const VersionTraits& version_traits(Version version);
/// nullptr for a name that is not in the list ("v5.2").
const VersionTraits* find_version(std::string_view name);

}  // namespace rwkv
