// What is not a checkpoint of RWKV: every message in one line, with the file, what was found, what
// was expected and what to do. And objects of training programs, which are read past.
#include <filesystem>

#include "compressor/checkpoint/open.h"
#include "tests/compressor/foreign_files.h"
#include "tests/compressor/pickle_builder.h"
#include "tests/support/catch.h"
#include "tests/support/way_out.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

std::string refusal(const std::string& path) {
  const auto opened = press::open_checkpoint(path);
  const Status status =
      opened.ok() ? press::identify_checkpoint(*opened.value().source).status() : opened.status();
  REQUIRE_FALSE(status.ok());
  CHECK(status.code() == Code::BadInput);
  CHECK(status.message().find('\n') == std::string::npos);
  CHECK_THAT(status.message(), Contains(path));
  CHECK_THAT(status.message(), Contains("expected"));
  INFO(status.message());
  CHECK(says_what_to_do(status.message()));
  return status.message();
}

RawTensor tensor(const std::string& name, std::vector<uint64_t> shape) {
  RawTensor result{{name, DType::F32, std::move(shape)}, {}};
  result.bytes.resize(result.info.n_bytes());
  return result;
}

RawTensors plus(RawTensors tensors, std::initializer_list<RawTensor> more) {
  tensors.insert(tensors.end(), more);
  return tensors;
}

RawTensors without(RawTensors tensors, const std::string& part) {
  std::erase_if(tensors, [&](const RawTensor& tensor) {
    return tensor.info.name.find(part) != std::string::npos;
  });
  return tensors;
}

// As the rwkv package writes them: no ln0, matrices [in, out].
RawTensors of_rwkv_package() {
  RawTensors tensors = without(plain_model("v4", "f16"), ".ln0.");
  for (RawTensor& one : tensors) {
    if (one.info.shape.size() == 2 && one.info.name != "emb.weight") {
      std::swap(one.info.shape[0], one.info.shape[1]);
    }
  }
  return tensors;
}

}  // namespace

TEST_CASE("Files that are no checkpoint are named for what they are", "[wrong]") {
  struct Case {
    const char* name;
    std::string content;
    const char* found;
    const char* advice;
  };
  const Case cases[] = {
      {"lfs.pth", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 382069392\n",
       "Git LFS", "git lfs pull"},
      {"page.pth", "\xef\xbb\xbf\r\n<!DOCTYPE html><html>", "a web page",
       "download the file itself"},
      {"page.st", "<html lang='en'>", "a web page", "/resolve/"},
      {"error.safetensors", "<?xml version=\"1.0\"?><Error/>", "an XML text", "download"},
      {"tokenizer.pth", "{\"version\": \"1.0\"}", "a JSON text", "name the checkpoint"},
      {"list.pth", "[1, 2]", "a JSON text", "name the checkpoint"},
      {"entry.pth", "Entry not found", "a text that begins with 'entry not found'", "name"},
      {"empty.pth", "", "an empty file", "name the checkpoint"},
      {"bytes.pth", std::string("\x01\x02\x03\xff\x05", 5), "begins with 01 02 03 ff",
       "name the checkpoint"},
      {"short.pth", std::string("\x01", 1), "begins with 01 00 00 00", "name the checkpoint"},
      {"vocab.pth", "1 '\\x00' 1\n2 '\\x01' 1\n", "a vocabulary", "convert --vocab"},
      {"model.pth.gz", "\x1f\x8b\x08 rest", "packed with gzip", "gunzip"},
      {"model.tar.xz",
       "\xfd"
       "7zXZ rest",
       "packed with xz", "unxz"},
      {"model.zst", "\x28\xb5\x2f\xfd rest", "packed with zstd", "unzstd"},
      {"model.7z", "7z\xbc\xaf\x27\x1c rest", "a 7z archive", "unpack it"},
      {"model.npy", "\x93NUMPY", "a NumPy array", "name the checkpoint"},
      {"model.tar", std::string(257, 'a') + "ustar", "a tar archive", "unpack it first"},
  };
  const ScratchFolder scratch;
  for (const Case& one : cases) {
    INFO(one.name);
    write_text(scratch.file(one.name), one.content);
    const std::string message = refusal(scratch.file(one.name));
    CHECK_THAT(message, Contains(one.found));
    CHECK_THAT(message, Contains(one.advice));
  }
}

TEST_CASE("Files that were cut are called so", "[wrong]") {
  const ScratchFolder scratch;
  const RawTensors plain = plain_model("v7", "bf16");
  for (const char* ending : {".pth", ".safetensors"}) {
    const std::string whole = scratch.file(std::string("whole") + ending);
    write_raw(whole, plain);
    const std::vector<std::byte> bytes = read_bytes(whole);
    for (const double share : {0.01, 0.5, 0.999}) {
      const std::string cut = scratch.file(std::string("cut") + ending);
      write_bytes(cut, std::span(bytes).first(
                           static_cast<size_t>(share * static_cast<double>(bytes.size()))));
      const auto opened = press::open_checkpoint(cut);
      REQUIRE_FALSE(opened.ok());
      CHECK_THAT(opened.status().message(), Contains("cut, fetch it again"));
    }
  }
}

TEST_CASE("Checkpoints of something else are named for what they are", "[wrong]") {
  struct Case {
    RawTensors tensors;
    const char* found;
    const char* advice;
  };
  const RawTensors v7 = plain_model("v7", "f16");
  const RawTensor lora_a = tensor("blocks.0.att.key.lora_A", {8, 192});
  const RawTensor lora_b = tensor("blocks.0.att.key.lora_B", {192, 8});
  const Case cases[] = {
      {{lora_a, lora_b}, "holds an adapter (LoRA) without the model", "--merge"},
      {{tensor("model.blocks.0.att.key.init_lora_A", {8, 192})}, "holds an adapter", "--merge"},
      {{tensor("blocks.0.ffn.key.disha", {8, 192})}, "holds an adapter (DiSHA)", "--merge"},
      {plus(v7, {lora_a, lora_b}), "that is not merged into it", "--alpha"},
      {plus(v7, {tensor("blocks.0.qkv.qq.weight", {256, 192})}), "this is v7b (DeepEmbed with DEA",
       "v4 to v7"},
      {plus(v7, {tensor("blocks.0.ffn.enn.weight", {256, 192})}), "this is RWKV-8 (DeepEmbed",
       "v4 to v7"},
      {plus(v7, {tensor("blocks.0.rosa.q.weight", {192, 192})}), "this is RWKV-8 (ROSA",
       "v4 to v7"},
      {{tensor("model.layers.0.self_attn.time_mixer.x_r", {1, 1, 8}),
        tensor("model.layers.0.mlp.gate_proj.weight", {8, 8})},
       "ARWKV, QRWKV",
       "llama.cpp"},
      {{tensor("model.layers.0.self_attn.time_maa_x", {1, 1, 8}),
        tensor("model.layers.0.mlp.gate_proj.weight", {8, 8})},
       "ARWKV, QRWKV",
       "llama.cpp"},
      {{tensor("model.layers.0.self_attn.q_proj.weight", {8, 8}),
        tensor("model.layers.0.mlp.gate_proj.weight", {8, 8})},
       "holds a Transformer",
       "llama.cpp"},
      {{tensor("model.layers.0.attn.q_proj.weight", {8, 8})}, "flash-linear-attention", "RWKV-7"},
      {of_rwkv_package(), "converted by the rwkv package", "take the original .pth"},
  };
  const ScratchFolder scratch;
  for (const Case& one : cases) {
    INFO(one.found);
    write_raw(scratch.file("a.pth"), one.tensors);
    const std::string message = refusal(scratch.file("a.pth"));
    CHECK_THAT(message, Contains(one.found));
    CHECK_THAT(message, Contains(one.advice));
  }
  // Nothing is known but that something is missing: as when a script cut the file, or merged models
  // of different depth.
  RawTensors deeper = v7;
  RawTensor more = v7.front();
  more.info.name = "blocks.9.att.key.weight";
  deeper.push_back(more);
  const std::pair<RawTensors, const char*> incomplete[] = {
      {without(v7, ".ln0."), "'blocks.0.ln0.weight' is missing, expected in v7"},
      {deeper, "is missing, expected in v7 with 10 blocks; take the original checkpoint"},
      {without(v7, "head."), "'head.weight' is missing"},
      {plus(v7, {tensor("extra.weight", {4})}), "'extra.weight' (4) has no place in v7"},
  };
  for (const auto& [tensors, message] : incomplete) {
    write_raw(scratch.file("a.pth"), tensors);
    CHECK_THAT(refusal(scratch.file("a.pth")), Contains(message));
  }
}

TEST_CASE("Folders without one checkpoint say what is in them", "[wrong]") {
  namespace fs = std::filesystem;
  struct Case {
    const char* name;
    std::vector<const char*> files;
    const char* message;
  };
  const Case cases[] = {
      {"nothing", {}, "found nothing"},
      {"texts", {"README.md", "config.json"}, "found README.md, config.json"},
      {"adapter", {"adapter_model.safetensors", "adapter_config.json"}, "--merge"},
      {"zero", {"zero_pp_rank_0_mp_rank_00_model_states.pt", "latest"}, "zero_to_fp32.py"},
      {"two", {"a.pth", "b.safetensors"}, "holds 2 checkpoints (a.pth, b.safetensors)"},
  };
  const ScratchFolder scratch;
  for (const Case& one : cases) {
    const std::string folder = scratch.file(one.name);
    fs::create_directory(folder);
    for (const char* file : one.files) {
      write_text(folder + "/" + file, "x");
    }
    CHECK_THAT(refusal(folder), Contains(one.message));
  }
}

TEST_CASE("Objects of training programs are read past, and never called", "[wrong]") {
  const ScratchFolder scratch;
  const auto opened = [&](const std::string& pickle) {
    const std::string storage = counting_floats(6);
    write_text(scratch.file("a.ckpt"), make_zip(checkpoint_entries(pickle, {storage})));
    return press::open_checkpoint(scratch.file("a.ckpt"));
  };
  const test::TensorSpec spec = {"model.emb.weight", "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}};
  PickleBuilder pickle;
  pickle.op('}').op('(');
  // A namespace made by NEWOBJ and filled by BUILD, a size, a type, a device, a dict of Lightning.
  pickle.str("hyper_parameters").global("argparse", "Namespace").op(')').op('\x81');
  pickle.op('}').op('(').str("n_layer").integer(2).op('u').op('b');
  pickle.str("shape").global("torch", "Size").op('(').tuple({2, 3}).op('t').op('R');
  pickle.str("dtype").global("torch", "bfloat16");
  pickle.str("device").global("torch", "device").op('(').str("cpu").op('t').op('R');
  pickle.str("hparams")
      .global("lightning_fabric.utilities.data", "AttributeDict")
      .op(')')
      .op('\x81');
  pickle.op('(').str("lr").integer(1).op('u');
  pickle.str("state_dict").op('}').op('(').str(spec.name);
  add_tensor(pickle, spec);
  pickle.op('u').op('u');
  const auto good = opened(pickle.stop());
  REQUIRE_OK(good.status());
  REQUIRE(good.value().source->tensors().size() == 1);
  CHECK(good.value().source->tensors()[0].name == "emb.weight");
  // An inert object is no dict of tensors, and an unknown class is refused by name.
  PickleBuilder module;
  module.global("src.model", "GPT").op(')').op('\x81');
  CHECK_THAT(opened(module.stop()).status().message(),
             Contains("'src.model.GPT': expected tensors alone") &&
                 Contains("torch.save(model.state_dict(), FILE)"));
  PickleBuilder inert;
  inert.global("argparse", "Namespace").op(')').op('\x81');
  CHECK_THAT(opened(inert.stop()).status().message(), Contains("found a object"));
  PickleBuilder size;
  size.global("torch", "Size").op(')').op('R');
  CHECK_THAT(opened(size.stop()).status().message(), Contains("torch.Size"));
}

TEST_CASE("Placeholders of ZeRO-3 say where the weights are", "[wrong]") {
  const ScratchFolder scratch;
  const test::TensorSpec spec = {"emb.weight", "FloatStorage", "0", 0, 0, {0}, {1}};
  write_text(scratch.file("a.pth"), make_zip(checkpoint_entries(dict_pickle({spec}), {""})));
  const auto opened = press::open_checkpoint(scratch.file("a.pth"));
  REQUIRE_FALSE(opened.ok());
  CHECK_THAT(opened.status().message(), Contains("the weights are in other files; gather them"));
}
