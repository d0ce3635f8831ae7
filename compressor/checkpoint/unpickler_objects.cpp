#include "compressor/checkpoint/pickle_machine.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxGlobalName = 256;  // bytes of a line of GLOBAL
constexpr size_t kMaxStorageKey = 64;   // it is copied; torch writes a decimal number
constexpr size_t kMaxArguments = 8;     // _rebuild_tensor_v3 with metadata

}  // namespace

Result<std::string> PickleMachine::line() {
  std::string text;
  while (text.size() <= kMaxGlobalName) {
    RWKV_ASSIGN(const uint64_t byte, number(1));
    if (byte == '\n') {
      return text;
    }
    text.push_back(static_cast<char>(byte));
  }
  return broken("the name of a global is longer than {} bytes", kMaxGlobalName);
}

Status PickleMachine::push_global(const std::string& name) {
  const KnownGlobal* const global = find_global(name);
  if (global == nullptr) {
    return error(
        "refused global '{}': expected tensors alone, found an object that needs code (a whole "
        "model, or a training's), and code of a file is never run; where its code is, save the "
        "weights alone: torch.save(model.state_dict(), FILE)",
        printable(name));
  }
  PickleValue* const value = arena_.make(Kind::Global);
  value->global = global;
  return push(value);
}

Status PickleMachine::op_global(uint64_t) {
  RWKV_ASSIGN(const std::string module, line());
  RWKV_ASSIGN(const std::string name, line());
  return push_global(module + "." + name);
}

Status PickleMachine::op_stack_global(uint64_t) {
  RWKV_ASSIGN(const PickleValue* name, pop());
  RWKV_ASSIGN(const PickleValue* module, pop());
  if (name->kind != Kind::String || module->kind != Kind::String ||
      name->text.size() > kMaxGlobalName || module->text.size() > kMaxGlobalName) {
    return broken("expected two short strings");
  }
  return push_global(module->text + "." + name->text);
}

// REDUCE and NEWOBJ: both have a callable and a tuple of arguments on the stack.
Status PickleMachine::op_call(uint64_t) {
  RWKV_ASSIGN(const PickleValue* arguments, pop());
  RWKV_ASSIGN(const PickleValue* callable, pop());
  if (arguments->kind != Kind::Tuple || callable->kind != Kind::Global) {
    return broken("a call of a {} with a {}", kind_name(callable->kind),
                  kind_name(arguments->kind));
  }
  return call(*callable, *arguments);
}

Status PickleMachine::call(const PickleValue& callable, const PickleValue& arguments) {
  const std::vector<const PickleValue*>& items = arguments.items;
  switch (callable.global->kind) {
    case GlobalKind::OrderedDict:
      return make_ordered_dict(arguments);
    case GlobalKind::RebuildTensorV2:
    case GlobalKind::RebuildTensorV3: {
      const size_t expected = callable.global->kind == GlobalKind::RebuildTensorV2 ? 6 : 7;
      if (items.size() < expected || items.size() > kMaxArguments) {
        return broken("{}: expected {} arguments, found {}", callable.global->name, expected,
                      items.size());
      }
      RWKV_TRY(charge(items.size()));
      PickleValue* const tensor = arena_.make(Kind::Tensor);
      tensor->global = callable.global;
      tensor->items = items;
      return push(tensor);
    }
    case GlobalKind::RebuildParameter: {
      if (items.empty() || items[0]->kind != Kind::Tensor) {
        return broken("{} without a tensor", callable.global->name);
      }
      // A copy, because stack entries are not const; arguments of tensors are few.
      RWKV_TRY(charge(items[0]->items.size()));
      PickleValue* const tensor = arena_.make(Kind::Tensor);
      tensor->global = items[0]->global;
      tensor->items = items[0]->items;
      return push(tensor);
    }
    case GlobalKind::Size: {
      if (items.size() != 1 || (items[0]->kind != Kind::Tuple && items[0]->kind != Kind::List)) {
        return broken("torch.Size: expected a tuple");
      }
      RWKV_TRY(charge(items[0]->items.size()));
      PickleValue* const size = arena_.make(Kind::Tuple);
      size->items = items[0]->items;
      return push(size);
    }
    case GlobalKind::Mapping:
      return push_new(Kind::Dict);
    case GlobalKind::Inert:
      return push_new(Kind::Object);
    case GlobalKind::StorageClass:
    case GlobalKind::TypeName:
      break;
  }
  return error(
      "refused call of '{}': expected tensors alone, found an object that needs code, and code of "
      "a file is never run; where its code is, save the weights alone: "
      "torch.save(model.state_dict(), FILE)",
      callable.global->name);
}

// OrderedDict() or, from old Pythons, OrderedDict([[key, value], ...]).
Status PickleMachine::make_ordered_dict(const PickleValue& arguments) {
  PickleValue* const dict = arena_.make(Kind::Dict);
  if (arguments.items.empty()) {
    return push(dict);
  }
  const PickleValue& pairs = *arguments.items[0];
  if (arguments.items.size() > 1 || pairs.kind != Kind::List) {
    return broken("OrderedDict: expected no argument or one list of pairs");
  }
  RWKV_TRY(charge(2 * pairs.items.size()));
  for (const PickleValue* pair : pairs.items) {
    if ((pair->kind != Kind::List && pair->kind != Kind::Tuple) || pair->items.size() != 2) {
      return broken("OrderedDict: expected pairs of key and value");
    }
    dict->items.insert(dict->items.end(), pair->items.begin(), pair->items.end());
  }
  return push(dict);
}

// BUILD sets attributes: `_metadata` of a state_dict, attributes of a parameter. We need none.
Status PickleMachine::op_build(uint64_t) {
  RWKV_TRY(pop().status());
  RWKV_ASSIGN(const PickleValue* object, top());
  if (object->kind != Kind::Dict && object->kind != Kind::Tensor && object->kind != Kind::Object) {
    return broken("expected a dict, a tensor or an object, found a {}", kind_name(object->kind));
  }
  return {};
}

// ('storage', class, key, location, elements[, view]); the location is where the tensor once
// lived and does not matter here. `view` exists in the legacy form only.
Status PickleMachine::op_persistent_id(uint64_t) {
  RWKV_ASSIGN(const PickleValue* id, pop());
  const std::vector<const PickleValue*>& items = id->items;
  if (id->kind != Kind::Tuple || items.size() < 5 || items.size() > 6 ||
      items[0]->kind != Kind::String || items[0]->text != "storage" ||
      items[1]->kind != Kind::Global || items[1]->global->kind != GlobalKind::StorageClass ||
      items[2]->kind != Kind::String || items[2]->text.size() > kMaxStorageKey ||
      items[3]->kind != Kind::String || items[4]->kind != Kind::Int) {
    return broken("a persistent id that is not ('storage', class, key, location, elements)");
  }
  PickleValue* const storage = arena_.make(Kind::Storage);
  storage->global = items[1]->global;
  storage->text = items[2]->text;
  storage->integer = items[4]->integer;
  if (items.size() == 6 && items[5]->kind != Kind::None) {
    if (items[5]->kind != Kind::Tuple || items[5]->items.size() != 3) {
      return broken("a storage view that is not (key, offset, elements)");
    }
    storage->items = items[5]->items;
  }
  return push(storage);
}

}  // namespace rwkv::press
