// The buffers of an evaluator.
#include "runtime/model/scratch.h"

#include <array>

#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

TEST_CASE("Buffers lie in one piece, each on lines of its own", "[scratch]") {
  const auto model = open_tiny(test::TinyModelOptions());
  for (const size_t max_tokens : std::array<size_t, 3>{1, 7, 32}) {
    const ScratchSizes sizes = {3, max_tokens, 5};
    const Scratch scratch(model->config(), sizes);
    std::vector<std::span<const std::byte>> parts;
    const auto note = [&](auto span) { parts.push_back(std::as_bytes(span)); };
    note(scratch.x), note(scratch.normed), note(scratch.out), note(scratch.arena);
    note(scratch.marks), note(scratch.bias), note(scratch.planes), note(scratch.rank_space);
    note(scratch.integers), note(scratch.steps), note(scratch.sums), note(scratch.group_sums);
    note(scratch.ids), note(scratch.numbers), note(scratch.row_places);
    size_t total = 0;
    const std::byte* end = parts.front().data();
    for (const auto part : parts) {
      CHECK(reinterpret_cast<uintptr_t>(part.data()) % kCacheLine == 0);
      CHECK(part.data() >= end);
      end = part.data() + part.size();
      total += part.size();
    }
    CHECK(total > 0);
    CHECK(static_cast<uint64_t>(end - parts.front().data()) <=
          Scratch::bytes(model->config(), sizes));
    CHECK(scratch.numbers[kMaxGather - 1] == kMaxGather - 1);
    CHECK(std::all_of(scratch.arena.begin(), scratch.arena.end(), [](float v) { return v == 0; }));
  }
}

}  // namespace
}  // namespace rwkv::edge
