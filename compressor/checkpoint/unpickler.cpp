#include "compressor/checkpoint/unpickler.h"

#include <algorithm>
#include <array>
#include <bit>

#include "compressor/checkpoint/pickle_machine.h"
#include "formats/base/little_endian.h"

namespace rwkv::press {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxMarks = 1000;  // nested MARKs; CPython's pickler stops at this depth too
constexpr size_t kMaxIntegerBytes = 4096;

constexpr uint64_t as_argument(Kind kind) {
  return static_cast<uint64_t>(kind);
}

}  // namespace

const PickleMachine::Opcode PickleMachine::kOpcodes[] = {
    {0x80, "PROTO", &PickleMachine::op_proto, 0},
    {0x95, "FRAME", &PickleMachine::op_skip, 8},
    {'.', "STOP", &PickleMachine::op_stop, 0},
    {'(', "MARK", &PickleMachine::op_mark, 0},
    {'0', "POP", &PickleMachine::op_pop, 0},
    {'1', "POP_MARK", &PickleMachine::op_pop_mark, 0},
    {'2', "DUP", &PickleMachine::op_dup, 0},
    {'J', "BININT", &PickleMachine::op_int, 4},
    {'K', "BININT1", &PickleMachine::op_int, 1},
    {'M', "BININT2", &PickleMachine::op_int, 2},
    {0x8a, "LONG1", &PickleMachine::op_long, 1},
    {0x8b, "LONG4", &PickleMachine::op_long, 4},
    {'N', "NONE", &PickleMachine::op_constant, as_argument(Kind::None)},
    {0x88, "NEWTRUE", &PickleMachine::op_bool, 1},
    {0x89, "NEWFALSE", &PickleMachine::op_bool, 0},
    {'G', "BINFLOAT", &PickleMachine::op_float, 0},
    {0x8c, "SHORT_BINUNICODE", &PickleMachine::op_string, 1},
    {'X', "BINUNICODE", &PickleMachine::op_string, 4},
    {0x8d, "BINUNICODE8", &PickleMachine::op_string, 8},
    {'U', "SHORT_BINSTRING", &PickleMachine::op_string, 1},
    {'T', "BINSTRING", &PickleMachine::op_string, 4},
    {'C', "SHORT_BINBYTES", &PickleMachine::op_bytes, 1},
    {'B', "BINBYTES", &PickleMachine::op_bytes, 4},
    {0x8e, "BINBYTES8", &PickleMachine::op_bytes, 8},
    {0x96, "BYTEARRAY8", &PickleMachine::op_bytes, 8},
    {']', "EMPTY_LIST", &PickleMachine::op_empty, as_argument(Kind::List)},
    {')', "EMPTY_TUPLE", &PickleMachine::op_empty, as_argument(Kind::Tuple)},
    {'}', "EMPTY_DICT", &PickleMachine::op_empty, as_argument(Kind::Dict)},
    {0x8f, "EMPTY_SET", &PickleMachine::op_empty, as_argument(Kind::List)},
    {0x85, "TUPLE1", &PickleMachine::op_tuple, 1},
    {0x86, "TUPLE2", &PickleMachine::op_tuple, 2},
    {0x87, "TUPLE3", &PickleMachine::op_tuple, 3},
    {'t', "TUPLE", &PickleMachine::op_from_mark, as_argument(Kind::Tuple)},
    {'l', "LIST", &PickleMachine::op_from_mark, as_argument(Kind::List)},
    {'d', "DICT", &PickleMachine::op_from_mark, as_argument(Kind::Dict)},
    {0x91, "FROZENSET", &PickleMachine::op_from_mark, as_argument(Kind::Tuple)},
    {'a', "APPEND", &PickleMachine::op_append, 0},
    {'e', "APPENDS", &PickleMachine::op_appends, 0},
    {0x90, "ADDITEMS", &PickleMachine::op_appends, 0},
    {'s', "SETITEM", &PickleMachine::op_setitem, 0},
    {'u', "SETITEMS", &PickleMachine::op_setitems, 0},
    {'c', "GLOBAL", &PickleMachine::op_global, 0},
    {0x93, "STACK_GLOBAL", &PickleMachine::op_stack_global, 0},
    {'R', "REDUCE", &PickleMachine::op_call, 0},
    {0x81, "NEWOBJ", &PickleMachine::op_call, 0},
    {'b', "BUILD", &PickleMachine::op_build, 0},
    {'Q', "BINPERSID", &PickleMachine::op_persistent_id, 0},
    {'q', "BINPUT", &PickleMachine::op_put, 1},
    {'r', "LONG_BINPUT", &PickleMachine::op_put, 4},
    {0x94, "MEMOIZE", &PickleMachine::op_memoize, 0},
    {'h', "BINGET", &PickleMachine::op_get, 1},
    {'j', "LONG_BINGET", &PickleMachine::op_get, 4},
};

std::array<const PickleMachine::Opcode*, 256> PickleMachine::opcode_table() {
  std::array<const Opcode*, 256> table{};
  for (const Opcode& opcode : kOpcodes) {
    table[opcode.byte] = &opcode;
  }
  return table;
}

Result<Pickle> PickleMachine::run() {
  static const std::array<const Opcode*, 256> table = opcode_table();
  while (!done_) {
    opcode_at_ = input_.position();
    opcode_name_ = "opcode";
    RWKV_ASSIGN(const uint64_t byte, number(1));
    const Opcode* const opcode = table[byte];
    if (opcode == nullptr) {
      return broken("torch.save does not write opcode 0x{:02x}", byte);
    }
    opcode_name_ = opcode->name;
    RWKV_TRY((this->*opcode->handler)(opcode->argument));
  }
  RWKV_ASSIGN(const PickleValue* root, pop());
  return Pickle{std::move(arena_), root};
}

Result<uint64_t> PickleMachine::number(uint64_t width) {
  RWKV_ASSIGN(const std::span<const std::byte> bytes, input_.take(width));
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    value = (value << 8) | std::to_integer<uint64_t>(bytes[i - 1]);
  }
  return value;
}

Status PickleMachine::charge(uint64_t n) {
  charged_ += n;
  if (charged_ > most_objects_) {
    return error(
        "more than {} objects, which a checkpoint of tensors does not need; save the weights "
        "alone: torch.save(model.state_dict(), FILE)",
        most_objects_);
  }
  return {};
}

Status PickleMachine::push(PickleValue* value) {
  RWKV_TRY(charge(1));
  stack_.push_back(value);
  return {};
}

Result<PickleValue*> PickleMachine::top() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    return broken("the stack is empty");
  }
  return stack_.back();
}

Result<PickleValue*> PickleMachine::pop() {
  RWKV_ASSIGN(PickleValue * value, top());
  stack_.pop_back();
  return value;
}

Result<size_t> PickleMachine::pop_mark() {
  if (marks_.empty()) {
    return broken("no MARK on the stack");
  }
  const size_t first = marks_.back();
  marks_.pop_back();
  return first;
}

// Moves the stack from `first` on into `container`. Each item was charged when it was pushed.
Status PickleMachine::append_from(size_t first, PickleValue& container) {
  container.items.insert(container.items.end(), stack_.begin() + static_cast<std::ptrdiff_t>(first),
                         stack_.end());
  stack_.resize(first);
  if (container.kind == Kind::Dict && container.items.size() % 2 != 0) {
    return broken("a dict key without a value");
  }
  return {};
}

Status PickleMachine::op_proto(uint64_t) {
  RWKV_ASSIGN(const uint64_t version, number(1));
  if (version > 5) {
    return error(
        "pickle protocol {}, at most 5 is known; save the weights alone: "
        "torch.save(model.state_dict(), FILE)",
        version);
  }
  return {};
}

Status PickleMachine::op_skip(uint64_t bytes) {
  return input_.take(bytes).status();
}

Status PickleMachine::op_stop(uint64_t) {
  done_ = true;
  return {};
}

Status PickleMachine::op_mark(uint64_t) {
  if (marks_.size() >= kMaxMarks) {
    return broken("more than {} nested MARKs", kMaxMarks);
  }
  marks_.push_back(stack_.size());
  return {};
}

Status PickleMachine::op_pop(uint64_t) {
  // As in CPython: a POP with nothing above the last MARK takes the MARK.
  if (!marks_.empty() && marks_.back() == stack_.size()) {
    marks_.pop_back();
    return {};
  }
  return pop().status();
}

Status PickleMachine::op_pop_mark(uint64_t) {
  RWKV_ASSIGN(const size_t first, pop_mark());
  stack_.resize(first);
  return {};
}

Status PickleMachine::op_dup(uint64_t) {
  RWKV_ASSIGN(PickleValue * value, top());
  return push(value);
}

Status PickleMachine::op_int(uint64_t width) {
  RWKV_ASSIGN(const uint64_t bits, number(width));
  PickleValue* const value = arena_.make(Kind::Int);
  // Only the four-byte form is signed.
  value->integer = width == 4 ? int64_t{std::bit_cast<int32_t>(static_cast<uint32_t>(bits))}
                              : static_cast<int64_t>(bits);
  return push(value);
}

Status PickleMachine::op_long(uint64_t width) {
  RWKV_ASSIGN(const uint64_t length, number(width));
  if (length > kMaxIntegerBytes) {
    return broken("an integer of {} bytes, at most {} are accepted", length, kMaxIntegerBytes);
  }
  RWKV_ASSIGN(const std::span<const std::byte> bytes, input_.take(length));
  PickleValue* const value = arena_.make(length > 8 ? Kind::BigInt : Kind::Int);
  if (length > 8) {
    value->text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return push(value);
  }
  const bool negative = length > 0 && (std::to_integer<unsigned>(bytes[length - 1]) & 0x80u) != 0;
  std::array<std::byte, 8> wide;
  wide.fill(negative ? std::byte{0xff} : std::byte{0});
  std::copy(bytes.begin(), bytes.end(), wide.begin());
  value->integer = load_le<int64_t>(wide.data());
  return push(value);
}

Status PickleMachine::op_constant(uint64_t kind) {
  return push_new(static_cast<Kind>(kind));
}

Status PickleMachine::op_bool(uint64_t value) {
  PickleValue* const result = arena_.make(Kind::Bool);
  result->integer = static_cast<int64_t>(value);
  return push(result);
}

Status PickleMachine::op_float(uint64_t) {
  RWKV_TRY(input_.take(8).status());
  return push_new(Kind::Float);
}

Status PickleMachine::op_string(uint64_t width) {
  RWKV_ASSIGN(const uint64_t length, number(width));
  RWKV_ASSIGN(const std::span<const std::byte> bytes, input_.take(length));
  PickleValue* const value = arena_.make(Kind::String);
  value->text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return push(value);
}

// Like floats, bytes are not kept: no tensor needs them.
Status PickleMachine::op_bytes(uint64_t width) {
  RWKV_ASSIGN(const uint64_t length, number(width));
  RWKV_TRY(input_.take(length).status());
  return push_new(Kind::Bytes);
}

Status PickleMachine::op_empty(uint64_t kind) {
  return push_new(static_cast<Kind>(kind));
}

Status PickleMachine::op_tuple(uint64_t count) {
  if (stack_.size() < count + (marks_.empty() ? 0 : marks_.back())) {
    return broken("a tuple of {} from a shorter stack", count);
  }
  PickleValue* const tuple = arena_.make(Kind::Tuple);
  RWKV_TRY(append_from(stack_.size() - count, *tuple));
  return push(tuple);
}

Status PickleMachine::op_from_mark(uint64_t kind) {
  RWKV_ASSIGN(const size_t first, pop_mark());
  PickleValue* const container = arena_.make(static_cast<Kind>(kind));
  RWKV_TRY(append_from(first, *container));
  return push(container);
}

Status PickleMachine::op_append(uint64_t) {
  RWKV_ASSIGN(const PickleValue* item, pop());
  RWKV_ASSIGN(PickleValue * list, top());
  if (list->kind != Kind::List) {
    return broken("expected a list, found a {}", kind_name(list->kind));
  }
  list->items.push_back(item);
  return {};
}

Status PickleMachine::op_appends(uint64_t) {
  RWKV_ASSIGN(const size_t first, pop_mark());
  if (first == 0 || stack_[first - 1]->kind != Kind::List) {
    return broken("expected a list");
  }
  return append_from(first, *stack_[first - 1]);
}

Status PickleMachine::op_setitem(uint64_t) {
  if (stack_.size() < 3 + (marks_.empty() ? 0 : marks_.back())) {
    return broken("expected a dict, a key and a value");
  }
  PickleValue* const dict = stack_[stack_.size() - 3];
  if (dict->kind != Kind::Dict) {
    return broken("expected a dict, found a {}", kind_name(dict->kind));
  }
  return append_from(stack_.size() - 2, *dict);
}

Status PickleMachine::op_setitems(uint64_t) {
  RWKV_ASSIGN(const size_t first, pop_mark());
  if (first == 0 || stack_[first - 1]->kind != Kind::Dict) {
    return broken("expected a dict");
  }
  return append_from(first, *stack_[first - 1]);
}

Status PickleMachine::remember(uint64_t index) {
  RWKV_ASSIGN(PickleValue * value, top());
  RWKV_TRY(charge(1));
  memo_[index] = value;
  return {};
}

Status PickleMachine::op_put(uint64_t width) {
  RWKV_ASSIGN(const uint64_t index, number(width));
  return remember(index);
}

Status PickleMachine::op_memoize(uint64_t) {
  return remember(memo_.size());
}

Status PickleMachine::op_get(uint64_t width) {
  RWKV_ASSIGN(const uint64_t index, number(width));
  const auto found = memo_.find(index);
  if (found == memo_.end()) {
    return broken("memo entry {} was never stored", index);
  }
  return push(found->second);
}

Result<Pickle> unpickle(PickleInput& input, uint64_t file_bytes) {
  return PickleMachine(input, most_pickle_objects(file_bytes)).run();
}

}  // namespace rwkv::press
