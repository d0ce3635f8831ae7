#include "compressor/checkpoint/edited_state.h"

#include <algorithm>

#include "formats/base/little_endian.h"

namespace rwkv::press {
namespace {

// What codes replaced, and what those codes had replaced.
constexpr int kMostDepth = 4;

nlohmann::json info_to_json(const TensorInfo& info) {
  return {{"name", info.name}, {"dtype", traits(info.dtype).name}, {"shape", info.shape}};
}

Result<TensorInfo> info_from(const nlohmann::json& json) {
  TensorInfo info;
  info.name = json.at("name").get<std::string>();
  const std::string type = json.at("dtype").get<std::string>();
  const DTypeTraits* const dtype = find_dtype(type);
  if (dtype == nullptr) {
    return bad_input("tensor '{}': expected a known type, found '{}'", info.name, type);
  }
  info.dtype = dtype->dtype;
  info.shape = json.at("shape").get<std::vector<uint64_t>>();
  RWKV_TRY(check_tensor_size(info));
  return info;
}

nlohmann::json form_to_json(const EncodedForm& form) {
  return {{"codec", codec_traits(form.codec).name},
          {"rows", form.rows},
          {"cols", form.cols},
          {"transposed", form.is_transposed},
          {"ln0", form.has_ln0}};
}

Result<EncodedForm> form_from(const nlohmann::json& json, const TensorInfo& info) {
  const std::string name = json.at("codec").get<std::string>();
  EncodedForm form;
  const auto all = codec_list();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const CodecTraits& codec) { return name == codec.name; });
  if (found == all.end()) {
    return bad_input("tensor '{}': expected a known codec, found '{}'", info.name, name);
  }
  form.codec = found->codec;
  form.rows = json.at("rows").get<uint64_t>();
  form.cols = json.at("cols").get<uint64_t>();
  form.is_transposed = json.at("transposed").get<bool>();
  form.has_ln0 = json.at("ln0").get<bool>();
  uint64_t n = 0;
  if (form.cols == 0 || !checked_mul(form.rows, form.cols, n) || n != info.n_elements()) {
    return bad_input("tensor '{}': expected {} values, found {} x {}", info.name, info.n_elements(),
                     form.rows, form.cols);
  }
  return form;
}

bool is_permutation(const std::vector<uint64_t>& rows, uint64_t n) {
  std::vector<bool> seen(rows.size());
  for (const uint64_t row : rows) {
    if (row >= rows.size() || seen[row]) {
      return false;
    }
    seen[row] = true;
  }
  return rows.size() == n;
}

}  // namespace

nlohmann::json EditedState::entry_to_json(const EditedSource::Entry& entry) {
  Json json;
  if (entry.is_added) {
    json["at"] = entry.offset;
  } else {
    json["base"] = entry.base_index;
  }
  if (!entry.rows.empty()) {
    json["rows"] = entry.rows;
  }
  if (entry.form) {
    json["form"] = form_to_json(*entry.form);
  }
  if (!entry.ln0.weight.empty()) {
    json["ln0"] = {{"weight", entry.ln0.weight}, {"bias", entry.ln0.bias}};
  }
  if (entry.unrounded) {
    json["unrounded"] = {{"info", info_to_json(entry.unrounded->info)},
                         {"entry", entry_to_json(entry.unrounded->entry)}};
  }
  return json;
}

nlohmann::json EditedState::of(const EditedSource& source) {
  Json tensors = Json::array();
  for (size_t i = 0; i < source.infos_.size(); ++i) {
    tensors.push_back(
        {{"info", info_to_json(source.infos_[i])}, {"entry", entry_to_json(source.entries_[i])}});
  }
  return tensors;
}

// Everything that is read later lies where it is said to be.
Status EditedState::check(const EditedSource& source, const EditedSource::Entry& entry,
                          const TensorInfo& info) {
  if (!entry.rows.empty() && (info.shape.empty() || !is_permutation(entry.rows, info.shape[0]))) {
    return bad_input("tensor '{}': its order of rows is none", info.name);
  }
  if (!entry.is_added) {
    const auto& base = source.base_.tensors();
    const bool is_same =
        entry.base_index < base.size() && !entry.form && base[entry.base_index].name == info.name &&
        base[entry.base_index].dtype == info.dtype && base[entry.base_index].shape == info.shape;
    return is_same ? Status()
                   : bad_input("tensor '{}': is not the one of the checkpoint", info.name);
  }
  const uint64_t n = entry.form ? entry.form->n_bytes() : info.n_bytes();
  if (entry.offset > source.data_->end() || n > source.data_->end() - entry.offset) {
    return bad_input("tensor '{}': expected {} bytes from {}, found {} in all", info.name, n,
                     entry.offset, source.data_->end());
  }
  if (entry.form && entry.form->has_ln0 &&
      (entry.ln0.weight.size() != entry.form->cols || entry.ln0.bias.size() != entry.form->cols)) {
    return bad_input("tensor '{}': expected a norm of {} channels", info.name, entry.form->cols);
  }
  return {};
}

Result<EditedSource::Entry> EditedState::entry_from(const EditedSource& source, const Json& json,
                                                    const TensorInfo& info, int depth) {
  EditedSource::Entry entry;
  entry.is_added = json.contains("at");
  if (entry.is_added) {
    entry.offset = json.at("at").get<uint64_t>();
  } else {
    entry.base_index = json.at("base").get<size_t>();
  }
  if (json.contains("rows")) {
    entry.rows = json.at("rows").get<std::vector<uint64_t>>();
  }
  if (json.contains("form")) {
    RWKV_ASSIGN(entry.form, form_from(json.at("form"), info));
  }
  if (json.contains("ln0")) {
    entry.ln0.weight = json.at("ln0").at("weight").get<std::vector<float>>();
    entry.ln0.bias = json.at("ln0").at("bias").get<std::vector<float>>();
  }
  if (json.contains("unrounded")) {
    if (depth == 0) {
      return bad_input("tensor '{}': replaced too many others", info.name);
    }
    EditedSource::Unrounded unrounded;
    RWKV_ASSIGN(unrounded.info, info_from(json.at("unrounded").at("info")));
    RWKV_ASSIGN(unrounded.entry,
                entry_from(source, json.at("unrounded").at("entry"), unrounded.info, depth - 1));
    entry.unrounded = std::make_shared<const EditedSource::Unrounded>(std::move(unrounded));
  }
  RWKV_TRY(check(source, entry, info));
  return entry;
}

Status EditedState::restore(EditedSource& source, const nlohmann::json& state) {
  std::vector<TensorInfo> infos;
  std::vector<EditedSource::Entry> entries;
  std::unordered_map<std::string, size_t> by_name;
  for (const Json& tensor : state) {
    RWKV_ASSIGN(TensorInfo info, info_from(tensor.at("info")));
    RWKV_ASSIGN(EditedSource::Entry entry,
                entry_from(source, tensor.at("entry"), info, kMostDepth));
    if (!by_name.emplace(info.name, infos.size()).second) {
      return bad_input("tensor '{}': occurs twice", info.name);
    }
    infos.push_back(std::move(info));
    entries.push_back(std::move(entry));
  }
  source.infos_ = std::move(infos);
  source.entries_ = std::move(entries);
  source.by_name_ = std::move(by_name);
  return {};
}

}  // namespace rwkv::press
