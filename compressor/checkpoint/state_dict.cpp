#include "compressor/checkpoint/state_dict.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxName = 512;
constexpr size_t kMaxDepth = 4;  // {"trainer": {"checkpoint": {"model": {...}}}} is plenty
constexpr size_t kMaxDims = 8;
// Expanded tensors repeat the few elements stored. Without a limit, a file of a few hundred bytes
// could demand any amount of memory.
constexpr uint64_t kMaxExpandedBytes = uint64_t{256} << 20;

constexpr std::array<std::string_view, 4> kWrapperNames = {"model_state_dict", "state_dict",
                                                           "model", "module"};

bool is_wrapper_name(const PickleValue& key) {
  return key.kind == Kind::String &&
         std::find(kWrapperNames.begin(), kWrapperNames.end(), key.text) != kWrapperNames.end();
}

bool has_named_tensor(const PickleValue& dict) {
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    if (dict.items[i]->kind == Kind::String && dict.items[i + 1]->kind == Kind::Tensor) {
      return true;
    }
  }
  return false;
}

struct Candidate {
  const PickleValue* dict = nullptr;
  const PickleValue* key = nullptr;  // nullptr for the root
};

std::string key_name(const Candidate& candidate) {
  return candidate.key->kind == Kind::String ? printable(candidate.key->text)
                                             : kind_name(candidate.key->kind);
}

// Level by level, so that the dict nearest to the root wins; each dict is visited once, so that
// cycles end. `wrappers_only` follows only the known names.
std::vector<Candidate> nearest_tensor_dicts(const PickleValue& root, bool wrappers_only) {
  std::vector<Candidate> found;
  std::vector<Candidate> level = {{&root, nullptr}};
  std::unordered_set<const PickleValue*> seen = {&root};
  for (size_t depth = 0; depth < kMaxDepth && found.empty(); ++depth) {
    std::vector<Candidate> next;
    for (const Candidate& parent : level) {
      for (size_t i = 0; i + 1 < parent.dict->items.size(); i += 2) {
        const PickleValue& key = *parent.dict->items[i];
        const PickleValue* const value = parent.dict->items[i + 1];
        if (value->kind != Kind::Dict || (wrappers_only && !is_wrapper_name(key)) ||
            !seen.insert(value).second) {
          continue;
        }
        (has_named_tensor(*value) ? found : next).push_back({value, &key});
      }
    }
    level = std::move(next);
  }
  return found;
}

Result<const PickleValue*> find_state_dict(const PickleValue& root, const std::string& where) {
  if (root.kind != Kind::Dict) {
    return bad_input(
        "{}: expected a dict of tensors, found a {}; save the weights alone: "
        "torch.save(model.state_dict(), FILE)",
        where, kind_name(root.kind));
  }
  std::vector<Candidate> found = nearest_tensor_dicts(root, true);
  if (found.empty() && has_named_tensor(root)) {
    return &root;
  }
  if (found.empty()) {
    found = nearest_tensor_dicts(root, false);
  }
  if (found.empty()) {
    return bad_input(
        "{}: expected a state_dict, found no tensors; save the weights alone: "
        "torch.save(model.state_dict(), FILE)",
        where);
  }
  if (found.size() > 1) {
    return bad_input(
        "{}: contains several dicts of tensors, '{}' and '{}' among them, expected one; save the "
        "weights alone: torch.save(model.state_dict(), FILE)",
        where, key_name(found[0]), key_name(found[1]));
  }
  return found[0].dict;
}

// A tuple of integers that must not be negative.
Status read_sizes(const PickleValue& tuple, const char* what, std::vector<uint64_t>& out) {
  if (tuple.kind != Kind::Tuple && tuple.kind != Kind::List) {
    return damaged("its {}: expected a tuple, found a {}", what, kind_name(tuple.kind));
  }
  if (tuple.items.size() > kMaxDims) {
    return damaged("its {} has {} dimensions, at most {} are accepted", what, tuple.items.size(),
                   kMaxDims);
  }
  for (const PickleValue* item : tuple.items) {
    if (item->kind != Kind::Int || item->integer < 0) {
      return damaged("its {}: expected integers of 0 or more, found {}", what,
                     item->kind == Kind::Int ? std::to_string(item->integer)
                                             : std::string("a ") + kind_name(item->kind));
    }
    out.push_back(static_cast<uint64_t>(item->integer));
  }
  return {};
}

// The part of the storage that a legacy view shows, in elements.
struct ViewRange {
  uint64_t first = 0;
  uint64_t elements = 0;
};

Result<ViewRange> view_range(const PickleValue& storage, const StorageClaim& claim) {
  if (storage.items.empty()) {
    return ViewRange{0, claim.elements};
  }
  const PickleValue& first = *storage.items[1];
  const PickleValue& elements = *storage.items[2];
  if (first.kind != Kind::Int || elements.kind != Kind::Int || first.integer < 0 ||
      elements.integer < 0) {
    return damaged("its storage view is not (key, offset, elements)");
  }
  const ViewRange range{static_cast<uint64_t>(first.integer),
                        static_cast<uint64_t>(elements.integer)};
  if (range.first > claim.elements || range.elements > claim.elements - range.first) {
    return damaged("its storage view has {} elements from {}, the storage {}", range.elements,
                   range.first, claim.elements);
  }
  return range;
}

// One more than the index of the last element that the shape reaches; false on overflow.
bool reach(const std::vector<uint64_t>& shape, const std::vector<uint64_t>& strides, uint64_t first,
           uint64_t& out) {
  out = first;
  for (size_t i = 0; i < shape.size(); ++i) {
    uint64_t step = 0;
    if (!checked_mul(shape[i] - 1, strides[i], step) || !checked_add(out, step, out)) {
      return false;
    }
  }
  return checked_add(out, 1, out);
}

// The type of the elements: given by the storage class, or else by _rebuild_tensor_v3.
Status read_dtype(const PickleValue& tensor, DType& out) {
  std::optional<DType> dtype = tensor.items[0]->global->dtype;
  if (tensor.global->kind == GlobalKind::RebuildTensorV3) {
    const PickleValue& argument = *tensor.items[6];
    if (argument.kind != Kind::Global || argument.global->kind != GlobalKind::TypeName) {
      return damaged("its dtype: expected a torch dtype, found a {}", kind_name(argument.kind));
    }
    dtype = argument.global->dtype;
  }
  if (!dtype) {
    return damaged("its storage has no type");
  }
  out = *dtype;
  return {};
}

// The place of a tensor in its storage, in its own elements.
struct Place {
  uint64_t first = 0;
  uint64_t available = 0;  // elements that the storage, or its view, has
};

// Whether two elements of the view are one of the storage although no stride is 0. PyTorch saves no
// such view; walking one would read the storage over and over.
bool folds_over(const StoredTensor& tensor) {
  std::vector<std::pair<uint64_t, uint64_t>> dims;  // stride and size
  for (size_t i = 0; i < tensor.strides.size(); ++i) {
    if (tensor.strides[i] > 0 && tensor.info.shape[i] > 1) {
      dims.emplace_back(tensor.strides[i], tensor.info.shape[i]);
    }
  }
  std::sort(dims.begin(), dims.end());
  uint64_t reached = 0;
  for (const auto& [stride, size] : dims) {
    if (stride <= reached) {
      return true;
    }
    reached += (size - 1) * stride;
  }
  return false;
}

// check_tensor_size() has accepted the shape.
Status check_place(const StoredTensor& tensor, const Place& place) {
  uint64_t needed = 0;
  if (!reach(tensor.info.shape, tensor.strides, place.first, needed) || needed > place.available) {
    return damaged(
        "shape {} with strides ({}) from element {} on needs more than the {} elements of its "
        "storage {}",
        shape_to_string(tensor.info.shape), fmt::join(tensor.strides, ","), place.first,
        place.available, printable(tensor.storage_key));
  }
  if (folds_over(tensor)) {
    return bad_input("shape {} with strides ({}) names elements twice; save tensor.contiguous()",
                     shape_to_string(tensor.info.shape), fmt::join(tensor.strides, ","));
  }
  const uint64_t limit = std::max(tensor.storage_bytes, kMaxExpandedBytes);
  if (tensor.info.n_bytes() > limit) {
    return damaged("shape {} expands to {} bytes, its storage {} has {}; at most {} are accepted",
                   shape_to_string(tensor.info.shape), tensor.info.n_bytes(),
                   printable(tensor.storage_key), tensor.storage_bytes, limit);
  }
  return {};
}

// The unpickler has checked only the number of arguments of `value`.
Status read_tensor(const PickleValue& value, StoredTensor& out, Place& place) {
  const PickleValue& storage = *value.items[0];
  const PickleValue& offset = *value.items[1];
  if (storage.kind != Kind::Storage) {
    return damaged("its storage is a {}", kind_name(storage.kind));
  }
  if (offset.kind != Kind::Int || offset.integer < 0) {
    return damaged("its storage offset: expected an integer of 0 or more, found {}",
                   offset.kind == Kind::Int ? std::to_string(offset.integer)
                                            : std::string("a ") + kind_name(offset.kind));
  }
  RWKV_TRY(read_sizes(*value.items[2], "shape", out.info.shape));
  RWKV_TRY(read_sizes(*value.items[3], "stride", out.strides));
  if (out.info.shape.size() != out.strides.size()) {
    return damaged("it has {} dimensions and {} strides", out.info.shape.size(),
                   out.strides.size());
  }
  RWKV_TRY(read_dtype(value, out.info.dtype));
  RWKV_ASSIGN(const StorageClaim claim, storage_claim(storage));
  RWKV_ASSIGN(const ViewRange view, view_range(storage, claim));
  out.storage_key = storage.text;
  out.storage_bytes = claim.bytes;

  // _rebuild_tensor_v3 counts in its own dtype, not in that of the storage.
  const uint64_t element_bytes = traits(out.info.dtype).block_bytes;
  place.first = static_cast<uint64_t>(offset.integer);
  place.available = view.elements * claim.element_bytes / element_bytes;
  out.offset = view.first * claim.element_bytes;
  return {};
}

Status check_name(const std::string& name) {
  const bool plain = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (name.empty() || name.size() > kMaxName || !plain) {
    return damaged("tensor name '{}' is empty, longer than {} bytes or has control characters",
                   printable(name), kMaxName);
  }
  return {};
}

}  // namespace

Result<StorageClaim> storage_claim(const PickleValue& storage) {
  if (storage.integer < 0) {
    return damaged("storage {} has {} elements", printable(storage.text), storage.integer);
  }
  StorageClaim claim;
  claim.elements = static_cast<uint64_t>(storage.integer);
  claim.element_bytes =
      storage.global->dtype ? traits(*storage.global->dtype).block_bytes : uint64_t{1};
  if (!checked_mul(claim.elements, claim.element_bytes, claim.bytes)) {
    return damaged("storage {} has {} elements of {} bytes", printable(storage.text),
                   claim.elements, claim.element_bytes);
  }
  return claim;
}

Result<std::vector<StoredTensor>> read_state_dict(const PickleValue& root,
                                                  const std::string& where) {
  RWKV_ASSIGN(const PickleValue* dict, find_state_dict(root, where));
  std::vector<StoredTensor> tensors;
  std::unordered_set<std::string_view> names;
  for (size_t i = 0; i + 1 < dict->items.size(); i += 2) {
    const PickleValue& key = *dict->items[i];
    const PickleValue& value = *dict->items[i + 1];
    if (value.kind != Kind::Tensor) {
      continue;
    }
    if (key.kind != Kind::String) {
      return bad_input(
          "{}: expected a string as the name of a tensor, found a {}; save the weights alone: "
          "torch.save(model.state_dict(), FILE)",
          where, kind_name(key.kind));
    }
    if (const Status status = check_name(key.text); !status.ok()) {
      return status.in(where);
    }
    if (!names.insert(key.text).second) {
      return damaged("{}: tensor '{}' occurs twice", where, printable(key.text));
    }
    StoredTensor tensor;
    tensor.info.name = key.text;
    const std::string context = fmt::format("{}: tensor '{}'", where, printable(key.text));
    Place place;
    if (const Status status = read_tensor(value, tensor, place); !status.ok()) {
      return status.in(context);
    }
    if (const Status status = check_tensor_size(tensor.info); !status.ok()) {
      return status.in(where);
    }
    if (const Status status = check_place(tensor, place); !status.ok()) {
      return status.in(context);
    }
    tensor.offset += place.first * traits(tensor.info.dtype).block_bytes;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace rwkv::press
