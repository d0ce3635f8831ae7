#include "compressor/evaluate/measurement_json.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Interval& interval) {
  return {interval.low, interval.high};
}

// KEY, KEY_standard_error and KEY_interval.
void add(Json& report, const std::string& key, const Estimate& estimate, const Interval& interval) {
  report[key] = estimate.value;
  report[key + "_standard_error"] = estimate.standard_error;
  report[key + "_interval"] = to_json(interval);
}

void add(Json& report, const std::string& key, const Estimate& estimate) {
  add(report, key, estimate, estimate.interval());
}

Json to_json(const Measurement::Text& text) {
  const TextScore& score = text.score;
  Json report = {{"file", text.path},
                 {"tokens", score.tokens},
                 {"bytes", score.bytes},
                 {"block_length", score.block_length}};
  add(report, "perplexity", score.perplexity(), score.perplexity_interval());
  add(report, "nats_per_token", score.nats_per_token);
  add(report, "bits_per_byte", score.bits_per_byte);
  add(report, "top1_accuracy", score.top1_accuracy);
  if (score.agreement) {
    add(report, "kl", score.agreement->kl);
    add(report, "top1_agreement", score.agreement->top1);
    add(report, "top5_agreement", score.agreement->top5);
  }
  return report;
}

Json to_json(const Tally& tally) {
  Json report = {{"documents", tally.documents}, {"right", tally.right}};
  add(report, "accuracy", {tally.accuracy(), tally.standard_error()}, tally.interval());
  return report;
}

Json to_json(const Measurement::Cloze& cloze) {
  const ClozeResult& result = cloze.result;
  Json report = {{"file", cloze.path}, {"available", cloze.available}};
  report["malformed"] = cloze.malformed;
  report.update(to_json(result.all));
  add(report, "perplexity", result.perplexity(), result.perplexity_interval());
  report["kinds"] = Json::object();
  for (const auto& [kind, tally] : result.kinds) {
    report["kinds"][kind] = to_json(tally);
  }
  return report;
}

Json to_json(const Measurement::Choices& choices) {
  const ChoicesResult& result = choices.result;
  return {{"file", choices.path},
          {"available", choices.available},
          {"malformed", choices.malformed},
          {"incomplete", choices.incomplete},
          {"acc", to_json(result.acc)},
          {"acc_norm", to_json(result.acc_norm)},
          {"acc_bytes", to_json(result.acc_bytes)}};
}

template <typename T>
Json list(const std::vector<T>& items) {
  Json array = Json::array();
  for (const T& item : items) {
    array.push_back(to_json(item));
  }
  return array;
}

}  // namespace

Json measurement_to_json(const Measurement& measurement) {
  Json report = {{"model", measurement.model}};
  if (measurement.widths) {
    report["widths"] = {{"bytes", measurement.widths->bytes},
                        {"full_bytes", measurement.widths->full_bytes},
                        {"expected_loss", measurement.widths->loss}};
  }
  if (!measurement.reference.empty()) {
    report["reference"] = measurement.reference;
  }
  if (!measurement.prefix.empty()) {
    report["prefix_token"] = measurement.prefix.front();
  }
  report["texts"] = list(measurement.texts);
  report["cloze"] = list(measurement.clozes);
  report["choices"] = list(measurement.choices);
  return report;
}

}  // namespace rwkv::press
