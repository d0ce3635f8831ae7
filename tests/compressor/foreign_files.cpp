#include "tests/compressor/foreign_files.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "compressor/checkpoint/pth_reader.h"
#include "compressor/checkpoint/pth_writer.h"
#include "compressor/checkpoint/synth.h"
#include "formats/container/safetensors_writer.h"
#include "tests/support/catch.h"

namespace rwkv::test {
namespace {

using Bytes = std::vector<std::byte>;

// The vectors that BlinkDL stores as [1, 1, n].
bool is_row(const std::string& name, const std::string& arch) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  const bool small = name.ends_with("_w1") || name.ends_with("_w2");
  if (small || name.ends_with(".weight") || name.ends_with(".bias")) {
    return false;
  }
  return has("time_mix_") || has("time_maa_") || has(".x_") || has("att.k_k") || has("att.k_a") ||
         name.ends_with("att.w0") || name.ends_with("att.a0") || name.ends_with("att.v0") ||
         (arch == "v6" && name.ends_with("time_decay"));
}

RawTensor transposed(const RawTensor& from, const std::string& name) {
  RawTensor to = from;
  to.info.name = name;
  const uint64_t rows = from.info.shape[from.info.shape.size() - 2];
  const uint64_t cols = from.info.shape.back();
  std::swap(to.info.shape[to.info.shape.size() - 2], to.info.shape.back());
  const uint64_t width = traits(from.info.dtype).block_bytes;
  for (uint64_t i = 0; i < from.info.n_elements(); ++i) {
    const uint64_t matrix = i / (rows * cols);
    const uint64_t row = i % (rows * cols) / cols;
    const uint64_t col = i % cols;
    std::memcpy(&to.bytes[(matrix * rows * cols + col * rows + row) * width],
                &from.bytes[i * width], width);
  }
  return to;
}

// Element by element: `from_of(i)` is the element of the source that becomes element i.
RawTensor rearranged(const RawTensor& from, std::vector<uint64_t> shape,
                     const std::function<uint64_t(uint64_t)>& from_of) {
  RawTensor to = from;
  to.info.shape = std::move(shape);
  const uint64_t width = traits(from.info.dtype).block_bytes;
  for (uint64_t i = 0; i < from.info.n_elements(); ++i) {
    std::memcpy(&to.bytes[i * width], &from.bytes[from_of(i) * width], width);
  }
  return to;
}

RawTensor flat(RawTensor tensor, const std::string& name) {
  tensor.info.name = name;
  tensor.info.shape = {tensor.info.n_elements()};
  return tensor;
}

std::string replace(std::string text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  return at == std::string::npos ? text : text.replace(at, what.size(), with);
}

// "blocks.3.att.key.weight" -> {"3", "att.key.weight"}; {"", name} outside of blocks.
std::pair<std::string, std::string> split(const std::string& name) {
  constexpr size_t kPrefix = 7;
  if (!name.starts_with("blocks.")) {
    return {"", name};
  }
  const size_t dot = name.find('.', kPrefix);
  return {name.substr(kPrefix, dot - kPrefix), name.substr(dot + 1)};
}

const std::map<std::string, std::string> kFlaOutside = {{"emb.weight", "model.embeddings.weight"},
                                                        {"ln_out.weight", "model.norm.weight"},
                                                        {"ln_out.bias", "model.norm.bias"},
                                                        {"head.weight", "lm_head.weight"}};

std::string fla_norm(const std::string& rest) {
  std::string name = replace(rest, "ln0.", "pre_norm.");
  name = replace(name, "ln1.", "attn_norm.");
  name = replace(name, "ln2.", "ffn_norm.");
  return replace(name, "att.ln_x.", "attn.g_norm.");
}

// Puts vectors of a block, which `letters` name, into one tensor where the first of them stood.
RawTensors joined(const RawTensors& tensors, const std::string& stem, const std::string& letters,
                  const std::string& name) {
  RawTensors result;
  for (const RawTensor& tensor : tensors) {
    const auto [block, rest] = split(tensor.info.name);
    if (block.empty() || rest.size() != stem.size() + 1 || !rest.starts_with(stem) ||
        letters.find(rest.back()) == std::string::npos) {
      result.push_back(tensor);
      continue;
    }
    if (rest.back() != letters.front()) {
      continue;
    }
    RawTensor joint = tensor;
    joint.info.name = "blocks." + block + "." + name;
    joint.info.shape = {letters.size(), tensor.info.n_elements()};
    joint.bytes.clear();
    for (const char letter : letters) {
      const std::string wanted = "blocks." + block + "." + stem + letter;
      const auto part = std::find_if(tensors.begin(), tensors.end(), [&](const RawTensor& other) {
        return other.info.name == wanted;
      });
      REQUIRE(part != tensors.end());
      joint.bytes.insert(joint.bytes.end(), part->bytes.begin(), part->bytes.end());
    }
    result.push_back(std::move(joint));
  }
  return result;
}

RawTensor fla7_tensor(const RawTensor& tensor) {
  const auto [block, rest] = split(tensor.info.name);
  RawTensor to = tensor;
  if (block.empty()) {
    to.info.name = kFlaOutside.at(tensor.info.name);
    return to;
  }
  const std::string stem = "model.layers." + block + ".";
  const bool is_lora = rest.size() == 6 && rest.starts_with("att.") &&
                       std::string("wavg").find(rest[4]) != std::string::npos;
  if (is_lora && rest[5] != '0') {
    return transposed(tensor, stem + "attn." + rest[4] + "_lora.lora." +
                                  (rest[5] == '1' ? "0" : "2") + ".weight");
  }
  if (is_lora) {
    return flat(tensor, stem + "attn." + rest[4] + "_lora.lora.2.bias");
  }
  std::string name = fla_norm(rest);
  // The last one is for what the others leave.
  const std::pair<const char*, const char*> parts[] = {{"att.receptance.", "attn.r_proj."},
                                                       {"att.key.", "attn.k_proj."},
                                                       {"att.value.", "attn.v_proj."},
                                                       {"att.output.", "attn.o_proj."},
                                                       {"att.", "attn."}};
  for (const auto& [plain, theirs] : parts) {
    name = name.starts_with(plain) ? replace(name, plain, theirs) : name;
  }
  to.info.name = stem + name;
  const bool is_vector = name == "ffn.x_k" || name == "attn.k_k" || name == "attn.k_a";
  return is_vector ? flat(to, to.info.name) : to;
}

// BlinkDL orders the five parts w k v r g, this layout r w k v g.
uint64_t part_of_blinkdl(uint64_t part) {
  return std::string("wkvrg").find("rwkvg"[part]);
}

RawTensor fla6_tensor(const RawTensor& tensor) {
  const auto [block, rest] = split(tensor.info.name);
  RawTensor to = tensor;
  if (block.empty()) {
    to.info.name = kFlaOutside.at(tensor.info.name);
    return to;
  }
  const std::string stem = "model.layers." + block + ".";
  const std::vector<uint64_t>& shape = tensor.info.shape;
  if (rest == "att.time_maa_w1") {  // [D, 5 r] -> [5 r, D]
    const uint64_t width = shape[0];
    const uint64_t rank = shape[1] / 5;
    to = rearranged(tensor, {shape[1], width}, [&](uint64_t i) {
      const uint64_t row = i / width;
      return i % width * 5 * rank + part_of_blinkdl(row / rank) * rank + row % rank;
    });
    to.info.name = stem + "attn.x_proj.0.linear.weight";
    return to;
  }
  if (rest == "att.time_maa_w2") {  // [5, r, D] -> [D, 5 r]
    const uint64_t rank = shape[1];
    const uint64_t width = shape[2];
    to = rearranged(tensor, {width, 5 * rank}, [&](uint64_t i) {
      const uint64_t col = i % (5 * rank);
      return (part_of_blinkdl(col / rank) * rank + col % rank) * width + i / (5 * rank);
    });
    to.info.name = stem + "attn.x_proj.2.weight";
    return to;
  }
  const std::map<std::string, std::string> vectors = {
      {"att.time_maa_x", "attn.x_proj.0.mu"},
      {"att.time_decay", "attn.w_proj.linear.lora.2.bias"},
      {"ffn.time_maa_k", "ffn.key.mu"},
      {"ffn.time_maa_r", "ffn.receptance.mu"}};
  if (const auto found = vectors.find(rest); found != vectors.end()) {
    return flat(tensor, stem + found->second);
  }
  if (rest == "att.time_decay_w1" || rest == "att.time_decay_w2") {
    return transposed(
        tensor, stem + "attn.w_proj.linear.lora." + (rest.back() == '1' ? "0" : "2") + ".weight");
  }
  const std::map<std::string, std::string> others = {
      {"att.time_faaaa", "attn.bonus"},
      {"att.x_bias", "attn.x_bias"},
      {"att.receptance.weight", "attn.r_proj.linear.weight"},
      {"att.key.weight", "attn.k_proj.linear.weight"},
      {"att.value.weight", "attn.v_proj.linear.weight"},
      {"att.gate.weight", "attn.g_proj.linear.weight"},
      {"att.output.weight", "attn.o_proj.weight"},
      {"ffn.key.weight", "ffn.key.linear.weight"},
      {"ffn.receptance.weight", "ffn.receptance.linear.weight"}};
  const auto found = others.find(rest);
  to.info.name = stem + (found == others.end() ? fla_norm(rest) : found->second);
  return to;
}

}  // namespace

RawTensors raw_tensors(const TensorSource& source) {
  RawTensors all;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    RawTensor tensor{source.tensors()[i], {}};
    REQUIRE_OK(source.read(i, tensor.bytes));
    all.push_back(std::move(tensor));
  }
  return all;
}

RawTensors plain_model(const std::string& arch, const std::string& dtype, uint64_t n_embd) {
  const ScratchFolder scratch;
  press::SynthOptions options;
  options.model.arch = arch;
  options.model.n_layer = 2;
  options.model.n_embd = n_embd;
  options.model.n_vocab = 256;
  options.dtype = dtype;
  options.output = scratch.file("plain.pth");
  REQUIRE_OK(press::write_synthetic(options).status());
  const auto source = press::open_pth(options.output);
  REQUIRE_OK(source.status());
  RawTensors tensors = raw_tensors(*source.value());
  for (RawTensor& tensor : tensors) {
    if (is_row(tensor.info.name, arch)) {
      tensor.info.shape = {1, 1, tensor.info.n_elements()};
    }
  }
  return tensors;
}

RawTensors renamed(RawTensors tensors, const std::function<std::string(std::string)>& name) {
  for (RawTensor& tensor : tensors) {
    tensor.info.name = name(tensor.info.name);
  }
  return tensors;
}

RawTensors with_prefix(RawTensors tensors, const std::string& prefix) {
  return renamed(std::move(tensors), [&](const std::string& name) { return prefix + name; });
}

RawTensors to_hugging_face(const RawTensors& plain) {
  return renamed(plain, [](const std::string& name) -> std::string {
    if (name == "head.weight") {
      return name;
    }
    std::string theirs = replace(name, "emb.weight", "embeddings.weight");
    theirs = replace(theirs, ".ln0.", ".pre_ln.");
    theirs = replace(theirs, ".att.", ".attention.");
    theirs = replace(theirs, ".ffn.", ".feed_forward.");
    const std::map<char, std::string> words = {
        {'k', "key"}, {'v', "value"}, {'r', "receptance"}, {'g', "gate"}};
    if (theirs.find("time_mix_") != std::string::npos) {
      theirs = theirs.substr(0, theirs.size() - 1) + words.at(theirs.back());
    }
    return "rwkv." + theirs;
  });
}

RawTensors to_hugging_face7(const RawTensors& plain) {
  return renamed(plain, [](const std::string& name) {
    return name == "head.weight" ? std::string("lm_head.weight") : "model." + name;
  });
}

RawTensors to_fla7(const RawTensors& plain, Mixing mixing) {
  RawTensors tensors =
      mixing == Mixing::Joint ? joined(plain, "att.x_", "rwkvag", "att.x_x") : plain;
  for (RawTensor& tensor : tensors) {
    tensor = fla7_tensor(tensor);
  }
  return tensors;
}

RawTensors to_fla6(const RawTensors& plain) {
  RawTensors tensors = joined(plain, "att.time_maa_", "rwkvg", "att.x_bias");
  for (RawTensor& tensor : tensors) {
    tensor = fla6_tensor(tensor);
  }
  return tensors;
}

RawTensors to_web_rwkv(const RawTensors& plain, Small small) {
  RawTensors tensors = renamed(plain, [](const std::string& name) {
    return replace(replace(name, "time_faaaa", "time_first"), "time_maa", "time_mix");
  });
  for (RawTensor& tensor : tensors) {
    const std::string& name = tensor.info.name;
    const bool is_small = tensor.info.shape.size() >= 2 &&
                          name.find(".weight") == std::string::npos &&
                          (name.ends_with("1") || name.ends_with("2"));
    if (is_small && small == Small::Transposed) {
      tensor = transposed(tensor, name);
    }
  }
  return tensors;
}

void write_raw(const std::string& path, const RawTensors& tensors) {
  std::vector<TensorInfo> infos;
  for (const RawTensor& tensor : tensors) {
    infos.push_back(tensor.info);
  }
  const auto read = [&](size_t index, Bytes& out) {
    out = tensors[index].bytes;
    return Status();
  };
  const bool is_pth = path.ends_with(".pth") || path.ends_with(".bin");
  REQUIRE_OK(is_pth ? press::write_pth(path, OutputFile::Existing::Replace, infos, read)
                    : write_safetensors(path, OutputFile::Existing::Replace, infos, read));
}

void write_parts(const std::string& folder, const std::string& stem, const std::string& ending,
                 size_t n, const RawTensors& tensors, Index index) {
  nlohmann::json map = nlohmann::json::object();
  for (size_t part = 0; part < n; ++part) {
    const auto at = [&](size_t i) {
      return tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() * i / n);
    };
    const RawTensors some(at(part), at(part + 1));
    const std::string name = fmt::format("{}-{:05}-of-{:05}{}", stem, part + 1, n, ending);
    write_raw(folder + "/" + name, some);
    for (const RawTensor& tensor : some) {
      map[tensor.info.name] = name;
    }
  }
  if (index == Index::Yes) {
    write_text(folder + "/" + stem + ending + ".index.json",
               nlohmann::json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}.dump());
  }
}

}  // namespace rwkv::test
