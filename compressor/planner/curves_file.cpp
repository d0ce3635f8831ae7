// Measured curves as JSON, with a checksum of all the rest.
#include <nlohmann/json.hpp>

#include "compressor/planner/curves.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxClusters = 65535;  // of a packed file
constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

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
    points.push_back({json.at("value"), json.at("loss"), json.at("nats"), json.at("share"),
                      halves_from_json(json.at("halves")),
                      count_in(json.at("clusters"), kMaxClusters)});
  }
  return points;
}

Curves curves_from_json(const Json& json) {
  Curves curves;
  curves.method = {json.at("whitened"), json.at("diagonal")};
  curves.dense = json.at("dense");
  for (const Json& point : json.at("lora")) {
    curves.lora.push_back({codec_of(point), point.at("loss"), point.at("nats")});
  }
  for (const Json& list : json.at("matrices")) {
    auto& points = curves.matrices.emplace_back();
    for (const Json& point : list) {
      points.push_back({{point.at("factor"), codec_of(point)}, point.at("loss")});
    }
  }
  curves.ffn = rows_from_json(json.at("ffn"));
  curves.head = rows_from_json(json.at("head"));
  for (const Json& point : json.at("uniform")) {
    curves.uniform.push_back({point.at("factor"), point.at("with_output"), codec_of(point),
                              point.at("loss"), point.at("nats")});
  }
  curves.speed = {json.at("overhead"), json.at("bandwidth")};
  return curves;
}

}  // namespace

Status write_curves(const std::string& path, const std::string& key, const Curves& curves) {
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
  Json lora = Json::array();
  for (const LoraPoint& point : curves.lora) {
    lora.push_back(
        {{"codec", codec_traits(point.codec).name}, {"loss", point.loss}, {"nats", point.nats}});
  }
  Json json = {{"key", key},
               {"whitened", curves.method.whitened},
               {"diagonal", curves.method.diagonal},
               {"dense", curves.dense},
               {"lora", lora},
               {"matrices", matrices},
               {"ffn", rows_to_json(curves.ffn)},
               {"head", rows_to_json(curves.head)},
               {"uniform", uniform},
               {"overhead", curves.speed.overhead},
               {"bandwidth", curves.speed.bandwidth}};
  json["checksum"] = checksum_of(json);
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Refuse));
  const std::string text = json.dump(1) + "\n";
  RWKV_TRY(file->write(std::as_bytes(std::span(text))));
  return file->commit();
}

Result<Curves> read_curves(const std::string& path, const std::string& key) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxBytes));
  try {
    Json json = Json::parse(text);
    const auto checksum = json.at("checksum").get<std::string>();
    json.erase("checksum");
    if (checksum != checksum_of(json)) {
      return bad_input("{}: its checksum is not that of its content; remove it to measure again",
                       path);
    }
    if (json.at("key").get<std::string>() != key) {
      return usage_error(
          "{}: was measured for another model, text or setting; remove --curves, or name a new "
          "file",
          path);
    }
    return curves_from_json(json);
  } catch (const std::exception& error) {
    return bad_input("{}: expected a file of measured curves: {}", path, error.what());
  }
}

}  // namespace rwkv::press
