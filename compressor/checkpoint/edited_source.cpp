#include "compressor/checkpoint/edited_source.h"

#include <algorithm>
#include <utility>

namespace rwkv::press {
namespace {

constexpr const char* kLn0Weight = "blocks.0.ln0.weight";
constexpr const char* kLn0Bias = "blocks.0.ln0.bias";

}  // namespace

Result<std::unique_ptr<EditedSource>> EditedSource::create(const TensorSource& base,
                                                           const std::string& folder) {
  RWKV_ASSIGN(auto data, ScratchFile::unnamed(folder));
  return create(base, std::move(data));
}

std::unique_ptr<EditedSource> EditedSource::create(const TensorSource& base,
                                                   std::unique_ptr<ScratchFile> data) {
  return std::unique_ptr<EditedSource>(new EditedSource(base, std::move(data)));
}

EditedSource::EditedSource(const TensorSource& base, std::unique_ptr<ScratchFile> data)
    : base_(base), data_(std::move(data)), infos_(base.tensors()), entries_(infos_.size()) {
  for (size_t i = 0; i < infos_.size(); ++i) {
    entries_[i].base_index = i;
    by_name_.emplace(infos_[i].name, i);
  }
}

Status EditedSource::add(TensorInfo info, Entry entry, std::span<const std::byte> bytes) {
  entry.is_added = true;
  entry.offset = data_->end();
  RWKV_TRY(data_->append(bytes));
  const auto [found, is_new] = by_name_.try_emplace(info.name, infos_.size());
  if (is_new) {
    infos_.push_back(std::move(info));
    entries_.push_back(std::move(entry));
  } else {
    infos_[found->second] = std::move(info);
    entries_[found->second] = std::move(entry);
  }
  return {};
}

Status EditedSource::put(const std::string& name, std::vector<uint64_t> shape,
                         std::span<const float> values) {
  return add({name, DType::F32, std::move(shape)}, {}, std::as_bytes(values));
}

Status EditedSource::put_encoded(const std::string& name, std::vector<uint64_t> shape,
                                 const EncodedForm& form, std::span<const std::byte> codes) {
  TensorInfo info{name, DType::F32, std::move(shape)};
  if (codes.size() != form.n_bytes() || info.n_elements() != form.rows * form.cols) {
    return failed("tensor '{}': internal error: {} bytes are not {} rows of {} in codec {}", name,
                  codes.size(), form.rows, form.cols, codec_traits(form.codec).name);
  }
  Entry entry;
  entry.form = form;
  if (form.has_ln0) {
    RWKV_ASSIGN(entry.ln0, ln0());
  }
  if (const auto found = by_name_.find(name); found != by_name_.end()) {
    const Entry& old = entries_[found->second];
    entry.unrounded = encoded(found->second)
                          ? old.unrounded
                          : std::make_shared<Unrounded>(Unrounded{infos_[found->second], old});
  }
  return add(std::move(info), std::move(entry), codes);
}

void EditedSource::drop_codes(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found != by_name_.end() && entries_[found->second].unrounded) {
    const std::shared_ptr<const Unrounded> before = entries_[found->second].unrounded;
    infos_[found->second] = before->info;
    entries_[found->second] = before->entry;
  }
}

Result<FoldedNorm> EditedSource::ln0() const {
  FoldedNorm norm;
  for (const auto& [name, values] : {std::pair{kLn0Weight, &norm.weight}, {kLn0Bias, &norm.bias}}) {
    RWKV_ASSIGN(const size_t index, index_of(name));
    std::vector<std::byte> bytes;
    RWKV_TRY(read(index, bytes));
    values->resize(infos_[index].n_elements());
    decode_to_f32(infos_[index].dtype, bytes, *values);
  }
  return norm;
}

Status EditedSource::permute_rows(const std::string& name, std::vector<uint64_t> rows) {
  RWKV_ASSIGN(const size_t index, index_of(name));
  if (!entries_[index].rows.empty() || infos_[index].shape.size() != 2 ||
      infos_[index].shape[0] != rows.size() ||
      infos_[index].shape[1] % traits(infos_[index].dtype).block != 0) {
    return bad_input("tensor '{}' ({} {}) cannot be put into another order of {} rows", name,
                     traits(infos_[index].dtype).name, shape_to_string(infos_[index].shape),
                     rows.size());
  }
  entries_[index].rows = std::move(rows);
  return {};
}

void EditedSource::remove(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    return;
  }
  const size_t index = found->second;
  infos_.erase(infos_.begin() + static_cast<std::ptrdiff_t>(index));
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
  by_name_.erase(found);
  for (auto& [other, i] : by_name_) {
    i -= i > index ? 1 : 0;
  }
}

Result<size_t> EditedSource::index_of(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  if (found == by_name_.end()) {
    return bad_input("{}: tensor '{}' is missing", path(), name);
  }
  return found->second;
}

Status EditedSource::read(size_t index, std::vector<std::byte>& out) const {
  const Entry& entry = entries_[index];
  if (entry.form) {
    return read_values(index, out);
  }
  return read_plain(infos_[index], entry, out);
}

// The whole of a tensor that is not encoded.
Status EditedSource::read_plain(const TensorInfo& info, const Entry& entry,
                                std::vector<std::byte>& out) const {
  if (!entry.is_added && entry.rows.empty()) {
    return base_.read(entry.base_index, out);
  }
  out.resize(info.n_bytes());
  return entry.rows.empty() ? read_unpermuted(entry, 0, out) : read_permuted(entry, info, 0, out);
}

Result<bool> EditedSource::read_unrounded(size_t index, std::vector<float>& out) const {
  const Entry& entry = entries_[index];
  if (!entry.is_added) {
    const auto* const base = dynamic_cast<const EncodedSource*>(&base_);
    return base != nullptr && entry.rows.empty() ? base->read_unrounded(entry.base_index, out)
                                                 : Result<bool>(false);
  }
  if (!entry.unrounded || !entry.rows.empty()) {
    return false;
  }
  std::vector<std::byte> bytes;
  RWKV_TRY(read_plain(entry.unrounded->info, entry.unrounded->entry, bytes));
  out.resize(entry.unrounded->info.n_elements());
  decode_to_f32(entry.unrounded->info.dtype, bytes, out);
  return true;
}

Status EditedSource::read_range(size_t index, uint64_t offset, std::span<std::byte> out) const {
  const Entry& entry = entries_[index];
  if (entry.form) {
    return has_movable_rows(*entry.form) ? read_rows(entry, offset, out)
                                         : TensorSource::read_range(index, offset, out);
  }
  return entry.rows.empty() ? read_unpermuted(entry, offset, out)
                            : read_permuted(entry, infos_[index], offset, out);
}

// Part of the values of a tensor that was put as codes: its rows are decoded one by one.
Status EditedSource::read_rows(const Entry& entry, uint64_t offset,
                               std::span<std::byte> out) const {
  const uint64_t row_bytes = entry.form->cols * sizeof(float);
  const uint64_t first = offset / row_bytes;
  const uint64_t end = (offset + out.size() + row_bytes - 1) / row_bytes;
  std::vector<uint64_t> rows;
  for (uint64_t row = first; row < end; ++row) {
    rows.push_back(entry.rows.empty() ? row : entry.rows[row]);
  }
  std::vector<float> values(rows.size() * entry.form->cols);
  const auto read_codes = [&](uint64_t at, std::span<std::byte> codes) {
    return data_->read(entry.offset + at, codes);
  };
  RWKV_TRY(decode_rows(*entry.form, entry.ln0, rows, read_codes, values));
  const auto bytes = std::as_bytes(std::span(values)).subspan(offset - first * row_bytes);
  std::copy_n(bytes.begin(), out.size(), out.begin());
  return {};
}

// The values of a tensor that was put as codes.
Status EditedSource::read_values(size_t index, std::vector<std::byte>& out) const {
  const Entry& entry = entries_[index];
  std::vector<std::byte> codes;
  RWKV_TRY(read_unordered(index, codes));
  const std::vector<float> values =
      decode_tensor(*entry.form, codes, infos_[index].shape, entry.ln0);
  const auto bytes = std::as_bytes(std::span(values));
  out.assign(bytes.begin(), bytes.end());
  if (!entry.rows.empty()) {
    const uint64_t row_bytes = out.size() / entry.rows.size();
    for (size_t i = 0; i < entry.rows.size(); ++i) {
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(entry.rows[i] * row_bytes), row_bytes,
                  out.begin() + static_cast<std::ptrdiff_t>(i * row_bytes));
    }
  }
  return {};
}

Status EditedSource::read_unordered(size_t index, std::vector<std::byte>& out) const {
  const Entry& entry = entries_[index];
  if (!entry.is_added) {
    return press::read_codes(base_, entry.base_index, out);
  }
  out.resize(entry.form->n_bytes());
  return data_->read(entry.offset, out);
}

// Whether the norm applied to the codes of an embedding is still that of the model.
bool EditedSource::has_same_ln0(const Entry& entry) const {
  for (const char* name : {kLn0Weight, kLn0Bias}) {
    const auto found = by_name_.find(name);
    const bool is_put = found != by_name_.end() && entries_[found->second].is_added;
    if (is_put && (!entry.is_added || entries_[found->second].offset > entry.offset)) {
      return false;
    }
  }
  return true;
}

std::optional<EncodedForm> EditedSource::encoded(size_t index) const {
  const Entry& entry = entries_[index];
  const std::optional<EncodedForm> form =
      entry.is_added ? entry.form : encoded_form(base_, entry.base_index);
  const bool is_lost = form && ((form->has_ln0 && !has_same_ln0(entry)) ||
                                (!entry.rows.empty() && !has_movable_rows(*form)));
  return is_lost ? std::nullopt : form;
}

Status EditedSource::read_encoded(size_t index, std::vector<std::byte>& out) const {
  RWKV_TRY(read_unordered(index, out));
  if (!entries_[index].rows.empty()) {
    out = reordered_rows(*encoded(index), out, entries_[index].rows);
  }
  return {};
}

Status EditedSource::read_unpermuted(const Entry& entry, uint64_t offset,
                                     std::span<std::byte> out) const {
  return entry.is_added ? data_->read(entry.offset + offset, out)
                        : base_.read_range(entry.base_index, offset, out);
}

// Piece by piece of rows, which may begin and end anywhere.
Status EditedSource::read_permuted(const Entry& entry, const TensorInfo& info, uint64_t offset,
                                   std::span<std::byte> out) const {
  const uint64_t row_bytes = info.n_bytes() / info.shape[0];
  while (!out.empty()) {
    const uint64_t row = offset / row_bytes;
    const uint64_t within = offset % row_bytes;
    const uint64_t n = std::min<uint64_t>(out.size(), row_bytes - within);
    RWKV_TRY(read_unpermuted(entry, entry.rows[row] * row_bytes + within, out.first(n)));
    out = out.subspan(n);
    offset += n;
  }
  return {};
}

}  // namespace rwkv::press
