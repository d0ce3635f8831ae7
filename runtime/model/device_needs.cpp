#include "runtime/model/device_needs.h"

#include <fmt/format.h>

#include "runtime/model/model.h"

namespace rwkv::edge {
namespace {

std::string megabytes(uint64_t bytes) {
  return fmt::format("{:.{}f} MB", static_cast<double>(bytes) * 1e-6, bytes < 10'000'000 ? 2 : 1);
}

}  // namespace

Result<std::vector<ModeNeeds>> device_needs(const PackedFile& file, uint64_t tokenizer_bytes) {
  std::vector<ModeNeeds> needs;
  for (const ModeTraits& traits : mode_list()) {
    MemoryOptions options;
    options.mode = traits.mode;
    RWKV_ASSIGN(const Residency residency, Model::residency(file, tokenizer_bytes, options));
    needs.push_back({traits.mode, residency.account.total(), residency.read,
                     traits.mode == mode_made_for(file)});
  }
  return needs;
}

Result<std::vector<ModeNeeds>> device_needs(const std::string& path) {
  RWKV_ASSIGN(const PackedFile file, PackedFile::open(path));
  auto tokenizer = Model::tokenizer_of(file);
  RWKV_TRY(tokenizer.status().in(path));
  return device_needs(file, tokenizer.value() ? tokenizer.value()->memory_bytes() : 0);
}

std::string describe(const ReadPerToken& read) {
  return read.bytes == 0 ? ""
                         : fmt::format("reads {}{} per token", read.is_bound ? "at most " : "",
                                       megabytes(read.bytes));
}

std::string describe(std::span<const ModeNeeds> needs, const std::string& indent) {
  std::string text;
  for (const ModeNeeds& mode : needs) {
    const ModeTraits& traits = mode_traits(mode.mode);
    std::string note = describe(mode.read);
    note += traits.owns_memory() ? "" : "mapped: the system reads what it does not have";
    note += mode.is_made_for ? fmt::format("{}opens so", note.empty() ? "" : "; ") : "";
    text += fmt::format("{}{:<10} {:>10}{}{}\n", indent, traits.name, megabytes(mode.resident),
                        note.empty() ? "" : "  ", note);
  }
  return text;
}

}  // namespace rwkv::edge
