// The state of unpickler.h while it runs. unpickler.cpp has the opcode table, the stack and the
// containers, unpickler_objects.cpp the opcodes that import and call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "compressor/checkpoint/pickle_input.h"
#include "compressor/checkpoint/pickle_value.h"
#include "compressor/checkpoint/unpickler.h"
#include "formats/base/damaged.h"

namespace rwkv::press {

/// One run over one pickle.
class PickleMachine {
 public:
  PickleMachine(PickleInput& input, uint64_t most_objects)
      : input_(input), most_objects_(most_objects) {}
  Result<Pickle> run();

 private:
  using Kind = PickleValue::Kind;
  struct Opcode {
    uint8_t byte;
    const char* name;
    Status (PickleMachine::*handler)(uint64_t argument);
    uint64_t argument;  // a width in bytes, a count or a Kind, see the handler
  };
  static const Opcode kOpcodes[];
  static std::array<const Opcode*, 256> opcode_table();

  template <typename... Args>
  Status error(fmt::format_string<Args...> format, Args&&... args) const {
    return bad_input("{}: pickle byte {}, {}: {}", input_.where(), opcode_at_, opcode_name_,
                     fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  Status broken(fmt::format_string<Args...> format, Args&&... args) const {
    return damaged("{}: pickle byte {}, {}: {}", input_.where(), opcode_at_, opcode_name_,
                   fmt::format(format, std::forward<Args>(args)...));
  }

  // Bytes.
  Result<uint64_t> number(uint64_t width);
  Result<std::string> line();
  // Stack. Everything that grows is charged first, so that memory is bounded.
  Status charge(uint64_t n);
  Status push(PickleValue* value);
  Status push_new(Kind kind) { return push(arena_.make(kind)); }
  Result<PickleValue*> pop();
  Result<PickleValue*> top();
  Result<size_t> pop_mark();
  Status append_from(size_t first, PickleValue& container);
  Status push_global(const std::string& name);
  Status call(const PickleValue& callable, const PickleValue& arguments);
  Status make_ordered_dict(const PickleValue& arguments);
  Status remember(uint64_t index);

  Status op_proto(uint64_t);
  Status op_skip(uint64_t bytes);
  Status op_stop(uint64_t);
  Status op_mark(uint64_t);
  Status op_pop(uint64_t);
  Status op_pop_mark(uint64_t);
  Status op_dup(uint64_t);
  Status op_int(uint64_t width);
  Status op_long(uint64_t width);
  Status op_constant(uint64_t kind);
  Status op_bool(uint64_t value);
  Status op_float(uint64_t);
  Status op_string(uint64_t width);
  Status op_bytes(uint64_t width);
  Status op_empty(uint64_t kind);
  Status op_tuple(uint64_t count);
  Status op_from_mark(uint64_t kind);
  Status op_append(uint64_t);
  Status op_appends(uint64_t);
  Status op_setitem(uint64_t);
  Status op_setitems(uint64_t);
  Status op_global(uint64_t);
  Status op_stack_global(uint64_t);
  Status op_call(uint64_t);
  Status op_build(uint64_t);
  Status op_persistent_id(uint64_t);
  Status op_put(uint64_t width);
  Status op_get(uint64_t width);
  Status op_memoize(uint64_t);

  PickleInput& input_;
  uint64_t most_objects_;
  PickleArena arena_;
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, PickleValue*> memo_;
  uint64_t charged_ = 0;
  uint64_t opcode_at_ = 0;  // for messages
  const char* opcode_name_ = "opcode";
  bool done_ = false;
};

}  // namespace rwkv::press
