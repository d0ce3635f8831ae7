// A checkpoint with the changes of stages: tensors replaced, added, removed or with their rows in
// another order, over a source that does not change. Added tensors wait in a temporary file, so
// that only one tensor is in memory at a time, for models of any size.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "compressor/checkpoint/encoded_source.h"
#include "compressor/checkpoint/scratch_file.h"

namespace rwkv::press {

class EditedSource final : public EncodedSource {
 public:
  /// `base` must outlive it. `folder` is for the temporary file, which has no name and disappears
  /// with the process.
  static Result<std::unique_ptr<EditedSource>> create(const TensorSource& base,
                                                      const std::string& folder);
  /// The same with its temporary data in `data`, which may be a kept file.
  static std::unique_ptr<EditedSource> create(const TensorSource& base,
                                              std::unique_ptr<ScratchFile> data);
  EditedSource(const EditedSource&) = delete;
  EditedSource& operator=(const EditedSource&) = delete;

  /// Appends a tensor of f32, or replaces the one of that name in its place.
  Status put(const std::string& name, std::vector<uint64_t> shape, std::span<const float> values);
  /// The same as codes: the packer copies them if it packs the tensor in this form, and read()
  /// returns their values as f32. `shape` is that of the checkpoint, as for put().
  Status put_encoded(const std::string& name, std::vector<uint64_t> shape, const EncodedForm& form,
                     std::span<const std::byte> codes);
  /// Undoes put_encoded(): the tensor is again what its codes replaced. Nothing if they replaced
  /// none.
  void drop_codes(const std::string& name);
  /// Row i becomes the former row `rows[i]`; `rows` is a permutation. The tensor must have two
  /// dimensions and not be permuted yet.
  Status permute_rows(const std::string& name, std::vector<uint64_t> rows);
  void remove(const std::string& name);

  /// BadInput if there is none of that name.
  Result<size_t> index_of(std::string_view name) const;

  std::string_view format() const override { return base_.format(); }
  const std::string& path() const override { return base_.path(); }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Status read(size_t index, std::vector<std::byte>& out) const override;
  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override;
  std::optional<EncodedForm> encoded(size_t index) const override;
  Status read_encoded(size_t index, std::vector<std::byte>& out) const override;
  Result<bool> read_unrounded(size_t index, std::vector<float>& out) const override;

  /// Its temporary data, to which more than tensors may be appended.
  ScratchFile& data() { return *data_; }

 private:
  friend class EditedState;
  struct Unrounded;
  struct Entry {
    bool is_added = false;
    size_t base_index = 0;
    uint64_t offset = 0;                         ///< of an added tensor in the temporary file
    std::vector<uint64_t> rows;                  ///< empty unless permuted
    std::optional<EncodedForm> form;             ///< of an added tensor, if it was put as codes
    FoldedNorm ln0;                              ///< that these codes have, if the form says so
    std::shared_ptr<const Unrounded> unrounded;  ///< what these codes replaced
  };
  struct Unrounded {
    TensorInfo info;
    Entry entry;
  };
  EditedSource(const TensorSource& base, std::unique_ptr<ScratchFile> data);
  Status add(TensorInfo info, Entry entry, std::span<const std::byte> bytes);
  bool has_same_ln0(const Entry& entry) const;
  Result<FoldedNorm> ln0() const;
  Status read_plain(const TensorInfo& info, const Entry& entry, std::vector<std::byte>& out) const;
  Status read_unordered(size_t index, std::vector<std::byte>& out) const;
  Status read_rows(const Entry& entry, uint64_t offset, std::span<std::byte> out) const;
  Status read_values(size_t index, std::vector<std::byte>& out) const;
  Status read_unpermuted(const Entry& entry, uint64_t offset, std::span<std::byte> out) const;
  Status read_permuted(const Entry& entry, const TensorInfo& info, uint64_t offset,
                       std::span<std::byte> out) const;

  const TensorSource& base_;
  std::unique_ptr<ScratchFile> data_;
  std::vector<TensorInfo> infos_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace rwkv::press
