#include "compressor/checkpoint/adapter.h"

#include <algorithm>
#include <array>

#include "formats/arch/dialects.h"

namespace rwkv::press {
namespace {

struct PartName {
  std::string_view ending;
  AdapterPart part;
  std::string_view kind;
};
// The first that fits counts: ".init_lora_A" does not end in ".lora_A".
constexpr std::array<PartName, 6> kParts = {{
    {".lora_A", AdapterPart::LoraA, "LoRA"},
    {".lora_B", AdapterPart::LoraB, "LoRA"},
    {".init_lora_A", AdapterPart::InitLoraA, "PiSSA's initial values"},
    {".init_lora_B", AdapterPart::InitLoraB, "PiSSA's initial values"},
    {".disha", AdapterPart::Disha, "DiSHA"},
    {".bone", AdapterPart::Bone, "Bone"},
}};

constexpr std::string_view kPrefixes[] = {"base_model.", "model.", "module.", "_forward_module.",
                                          "_orig_mod."};
// PEFT's, in the names of modules that it trains whole.
constexpr std::string_view kSavedWhole = ".modules_to_save";
constexpr std::string_view kAdapterName = ".default";
constexpr std::string_view kTimeState = ".att.time_state";

const PartName* part_of(std::string_view name) {
  for (const PartName& part : kParts) {
    if (name.size() > part.ending.size() && name.ends_with(part.ending)) {
      return &part;
    }
  }
  return nullptr;
}

// Without the endings of Hugging Face, where a factor is a module with a weight.
std::string_view without_module_ending(std::string_view name) {
  for (const std::string_view ending : {std::string_view(".weight"), kAdapterName}) {
    if (name.ends_with(ending)) {
      name.remove_suffix(ending.size());
    }
  }
  return name;
}

}  // namespace

std::string_view without_training_prefix(std::string_view name) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view prefix : kPrefixes) {
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        found = true;
      }
    }
  }
  return name;
}

std::string plain_module_name(std::string_view name) {
  std::string plain(without_training_prefix(name));
  if (const size_t at = plain.find(kSavedWhole); at != std::string::npos) {
    plain.erase(at, kSavedWhole.size());
    if (plain.compare(at, kAdapterName.size(), kAdapterName) == 0) {
      plain.erase(at, kAdapterName.size());
    }
  }
  return plain;
}

std::optional<AdapterName> parse_adapter_name(std::string_view name) {
  name = without_module_ending(without_training_prefix(name));
  const PartName* part = part_of(name);
  if (!part) {
    return std::nullopt;
  }
  name.remove_suffix(part->ending.size());
  return AdapterName{std::string(name) + ".weight", part->part};
}

std::vector<ForeignTarget> foreign_targets(std::string_view name) {
  std::vector<ForeignTarget> found;
  const auto look = [&](const ForeignName* row, std::string_view front) {
    const bool is_turned = row && row->change == Change::Transpose;
    if (row && (is_turned || row->change == Change::None || row->change == Change::Vector)) {
      found.push_back({std::string(front) + std::string(row->plain), is_turned});
    }
  };
  for (const Dialect& dialect : dialects()) {
    // Dialects without a prefix use BlinkDL's names for what adapters change.
    if (dialect.prefix.empty()) {
      continue;
    }
    std::string_view rest = name;
    rest.remove_prefix(rest.starts_with(dialect.prefix) ? dialect.prefix.size() : 0);
    look(find_foreign(dialect, false, rest), "");
    if (!rest.starts_with(dialect.block)) {
      continue;
    }
    rest.remove_prefix(dialect.block.size());
    const size_t dot = rest.find('.');
    if (dot != rest.npos && dot > 0 && rest.find_first_not_of("0123456789") == dot) {
      look(find_foreign(dialect, true, rest.substr(dot + 1)),
           fmt::format("blocks.{}.", rest.substr(0, dot)));
    }
  }
  return found;
}

bool is_adapter(const TensorSource& source) {
  return !adapter_kind(source).empty() &&
         std::none_of(source.tensors().begin(), source.tensors().end(),
                      [](const TensorInfo& tensor) {
                        return without_training_prefix(tensor.name) == "emb.weight";
                      });
}

std::string_view adapter_kind(const TensorSource& source) {
  for (const TensorInfo& tensor : source.tensors()) {
    if (const PartName* part = part_of(without_module_ending(tensor.name))) {
      return part->kind;
    }
  }
  return "";
}

bool is_tuned_state(const TensorSource& source) {
  return !source.tensors().empty() &&
         std::all_of(source.tensors().begin(), source.tensors().end(),
                     [](const TensorInfo& tensor) { return tensor.name.ends_with(kTimeState); });
}

}  // namespace rwkv::press
