#include "compressor/planner/choice_bytes.h"

#include <algorithm>

namespace rwkv::press {

double ChoiceBytes::of(Measure measure) const {
  switch (measure) {
    case Measure::Resident:
      return held;
    case Measure::File:
      return static_cast<double>(file);
    case Measure::Touched:
      return touched;
  }
  return 0;
}

double additive(const ChoiceBytes& bytes) {
  uint64_t shared = 0;
  for (const edge::Component component :
       {edge::Component::Scratch, edge::Component::Staging, edge::Component::Ring}) {
    shared += bytes.account.at(component).resident;
  }
  return bytes.held - static_cast<double>(shared);
}

Result<ChoiceBytes> held_bytes(const PackPlan& plan, uint64_t tokenizer_bytes,
                               const MemoryFrame& frame) {
  RWKV_ASSIGN(const edge::Residency residency,
              planned_residency(plan, tokenizer_bytes, frame.memory));
  ChoiceBytes result;
  result.account = residency.account;
  uint64_t passing = 0;
  for (const edge::PlacedPiece& piece : residency.pieces) {
    passing += piece.stays ? 0 : piece.area_bytes;
  }
  const auto always = static_cast<double>(residency.account.total());
  result.held = always + static_cast<double>(passing) - static_cast<double>(frame.read_ahead);
  result.resident = static_cast<uint64_t>(std::max(always, result.held));
  return result;
}

}  // namespace rwkv::press
