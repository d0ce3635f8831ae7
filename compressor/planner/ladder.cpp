#include "compressor/planner/ladder.h"

#include <fmt/format.h>

#include <algorithm>

#include "compressor/stages/quantize.h"

namespace rwkv::press {
namespace {

// A matrix large enough that headers of rows do not decide.
uint64_t bytes_of(Codec codec) {
  constexpr uint64_t kSide = 1024;
  return codec_traits(codec).encoded_bytes(kSide, kSide);
}

}  // namespace

Ladder::Ladder()
    : Ladder({Codec::F16, Codec::I8Row, Codec::U6, Codec::Lut5, Codec::Lut4, Codec::Lut3,
              Codec::Lut2}) {}

Ladder::Ladder(std::vector<Codec> codecs) : rungs_(std::move(codecs)) {
  std::sort(rungs_.begin(), rungs_.end(),
            [](Codec a, Codec b) { return bytes_of(a) > bytes_of(b); });
}

std::vector<Codec> Ladder::rungs_for(uint64_t packed_cols) const {
  std::vector<Codec> fitting;
  for (const Codec rung : rungs_) {
    if (codec_for_columns(rung, packed_cols) == rung) {
      fitting.push_back(rung);
    }
  }
  return fitting;
}

std::vector<Codec> Ladder::neighbours(Codec codec) const {
  const auto here = std::find(rungs_.begin(), rungs_.end(), codec);
  std::vector<Codec> found;
  if (here != rungs_.begin() && here != rungs_.end()) {
    found.push_back(*(here - 1));
  }
  if (here != rungs_.end() && here + 1 != rungs_.end()) {
    found.push_back(*(here + 1));
  }
  return found;
}

std::string Ladder::describe() const {
  std::string text;
  for (const Codec codec : rungs_) {
    text += fmt::format("{}{}", text.empty() ? "" : " ", codec_traits(codec).name);
  }
  return text;
}

}  // namespace rwkv::press
