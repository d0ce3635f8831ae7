#include "formats/container/safetensors_header.h"

#include "formats/base/damaged.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace rwkv {
namespace {

constexpr size_t kMaxName = 512;
constexpr size_t kMaxDims = 8;
// An entry takes about 200 bytes in memory, in the file as few as 7. Models have some 2,000.
constexpr size_t kMaxTensors = size_t{1} << 16;
constexpr size_t kMaxMetadata = size_t{1} << 13;
constexpr const char* kMetadataKey = "__metadata__";

constexpr std::array kTypes = {
    SafetensorsType{DType::F32, "F32"},   SafetensorsType{DType::F16, "F16"},
    SafetensorsType{DType::BF16, "BF16"}, SafetensorsType{DType::F64, "F64"},
    SafetensorsType{DType::I8, "I8"},     SafetensorsType{DType::U8, "U8"},
    SafetensorsType{DType::I16, "I16"},   SafetensorsType{DType::I32, "I32"},
    SafetensorsType{DType::I64, "I64"},   SafetensorsType{DType::Bool, "BOOL"},
};

// Names appear in messages on terminals, so they may not contain control characters.
bool is_printable(std::string_view name) {
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

// Receives the JSON as a stream of events. A DOM would keep the last of two equal keys and let a
// hostile header allocate many times its own size; here the first irregularity ends the parse.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Status status;
  SafetensorsHeader header;

  bool start_object(size_t) override {
    switch (place_) {
      case Place::Outside:
        place_ = Place::TopLevel;
        return true;
      case Place::TopLevel:
        place_ = in_metadata_ ? Place::Metadata : Place::Tensor;
        return true;
      case Place::Metadata:
      case Place::Tensor:
      case Place::Array:
        break;
    }
    return surprise("an object");
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::TopLevel:
        return top_level_key(name);
      case Place::Metadata:
        metadata_key_ = name;
        if (header.metadata.size() == kMaxMetadata) {
          return fail(damaged("header has more than {} metadata keys", kMaxMetadata));
        }
        return header.metadata.emplace(name, "").second || duplicate("metadata key", name);
      case Place::Tensor:
        return tensor_key(name);
      case Place::Outside:
      case Place::Array:
        break;
    }
    return surprise("a key");
  }

  bool end_object() override {
    if (place_ == Place::Tensor && (!has_dtype_ || !has_shape_ || offsets_.size() != 2)) {
      return fail(damaged("tensor {}: expected dtype, shape and two data_offsets", name_));
    }
    if (place_ == Place::Tensor) {
      header.entries.push_back({std::move(info_), offsets_[0], offsets_[1]});
    }
    place_ = place_ == Place::TopLevel ? Place::Outside : Place::TopLevel;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::Tensor || field_ == Field::DType) {
      return surprise("an array");
    }
    place_ = Place::Array;
    return true;
  }

  bool end_array() override {
    place_ = Place::Tensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::Array) {
      return surprise("a number");
    }
    const bool is_shape = field_ == Field::Shape;
    std::vector<uint64_t>& values = is_shape ? info_.shape : offsets_;
    if (values.size() == (is_shape ? kMaxDims : 2)) {
      return fail(damaged("tensor {}: more than {} {}", name_, values.size(),
                          is_shape ? "dimensions" : "data_offsets"));
    }
    values.push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::Metadata) {
      header.metadata[metadata_key_] = value;
      return true;
    }
    if (place_ != Place::Tensor || field_ != Field::DType) {
      return surprise("a string");
    }
    const auto* type = std::find_if(kTypes.begin(), kTypes.end(),
                                    [&](const SafetensorsType& row) { return row.name == value; });
    if (type == kTypes.end()) {
      return fail(bad_input(
          "tensor {}: dtype {} is not supported, only {}; take the checkpoint in one of these, or "
          "cast it (in PyTorch: tensor.to(torch.bfloat16), times its scale if it has one)",
          name_, is_printable(value) ? value.substr(0, 32) : "(unprintable)",
          safetensors_type_names()));
    }
    info_.dtype = type->dtype;
    return true;
  }

  bool number_integer(number_integer_t) override { return surprise("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return surprise("a fraction"); }
  bool boolean(bool) override { return surprise("a boolean"); }
  bool null() override { return surprise("null"); }
  bool binary(binary_t&) override { return surprise("binary data"); }
  bool parse_error(size_t at, const std::string&, const nlohmann::detail::exception&) override {
    return fail(damaged("header is not valid JSON at its byte {}", at));
  }

 private:
  enum class Place { Outside, TopLevel, Metadata, Tensor, Array };
  enum class Field { DType, Shape, Offsets };

  bool fail(Status reason) {
    status = std::move(reason);
    return false;
  }
  bool surprise(const char* what) {
    return fail(damaged("header has {} in an unexpected place, {}", what,
                        name_.empty() ? "at its start" : "in or after entry " + name_));
  }
  bool duplicate(const char* what, const std::string& name) {
    return fail(damaged("{} {} occurs twice in the header", what,
                        is_printable(name) ? name.substr(0, kMaxName) : "(unprintable)"));
  }

  bool top_level_key(const std::string& name) {
    if (name.empty() || name.size() > kMaxName || !is_printable(name)) {
      return fail(damaged("a tensor name of {} bytes is empty, longer than {} or unprintable",
                          name.size(), kMaxName));
    }
    if (names_.size() == kMaxTensors) {
      return fail(damaged("header has more than {} tensors", kMaxTensors));
    }
    if (!names_.insert(name).second) {
      return duplicate("entry", name);
    }
    name_ = name;
    in_metadata_ = name == kMetadataKey;
    info_ = TensorInfo{name, DType::F32, {}};
    offsets_.clear();
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return true;
  }

  bool tensor_key(const std::string& name) {
    bool* seen = nullptr;
    if (name == "dtype") {
      field_ = Field::DType;
      seen = &has_dtype_;
    } else if (name == "shape") {
      field_ = Field::Shape;
      seen = &has_shape_;
    } else if (name == "data_offsets") {
      field_ = Field::Offsets;
      seen = &has_offsets_;
    } else {
      return fail(damaged("tensor {}: has a key that is not dtype, shape or data_offsets", name_));
    }
    if (*seen) {
      return fail(damaged("tensor {}: key {} occurs twice", name_, name));
    }
    *seen = true;
    return true;
  }

  Place place_ = Place::Outside;
  Field field_ = Field::DType;
  bool in_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::string name_;  // of the top-level entry last seen
  std::string metadata_key_;
  TensorInfo info_;
  std::vector<uint64_t> offsets_;
  std::unordered_set<std::string> names_;
};

}  // namespace

std::span<const SafetensorsType> safetensors_types() {
  return kTypes;
}

std::string safetensors_type_names() {
  std::string names;
  for (const SafetensorsType& type : kTypes) {
    names += (names.empty() ? "" : ", ") + std::string(type.name);
  }
  return names;
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json) {
  if (json.empty() || json.front() != '{') {
    return damaged("header does not begin with '{{', expected that of a safetensors file");
  }
  HeaderEvents events;
  nlohmann::json_sax<nlohmann::json>* const sink = &events;  // one parser for all readers of events
  if (!nlohmann::json::sax_parse(json.data(), json.data() + json.size(), sink) ||
      !events.status.ok()) {
    return events.status.ok() ? damaged("header is not valid JSON") : events.status;
  }
  return std::move(events.header);
}

}  // namespace rwkv
