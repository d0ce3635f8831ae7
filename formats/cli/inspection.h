// The report of `inspect`, the same in both executables: what a file is, its model, its tensors,
// its metadata; as JSON or as text.
#pragma once

#include <cxxopts.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/arch/model_config.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/tensor_source.h"

namespace rwkv::cli {

/// Sizes and version of a model.
nlohmann::ordered_json report_model(const ModelConfig& config);

/// A packed file: model, tensors with codecs and checksums, metadata.
Result<nlohmann::ordered_json> report_packed(const GgufFile& file);

/// Any other checkpoint.
nlohmann::ordered_json report_source(const TensorSource& source, const ModelConfig& config);

/// A checkpoint whose model is not known, `reason` says why: what is in it.
nlohmann::ordered_json report_unknown(const TensorSource& source, const std::string& reason);

/// A GGUF file that is not one of ours: its metadata and tensors.
nlohmann::ordered_json report_gguf(const GgufFile& file, const std::string& reason);

/// What the text shows besides its first lines.
struct Details {
  bool tensors = false;
  bool metadata = false;
};
/// The values of --tensors and --metadata.
Details details_from(const cxxopts::ParseResult& arguments);
/// The report as text: a few lines about the file, and `details`.
std::string report_to_text(const nlohmann::ordered_json& report, const Details& details);

/// JSON with invalid UTF-8 replaced, since names and metadata come from outside.
std::string report_to_json(const nlohmann::ordered_json& report);

}  // namespace rwkv::cli
