// How a setting is declared: what a stage, or a training, can be told.
#pragma once

namespace rwkv::press {

/// An option as documented and as checked: a key that is in no list is refused.
struct OptionSpec {
  const char* key;
  const char* fallback;  ///< the default, as text
  const char* help;
};

}  // namespace rwkv::press
