// Any bytes as measured curves: refused, or what a plan takes from them is within its ranges and is
// written as it was read.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/planner/curves.h"
#include "tests/fuzz/seed_models.h"

using namespace rwkv;

namespace {

using Json = nlohmann::json;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// The same content with the right checksum, so that what it protects is reached too.
std::string with_checksum(const std::string& text) {
  const std::string checksum = press::curves_checksum(text);
  if (checksum.empty()) {
    return text;
  }
  Json json = Json::parse(text);
  json["checksum"] = checksum;
  return json.dump();
}

const press::PlanSubject& subject() {
  static const press::MemorySource source("model");
  static const press::PlanSubject subject = [] {
    press::PlanSubject made{.source = source, .model = {}};
    // Too small for pairs: the seeds have all of its settings.
    for (const auto& [name, role] :
         {std::pair("emb.weight", Role::Embedding), std::pair("head.weight", Role::Head)}) {
      press::PlannedMatrix matrix;
      matrix.name = name;
      matrix.role = role;
      matrix.rows = 4;
      matrix.cols = 64;
      made.matrices.push_back(matrix);
    }
    made.ladder = press::Ladder({Codec::F16, Codec::Lut3});
    return made;
  }();
  return subject;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string key(test::kCurvesKey);
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)press::parse_curves(text, key).ok();
  const auto curves = press::parse_curves(with_checksum(text), key);
  if (!curves.ok()) {
    return 0;
  }
  const std::string written = press::curves_text(key, curves.value());
  const auto again = press::parse_curves(written, key);
  require(again.ok() && press::curves_text(key, again.value()) == written);
  if (!press::check_curves(curves.value(), subject()).ok()) {
    return 0;
  }
  require(curves.value().matrices.size() <= subject().matrices.size());
  for (size_t i = 0; i < curves.value().matrices.size(); ++i) {
    const press::PlannedMatrix& matrix = subject().matrices[i];
    for (const press::MatrixPoint& point : curves.value().matrices[i]) {
      require(std::isfinite(point.loss) && point.loss >= 0);
      const double factor = point.setting.factor;
      require(factor == 0 || press::rank_of(factor, matrix.rows, matrix.cols) >= 1);
    }
  }
  return 0;
}
