// Every layout of other programs gives the tensors of the plain checkpoint: names, shapes, types
// and bytes. What is packed from them is then the same too.
#include <filesystem>
#include <map>

#include "compressor/checkpoint/open.h"
#include "tests/compressor/foreign_files.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

std::map<std::string, RawTensor> by_name(const RawTensors& tensors) {
  std::map<std::string, RawTensor> result;
  for (const RawTensor& tensor : tensors) {
    result.emplace(tensor.info.name, tensor);
  }
  return result;
}

// Opens `path` and compares it with the plain model; returns the notes as one text.
std::string check_equal(const std::string& path, const RawTensors& plain, bool same_order = true) {
  INFO(path);
  const auto opened = press::open_checkpoint(path);
  REQUIRE_OK(opened.status());
  const TensorSource& source = *opened.value().source;
  const auto model = press::identify_checkpoint(source);
  REQUIRE_OK(model.status());
  CHECK(model.value().config.group_norm_eps == 64e-5f);
  const RawTensors found = raw_tensors(source);
  REQUIRE(found.size() == plain.size());
  const auto expected = by_name(plain);
  for (size_t i = 0; i < found.size(); ++i) {
    INFO(found[i].info.name);
    const auto same = expected.find(found[i].info.name);
    REQUIRE(same != expected.end());
    CHECK(found[i].info.shape == same->second.info.shape);
    CHECK(found[i].info.dtype == same->second.info.dtype);
    CHECK(found[i].bytes == same->second.bytes);
    CHECK((!same_order || found[i].info.name == plain[i].info.name));
    // Slices are those of the whole, from any byte on.
    std::vector<std::byte> slice(found[i].bytes.size() / 2);
    REQUIRE_OK(source.read_range(i, 3, std::span(slice).first(slice.size() - 3)));
    CHECK(std::equal(slice.begin(), slice.end() - 3, found[i].bytes.begin() + 3));
  }
  std::string notes;
  for (const std::string& note : opened.value().notes) {
    CHECK(note.find('\n') == std::string::npos);
    notes += note + "\n";
  }
  return notes;
}

std::string refusal(const std::string& path) {
  const auto opened = press::open_checkpoint(path);
  const Status status =
      opened.ok() ? press::identify_checkpoint(*opened.value().source).status() : opened.status();
  REQUIRE_FALSE(status.ok());
  CHECK(status.code() == Code::BadInput);
  CHECK(status.message().find('\n') == std::string::npos);
  return status.message();
}

void make_folder(const std::string& path) {
  fs::create_directories(path);
}

}  // namespace

TEST_CASE("Names of Hugging Face are read as BlinkDL's, in one file and in parts", "[names]") {
  for (const char* arch : {"v4", "v5.0", "v5.1", "v5.2", "v6"}) {
    for (const char* dtype : {"bf16", "f16"}) {
      const ScratchFolder scratch;
      const RawTensors plain = plain_model(arch, dtype);
      const RawTensors theirs = to_hugging_face(plain);
      const std::string whole = scratch.file("model.safetensors");
      write_raw(whole, theirs);
      CHECK_THAT(check_equal(whole, plain), Contains("names of Hugging Face RWKV-"));
      write_raw(scratch.file("pytorch_model.bin"), theirs);
      check_equal(scratch.file("pytorch_model.bin"), plain);
      for (const char* ending : {".safetensors", ".bin"}) {
        const std::string folder = scratch.file(fmt::format("parts{}", ending));
        make_folder(folder);
        const std::string stem = ending == std::string(".bin") ? "pytorch_model" : "model";
        write_parts(folder, stem, ending, 3, theirs);
        CHECK_THAT(check_equal(folder, plain), Contains("a folder: took " + stem));
        check_equal(folder + "/", plain);
        check_equal(folder + "/" + stem + ending + ".index.json", plain);
        CHECK_THAT(check_equal(folder + "/" + stem + "-00002-of-00003" + ending, plain),
                   Contains("one of 3 parts"));
      }
    }
  }
}

TEST_CASE("Names of flash-linear-attention are read as BlinkDL's", "[names]") {
  for (const char* dtype : {"bf16", "f32"}) {
    const ScratchFolder scratch;
    const RawTensors v7 = plain_model("v7", dtype);
    for (const Mixing mixing : {Mixing::Separate, Mixing::Joint}) {
      const RawTensors theirs = to_fla7(v7, mixing);
      const bool same_order = mixing == Mixing::Separate;
      write_raw(scratch.file("a.safetensors"), theirs);
      CHECK_THAT(check_equal(scratch.file("a.safetensors"), v7, same_order),
                 Contains("flash-linear-attention RWKV-7"));
      // Without the prefix: the body alone was saved, its head next to it.
      write_raw(scratch.file("b.pth"), renamed(theirs, [](const std::string& name) {
                  return name.starts_with("model.") ? name.substr(6) : name;
                }));
      check_equal(scratch.file("b.pth"), v7, same_order);
      const std::string folder = scratch.file(same_order ? "separate" : "joint");
      make_folder(folder);
      write_parts(folder, "model", ".safetensors", 2, theirs, Index::No);
      check_equal(folder, v7, same_order);
    }
    const RawTensors v6 = plain_model("v6", dtype);
    write_raw(scratch.file("c.safetensors"), to_fla6(v6));
    CHECK_THAT(check_equal(scratch.file("c.safetensors"), v6, false),
               Contains("flash-linear-attention RWKV-6"));
    write_raw(scratch.file("d.safetensors"), to_hugging_face7(v7));
    CHECK_THAT(check_equal(scratch.file("d.safetensors"), v7), Contains("Hugging Face RWKV-7"));
  }
}

TEST_CASE("Square small matrices of flash-linear-attention are turned too", "[names]") {
  const ScratchFolder scratch;
  const RawTensors v7 = plain_model("v7", "bf16", 64);  // its decay and rate are 64 x 64
  write_raw(scratch.file("a.safetensors"), to_fla7(v7, Mixing::Separate));
  check_equal(scratch.file("a.safetensors"), v7);
}

TEST_CASE("Small matrices of web-rwkv may lie in either way", "[names]") {
  for (const char* arch : {"v4", "v5.2", "v6", "v7"}) {
    for (const Small small : {Small::Transposed, Small::Plain}) {
      const ScratchFolder scratch;
      const RawTensors plain = plain_model(arch, "f16");
      write_raw(scratch.file("a.st"), to_web_rwkv(plain, small));
      const std::string notes = check_equal(scratch.file("a.st"), plain);
      const bool has_small = std::string(arch) > "v5.2";
      CHECK((notes.find("small matrices lie transposed") != std::string::npos) ==
            (has_small && small == Small::Transposed));
      if (arch == std::string("v5.2")) {
        CHECK_THAT(notes, Contains("read as time_faaaa"));
      }
    }
  }
}

TEST_CASE("Small matrices that cannot be told are refused", "[names]") {
  const ScratchFolder scratch;
  RawTensors plain = plain_model("v7", "f16");
  // One the other way than the rest.
  RawTensors mixed = to_web_rwkv(plain, Small::Plain);
  const RawTensors turned = to_web_rwkv(plain, Small::Transposed);
  for (size_t i = 0; i < mixed.size(); ++i) {
    mixed[i] = mixed[i].info.name == "blocks.1.att.a1" ? turned[i] : mixed[i];
  }
  write_raw(scratch.file("mixed.st"), mixed);
  CHECK_THAT(refusal(scratch.file("mixed.st")), Contains("'blocks.1.att.a1'"));
  // All square: cut to n_embd x n_embd.
  for (RawTensor& tensor : plain) {
    const std::string& name = tensor.info.name;
    const bool is_small =
        name.find(".att.") != std::string::npos && (name.ends_with("1") || name.ends_with("2"));
    if (is_small) {
      tensor.info.shape = {192, 192};
      tensor.bytes.resize(tensor.info.n_bytes());
    }
  }
  write_raw(scratch.file("square.st"), plain);
  CHECK_THAT(refusal(scratch.file("square.st")), Contains("square"));
  write_raw(scratch.file("square.pth"), plain);
  check_equal(scratch.file("square.pth"), plain);
}

TEST_CASE("A prefix that all names have is dropped", "[names]") {
  const ScratchFolder scratch;
  for (const char* arch : {"v5.2", "v7"}) {
    const RawTensors plain = plain_model(arch, "bf16");
    for (const char* prefix : {"module.", "model.", "_forward_module.", "_orig_mod.", "rwkv.",
                               "module.model.", "_forward_module.module.rwkv.", "net.student."}) {
      write_raw(scratch.file("a.pth"), with_prefix(plain, prefix));
      check_equal(scratch.file("a.pth"), plain);
    }
    write_raw(scratch.file("b.pth"), renamed(plain, [](const std::string& name) {
                return name.starts_with("blocks.")
                           ? name.substr(0, 9) + "_orig_mod." + name.substr(9)
                           : name;
              }));
    CHECK_THAT(check_equal(scratch.file("b.pth"), plain), Contains("_orig_mod"));
  }
  const RawTensors v4 = plain_model("v4", "bf16");
  write_raw(scratch.file("c.pth"), with_prefix(to_hugging_face(v4), "module."));
  CHECK_THAT(check_equal(scratch.file("c.pth"), v4), Contains("'module.': dropped"));
}

TEST_CASE("config.json is checked and says what tensors do not show", "[names]") {
  const ScratchFolder scratch;
  const RawTensors v7 = plain_model("v7", "bf16");
  RawTensors tied = to_fla7(v7, Mixing::Separate);
  tied.pop_back();  // the head
  write_raw(scratch.file("model.safetensors"), tied);
  CHECK_THAT(refusal(scratch.path().string()), Contains("'head.weight' is missing"));
  const auto config = [&](const std::string& more, const std::string& head_dim = "64",
                          const std::string& epsilon = "1e-05") {
    write_text(scratch.file("config.json"),
               R"({"model_type": "rwkv7", "hidden_size": 192, "num_hidden_layers": 2, )"
               R"("vocab_size": 256, "attn": null, "head_dim": )" +
                   head_dim + ", \"norm_eps\": " + epsilon + more + "}");
  };
  config(R"(, "tie_word_embeddings": true)");
  RawTensors expected = v7;
  expected.back().bytes = expected.front().bytes;
  REQUIRE(expected.front().info.name == "emb.weight");
  REQUIRE(expected.back().info.name == "head.weight");
  CHECK_THAT(check_equal(scratch.path().string(), expected), Contains("tie_word_embeddings"));
  config(R"(, "tie_word_embeddings": true, "intermediate_size": 4096)");
  CHECK_THAT(refusal(scratch.path().string()),
             Contains("intermediate_size is 4096, but the tensors have 768"));
  config("", "-3");
  CHECK_THAT(refusal(scratch.path().string()), Contains("config.json"));
  config("", "64", "1e-06");
  CHECK_THAT(refusal(scratch.path().string()), Contains("epsilon"));
  config(R"(, "attn": null)");
  CHECK_THAT(refusal(scratch.path().string()), Contains("config.json") && Contains("twice"));
  write_text(scratch.file("config.json"), std::string(100'000, '['));
  CHECK_THAT(refusal(scratch.path().string()), Contains("more than 32 levels"));
  write_text(scratch.file("config.json"), "{\"hidden_size\": 1");
  CHECK_THAT(refusal(scratch.path().string()), Contains("not valid JSON"));
}

TEST_CASE("The epsilon of the group norm follows the file", "[names]") {
  const ScratchFolder scratch;
  const auto eps_of = [](const std::string& path) {
    const auto opened = press::open_checkpoint(path);
    REQUIRE_OK(opened.status());
    const auto model = press::identify_checkpoint(*opened.value().source);
    REQUIRE_OK(model.status());
    return model.value().config.group_norm_eps;
  };
  // Heads of 32: 64e-5 as training has it, head_size * 1e-5 where a config.json of v7 says so.
  RawTensors v5 = plain_model("v5.2", "bf16");
  RawTensors v7 = plain_model("v7", "bf16");
  for (RawTensors* tensors : {&v5, &v7}) {
    for (RawTensor& tensor : *tensors) {
      if (tensor.info.shape == std::vector<uint64_t>{3, 64}) {
        tensor.info.shape = {6, 32};
      }
    }
  }
  write_raw(scratch.file("v5.pth"), v5);
  CHECK(eps_of(scratch.file("v5.pth")) == 64e-5f);
  write_raw(scratch.file("v7.safetensors"), to_fla7(v7, Mixing::Separate));
  CHECK(eps_of(scratch.file("v7.safetensors")) == 64e-5f);
  write_text(scratch.file("config.json"), R"({"model_type": "rwkv7", "head_dim": 32})");
  CHECK(eps_of(scratch.file("v7.safetensors")) == 32e-5f);
  write_raw(scratch.file("v5.safetensors"), to_hugging_face(v5));
  write_text(scratch.file("config.json"),
             R"({"model_type": "rwkv5", "head_size": 32, "head_size_divisor": 4})");
  CHECK(eps_of(scratch.file("v5.safetensors")) == 16e-5f);
}

TEST_CASE("Parts that do not belong together are refused by name", "[names]") {
  const ScratchFolder scratch;
  const RawTensors plain = plain_model("v7", "bf16");
  write_parts(scratch.path().string(), "model", ".safetensors", 3, plain, Index::No);
  fs::remove(scratch.file("model-00002-of-00003.safetensors"));
  const std::string first = scratch.file("model-00001-of-00003.safetensors");
  CHECK_THAT(refusal(first),
             Contains("is part 1 of 3; expected 'model-00002-of-00003.safetensors'"));
  write_parts(scratch.path().string(), "model", ".safetensors", 3, plain);
  fs::remove(scratch.file("model-00003-of-00003.safetensors"));
  CHECK_THAT(refusal(first), Contains("expected 'model-00003-of-00003.safetensors' next to it"));
  CHECK_THAT(refusal(scratch.path().string()), Contains("found no such file"));
  // A part of another checkpoint under the right name.
  write_raw(scratch.file("model-00003-of-00003.safetensors"), {plain.front()});
  CHECK_THAT(refusal(first), Contains("'emb.weight' is in"));
  const auto index = [&](const std::string& text) {
    write_text(scratch.file("model.safetensors.index.json"), text);
    return refusal(scratch.file("model.safetensors.index.json"));
  };
  CHECK_THAT(index(R"({"weight_map": {"emb.weight": "../secret.safetensors"}})"),
             Contains("a file in the same folder"));
  CHECK_THAT(index(R"({"weight_map": {"emb.weight": 3}})"), Contains("the name of a file"));
  CHECK_THAT(index(R"({"weight_map": {}})"), Contains("expected an index with a weight_map"));
  CHECK_THAT(index("{}"), Contains("weight_map"));
  CHECK_THAT(index(R"({"weight_map": {"x": "model-00001-of-00003.safetensors"}})"),
             Contains("does not list"));
}
