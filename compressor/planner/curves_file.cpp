// Measured curves as JSON, with a checksum of all the rest.
#include <cmath>
#include <nlohmann/json.hpp>

#include "compressor/planner/curves.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"
#include "formats/base/strict_json.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

// Version 1, which had no such number, knew two codecs.
constexpr uint64_t kVersion = 2;
constexpr uint64_t kMaxClusters = 65535;  // of a packed file
constexpr uint64_t kMaxBytes = uint64_t{64} << 20;
constexpr uint64_t kMostMatrices = 1 << 20;
constexpr double kMostFactor = 1e6;  // of stage low_rank
constexpr double kMostNats = 1e6;
constexpr double kMostBandwidth = 1e18;

std::string checksum_of(const Json& json) {
  const std::string text = json.dump();
  return fmt::format("{:016x}", xxh64(std::as_bytes(std::span(text))));
}

uint64_t count_in(const Json& json, uint64_t most) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() > most) {
    throw std::invalid_argument(fmt::format("a count that is none of 0 to {}", most));
  }
  return json.get<uint64_t>();
}

double number_in(const Json& object, const char* key, double least, double most) {
  const Json& json = object.at(key);
  // The negation is for what is no number.
  if (!json.is_number() || !(json.get<double>() >= least && json.get<double>() <= most)) {
    throw std::invalid_argument(fmt::format("'{}' is no number from {} to {}", key, least, most));
  }
  return json.get<double>();
}

double loss_of(const Json& object) {
  return number_in(object, "loss", 0, kMostNats);
}

double nats_of(const Json& object) {
  return number_in(object, "nats", -kMostNats, kMostNats);
}

// 0 is dense.
double factor_of(const Json& object) {
  const double factor = number_in(object, "factor", 0, kMostFactor);
  if (factor > 0 && factor < 1) {
    throw std::invalid_argument("a factor between 0 and 1");
  }
  return factor;
}

std::vector<uint8_t> halves_from_json(const Json& list) {
  constexpr uint64_t kBoth = 3;
  std::vector<uint8_t> halves;
  for (const Json& json : list) {
    halves.push_back(static_cast<uint8_t>(count_in(json, kBoth)));
  }
  return halves;
}

Json setting_to_json(const MatrixSetting& setting) {
  return {{"factor", setting.factor}, {"codec", codec_traits(setting.codec).name}};
}

Codec codec_of(const Json& json) {
  const CodecTraits* codec = find_codec(json.at("codec").get<std::string>());
  if (!codec) {
    throw std::invalid_argument("a codec that does not exist");
  }
  return codec->codec;
}

Json rows_to_json(const std::vector<RowsPoint>& points) {
  Json list = Json::array();
  for (const RowsPoint& point : points) {
    list.push_back({{"value", point.value},
                    {"loss", point.loss},
                    {"nats", point.nats},
                    {"share", point.share},
                    {"halves", point.halves},
                    {"clusters", point.clusters}});
  }
  return list;
}

std::vector<RowsPoint> rows_from_json(const Json& list) {
  std::vector<RowsPoint> points;
  for (const Json& json : list) {
    points.push_back({number_in(json, "value", 0, 1), loss_of(json), nats_of(json),
                      number_in(json, "share", 0, 1), halves_from_json(json.at("halves")),
                      count_in(json.at("clusters"), kMaxClusters)});
  }
  return points;
}

Curves curves_from_json(const Json& json) {
  Curves curves;
  curves.method = {json.at("whitened"), json.at("diagonal")};
  curves.dense = number_in(json, "dense", 0, kMostNats);
  for (const Json& point : json.at("lora")) {
    curves.lora.push_back({codec_of(point), loss_of(point), nats_of(point)});
  }
  for (const Json& list : json.at("matrices")) {
    auto& points = curves.matrices.emplace_back();
    for (const Json& point : list) {
      points.push_back({{factor_of(point), codec_of(point)}, loss_of(point)});
    }
  }
  curves.ffn = rows_from_json(json.at("ffn"));
  curves.head = rows_from_json(json.at("head"));
  for (const Json& point : json.at("uniform")) {
    curves.uniform.push_back({factor_of(point), point.at("with_output"), codec_of(point),
                              loss_of(point), nats_of(point)});
  }
  for (const Json& choice : json.value("samples", Json::array())) {
    curves.samples.push_back({count_in(choice.at("matrix"), kMostMatrices),
                              {factor_of(choice), codec_of(choice)},
                              number_in(choice, "estimated", 0, kMostNats),
                              number_in(choice, "measured", 0, kMostNats)});
  }
  curves.speed = {number_in(json, "overhead", 0, kMostNats),
                  number_in(json, "bandwidth", 0, kMostBandwidth)};
  return curves;
}

Json curves_to_json(const std::string& key, const Curves& curves) {
  Json matrices = Json::array();
  for (const auto& points : curves.matrices) {
    Json list = Json::array();
    for (const MatrixPoint& point : points) {
      Json json = setting_to_json(point.setting);
      json["loss"] = point.loss;
      list.push_back(std::move(json));
    }
    matrices.push_back(std::move(list));
  }
  Json uniform = Json::array();
  for (const UniformPoint& point : curves.uniform) {
    uniform.push_back({{"factor", point.factor},
                       {"with_output", point.with_output},
                       {"codec", codec_traits(point.codec).name},
                       {"loss", point.loss},
                       {"nats", point.nats}});
  }
  Json samples = Json::array();
  for (const SampledChoice& choice : curves.samples) {
    Json sample = setting_to_json(choice.setting);
    sample["matrix"] = choice.matrix;
    sample["estimated"] = choice.estimated;
    sample["measured"] = choice.measured;
    samples.push_back(std::move(sample));
  }
  Json lora = Json::array();
  for (const LoraPoint& point : curves.lora) {
    lora.push_back(
        {{"codec", codec_traits(point.codec).name}, {"loss", point.loss}, {"nats", point.nats}});
  }
  return {{"version", kVersion},
          {"key", key},
          {"whitened", curves.method.whitened},
          {"diagonal", curves.method.diagonal},
          {"dense", curves.dense},
          {"lora", lora},
          {"matrices", matrices},
          {"ffn", rows_to_json(curves.ffn)},
          {"head", rows_to_json(curves.head)},
          {"uniform", uniform},
          {"samples", samples},
          {"overhead", curves.speed.overhead},
          {"bandwidth", curves.speed.bandwidth}};
}

}  // namespace

std::string curves_checksum(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return {};
  }
  json.erase("checksum");
  return checksum_of(json);
}

std::string curves_text(const std::string& key, const Curves& curves) {
  Json json = curves_to_json(key, curves);
  json["checksum"] = checksum_of(json);
  return json.dump(1) + "\n";
}

Status write_curves(const std::string& path, const std::string& key, const Curves& curves) {
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Replace));
  const std::string text = curves_text(key, curves);
  RWKV_TRY(file->write(std::as_bytes(std::span(text))));
  return file->commit();
}

Result<Curves> parse_curves(const std::string& text, const std::string& key) {
  RWKV_ASSIGN(Json json, parse_strict_json(text));
  try {
    if (json.is_object() && !json.contains("version") && json.contains("checksum")) {
      return bad_input(
          "expected measured curves of version {}, found those of an earlier version; remove the "
          "file to measure again",
          kVersion);
    }
    const auto checksum = json.at("checksum").get<std::string>();
    json.erase("checksum");
    if (checksum != checksum_of(json)) {
      return bad_input("its checksum is not that of its content; remove it to measure again");
    }
    if (json.at("version") != kVersion) {
      return bad_input(
          "expected measured curves of version {}, found {}; remove the file to "
          "measure again",
          kVersion, json.at("version").dump().substr(0, 20));
    }
    if (json.at("key").get<std::string>() != key) {
      return usage_error(
          "was measured for another model, text or setting; remove --curves, or name a new file");
    }
    return curves_from_json(json);
  } catch (const std::exception& error) {
    return bad_input("expected a file of measured curves: {}", error.what());
  }
}

Result<Curves> read_curves(const std::string& path, const std::string& key) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxBytes));
  Result<Curves> curves = parse_curves(text, key);
  RWKV_TRY(curves.status().in(path));
  return curves;
}

}  // namespace rwkv::press
