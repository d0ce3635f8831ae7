// Values of a stage's options, read from YAML and checked. Messages name the key, what was found
// and what is wanted.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// Reads options of one stage; a key that is not there leaves the value as it is.
class OptionValues {
 public:
  OptionValues(const YAML::Node& options, std::string stage)
      : options_(options), stage_(std::move(stage)) {}

  Status count(const char* key, uint64_t least, uint64_t most, uint64_t& value) const;
  Status real(const char* key, double least, double most, double& value) const;
  Status flag(const char* key, bool& value) const;
  /// One of `names`; `value` becomes its index.
  Status choice(const char* key, std::span<const char* const> names, size_t& value) const;
  Status text(const char* key, std::string& value) const;
  Status texts(const char* key, std::vector<std::string>& value) const;

 private:
  Status wrong(const char* key, const std::string& wanted) const;
  const YAML::Node& options_;
  std::string stage_;
};

}  // namespace rwkv::press
