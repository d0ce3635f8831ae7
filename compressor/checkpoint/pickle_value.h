// The result of reading a pickle: inert nodes in an arena. Nothing is ever imported or called; the
// few Python globals that a checkpoint of tensors needs are rows of one list. unpickler.h makes
// the nodes, state_dict.h finds the tensors among them.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// The meaning of a known global.
enum class GlobalKind : uint8_t {
  OrderedDict,
  RebuildTensorV2,
  RebuildTensorV3,
  RebuildParameter,  ///< both forms: the parameter is its first argument
  StorageClass,      ///< torch.FloatStorage and the like
  TypeName,          ///< torch.float32 and the like, an argument of _rebuild_tensor_v3
  Size,              ///< torch.Size: a tuple
  Mapping,           ///< classes that are dicts; what they are called with is not kept
  Inert,             ///< classes and functions whose results no tensor needs: calls do nothing
};

struct KnownGlobal {
  std::string_view name;  ///< "module.attribute"
  GlobalKind kind;
  std::optional<DType> dtype;  ///< of classes and type names; none for untyped storages
};

/// The only list of accepted globals.
std::span<const KnownGlobal> known_globals();
/// nullptr for a name that is not in the list.
const KnownGlobal* find_global(std::string_view name);
/// The storage class that holds `dtype` ("torch.BFloat16Storage"), or nullptr for block types.
const KnownGlobal* storage_class_of(DType dtype);

/// One Python object. `kind` decides which members are used.
struct PickleValue {
  enum class Kind : uint8_t {
    None,
    Bool,
    Int,
    BigInt,  ///< more than 64 bits: `text` holds its little-endian two's complement
    Float,   ///< the value is not kept, since no tensor needs it
    String,
    Bytes,
    Tuple,
    List,  ///< sets too
    Dict,  ///< OrderedDict too; `items` is key, value, key, value
    Global,
    Storage,  ///< `global` its class, `text` its key, `integer` its elements, `items` its view
    Tensor,   ///< `global` the rebuild function, `items` its arguments
    Object,   ///< the result of calling something inert; nothing of it is kept
  };
  Kind kind = Kind::None;
  const KnownGlobal* global = nullptr;
  int64_t integer = 0;
  std::string text;
  std::vector<const PickleValue*> items;
};

/// "dict", "tensor": for messages.
const char* kind_name(PickleValue::Kind kind);

/// Owns all nodes of a pickle, so that cycles neither leak nor recurse on destruction.
class PickleArena {
 public:
  /// The address stays valid as long as the arena, also when that is moved.
  PickleValue* make(PickleValue::Kind kind) {
    PickleValue& value = values_.emplace_back();
    value.kind = kind;
    return &value;
  }
  const std::deque<PickleValue>& values() const { return values_; }

 private:
  std::deque<PickleValue> values_;
};

}  // namespace rwkv::press
