// Writes the seed corpora: for each fuzz target a few small inputs that get past the first checks.
// Built by the target make_fuzz_seeds, run by hand when a format changes; the seeds are checked in.
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/safetensors_writer.h"
#include "runtime/model/state_file.h"
#include "runtime/text/conversation.h"
#include "tests/compressor/pickle_builder.h"
#include "tests/formats/tensor_lists.h"
#include "tests/fuzz/seed_models.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace rwkv {
namespace {

using test::le;

void check(const Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(static_cast<int>(status.code()));
  }
}

std::string seed_path(const std::string& target, const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(RWKV_FUZZ_CORPUS) / target;
  std::filesystem::create_directories(folder);
  return (folder / name).string();
}

void seed(const std::string& target, const std::string& name, const std::string& bytes) {
  test::write_text(seed_path(target, name), bytes);
}

// A file of these tensors; of each, the bytes in `contents`, else only ones.
std::string safetensors(const std::vector<TensorInfo>& tensors,
                        const std::map<std::string, std::string>& contents = {}) {
  const test::ScratchFolder folder;
  const std::string path = folder.file("seed");
  check(write_safetensors(path, OutputFile::Existing::Refuse, tensors, [&](size_t i, auto& out) {
    out.assign(tensors[i].n_bytes(), std::byte{1});
    if (const auto found = contents.find(tensors[i].name); found != contents.end()) {
      std::memcpy(out.data(), found->second.data(), found->second.size());
    }
    return Status();
  }));
  const auto bytes = test::read_bytes(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void seed_gguf() {
  test::TinyModelOptions options;
  options.version = Version::V4;
  options.n_layer = 1;
  options.n_embd = 3;
  options.n_head = 1;
  options.dim_ffn = 4;
  options.n_vocab = 5;
  options.vocabulary = test::TinyVocabulary::None;
  options.codec = Codec::I8Row;
  const test::ScratchFolder folder;
  const auto packed = test::read_bytes(test::write_tiny_model(folder, options));
  test::write_bytes(seed_path("gguf_reader", "packed"), packed);
  options = {.version = Version::V4, .codec = Codec::U6, .vocabulary = test::TinyVocabulary::None};
  options.n_layer = options.n_head = 1;
  options.n_embd = options.dim_ffn = options.n_vocab = 64;
  options.narrow = {Codec::Lut3};
  options.may_leave_out = true;
  const auto widths = test::read_bytes(test::write_tiny_model(folder, options, "widths.gguf"));
  test::write_bytes(seed_path("gguf_reader", "several_widths"), widths);

  // A value of each kind, a vocabulary under llama.cpp's keys, tensors of several types.
  GgufMetadata metadata;
  metadata.set("general.architecture", GgufValue::string("rwkv7"));
  metadata.set("general.alignment", GgufValue::u32(8));
  metadata.set("u8", {GgufType::U8, {}, uint64_t{200}});
  metadata.set("i64", {GgufType::I64, {}, int64_t{-5}});
  metadata.set("f64", {GgufType::F64, {}, 0.5});
  metadata.set("flag", GgufValue::boolean(true));
  metadata.set("i16s", {GgufType::Array, GgufType::I16, std::vector<int64_t>{-1, 2}});
  metadata.set("f32s", {GgufType::Array, GgufType::F32, std::vector<double>{0.5, 2}});
  metadata.set("tokenizer.ggml.model", GgufValue::string("rwkv"));
  metadata.set("tokenizer.ggml.tokens", GgufValue::strings({"", "A", " ", "te", "\\x78t"}));
  const std::string path = seed_path("gguf_reader", "kinds");
  auto writer = GgufWriter::create(path, OutputFile::Existing::Replace, metadata,
                                   {{"half", GgmlType::F16, {3, 2}, 12},
                                    {"blocks", GgmlType::Q5_1, {32}, 24},
                                    {"q4_k", GgmlType::Q4_K, {256}, 144},
                                    {"q6_k", GgmlType::Q6_K, {256}, 210},
                                    {"iq4_xs", GgmlType::IQ4_XS, {256}, 136},
                                    {"bytes", GgmlType::I8, {5}, 5}});
  check(writer.status());
  check(writer.value()->append(std::vector<std::byte>(531, std::byte{0x3c})));
  check(writer.value()->finish());
}

// The first ten bytes choose version, options and sizes (identify.cpp); the others are edits.
void seed_identify() {
  const auto bytes = [](std::initializer_list<int> values) {
    return std::string(values.begin(), values.end());
  };
  for (int version = 0; version < 6; ++version) {
    seed("identify", fmt::format("v{}", version),
         bytes({version, version % 2 * 6, 1, 30, 11, 20, 1, 5, 2, 3}));
  }
  seed("identify", "packed", bytes({5, 1, 2, 30, 11, 20, 0, 11, 2, 3}));
  seed("identify", "x059", bytes({3, 24, 1, 30, 11, 20, 1, 5, 2, 3}));
  // A vector as [1, D], a wrong dimension, a tensor that has no place.
  seed("identify", "edits", bytes({4,  0, 1, 30, 11, 20, 1, 5, 2,   3,   2,   3,   0, 5,
                                   10, 0, 0, 9,  6,  0,  0, 4, 'h', 'e', 'a', 'd', 7, 250}));
}

void seed_codec_decode() {
  std::string floats;
  for (const float value : {0.5f, -1.25f, 3e-5f, 1e20f, 0.0f, 7.0f}) {
    floats += le(value);
  }
  const auto n_codecs = static_cast<char>(codec_list().size());
  for (char codec = 0; codec < n_codecs; ++codec) {
    seed("codec_decode", fmt::format("{}", int{codec}), std::string{codec, 3, 4, codec} + floats);
  }
}

void seed_rwkv_cpp() {
  const auto tensor = [](const std::string& key, std::vector<int32_t> dims, int32_t type,
                         const std::string& data) {
    std::string out =
        le(static_cast<int32_t>(dims.size())) + le(static_cast<int32_t>(key.size())) + le(type);
    for (const int32_t dim : dims) {
      out += le(dim);
    }
    return out + key + data;
  };
  const auto header = [](int32_t n_embd, int32_t type) {
    return le<int32_t>(0x67676d66) + le<int32_t>(101) + le<int32_t>(2) + le(n_embd) +
           le<int32_t>(1) + le(type);
  };
  // The tensors that a file must have, and some whose numbers the reader turns back.
  seed("rwkv_cpp_reader", "plain",
       header(4, 0) + tensor("emb.weight", {4, 2}, 0, test::counting_floats(8)) +
           tensor("blocks.0.ln1.weight", {4}, 0, test::counting_floats(4)) +
           tensor("blocks.0.att.time_decay", {4}, 0, test::counting_floats(4, -8)) +
           tensor("blocks.0.att.time_mix_k", {4}, 1, std::string(8, '<')) +
           tensor("ln_out.weight", {4}, 0, test::counting_floats(4)) +
           tensor("head.weight", {4, 2}, 0, test::counting_floats(8)));
  const std::string vector = test::counting_floats(32);
  seed("rwkv_cpp_reader", "quantised",
       header(32, 7) + tensor("emb.weight", {32, 2}, 1, std::string(128, '<')) +
           tensor("blocks.0.ln1.weight", {32}, 0, vector) +
           tensor("ln_out.weight", {32}, 0, vector) +
           tensor("head.weight", {32, 2}, 7, std::string(44, '5')));
}

void seed_safetensors() {
  seed("safetensors_reader", "written",
       safetensors({{"emb.weight", DType::BF16, {3, 2}},
                    {"scalar", DType::F64, {}},
                    {"flags", DType::Bool, {5}}}));
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[2,10]},)"
      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  seed("safetensors_reader", "by_hand",
       le<uint64_t>(header.size()) + header + std::string(10, '\1'));
}

void seed_state_files() {
  const edge::State state(test::state_model(), test::kStateModelId);
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f};
  check(edge::save_state_file(seed_path("state_file", "saved"), OutputFile::Existing::Replace,
                              state, logits, "said"));
  std::vector<std::byte> bytes(state.saved_bytes());
  check(state.save(bytes));
  test::write_bytes(seed_path("state_file", "bytes"), bytes);
  seed("state_file", "tuned", safetensors({{"blocks.0.att.time_state", DType::BF16, {2, 2, 2}}}));
}

void seed_tokenizers() {
  const std::string text = "A text \xc3\xa9\xe2\x82\xac aabab  <|x|> don't 12\n\n\tend";
  for (char options = 0; options < 8; ++options) {
    seed("tokenizer_round_trip", fmt::format("{}", int{options}), options + text);
  }
  seed("vocabulary_parse", "world",
       "1 '\\x00' 1\n2 'a' 1\n3 \"'\" 1\n4 'ab' 2\n5 b'\\xe2\\x82' 2\n6 '\\u20ac' 3\n");
  seed("vocabulary_parse", "ids", R"({"1":"a","2":[226,130],"3":"ab"})");
  seed("vocabulary_parse", "words",
       R"({"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"WhitespaceSplit"},)"
       R"("model":{"type":"WordLevel","unk_token":"a","vocab":{"a":0,"b":1}}})");
  seed("vocabulary_parse", "splits",
       R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)"
       R"-({"Regex":"(?i:'s)|[^\\s\\p{L}]?\\p{L}+|\\s+(?!\\S)"},"behavior":"Isolated",)-"
       R"("invert":false},{"type":"ByteLevel","add_prefix_space":true,"use_regex":false}]},)"
       R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"\u0120":3},"merges":["a b"]}})");
  seed("vocabulary_parse", "json",
       R"({"added_tokens":[{"id":4,"content":"<|x|>","special":true}],)"
       R"("normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel",)"
       R"("add_prefix_space":false,"use_regex":true},"model":{"type":"BPE",)"
       R"("vocab":{"a":0,"b":1,"ab":2,"\u0120":3},"merges":["a b"]}})");
}

// The first byte chooses between a file and a bare pickle.
void seed_pth() {
  using test::TensorSpec;
  const TensorSpec plain = {"w", "BFloat16Storage", "0", 6, 0, {2, 3}, {3, 1}};
  const TensorSpec view = {"v", "FloatStorage", "1", 6, 2, {2, 2}, {1, 2}};
  const std::string pickle = test::dict_pickle({plain, view});
  const std::vector<std::string> storages = {std::string(12, '?'), test::counting_floats(6)};
  const char file = 0;
  const char bare = 1;
  seed("pth_reader", "zip", file + test::make_zip(test::checkpoint_entries(pickle, storages)));
  seed("pth_reader", "pickle", bare + pickle);
  const TensorSpec old = {"w", "FloatStorage", "7", 6, 0, {2, 3}, {3, 1}, "cpu", "", true};
  seed("pth_reader", "legacy",
       file + test::make_legacy(test::dict_pickle({old}), {"7"}, {test::counting_floats(6)}, 4));
}

// Two questions with two answers each, one that lacks its second, a line of the other kind.
void seed_evaluation_lines() {
  const auto request = [](int document, int index, int label) {
    return fmt::format(
        R"({{"doc":{{"choices":["a","b"]}},"request":{{"context":"q:","continuation":" a"}},)"
        R"("idx":{},"doc_id":{},"label":{}}})"
        "\n",
        index, document, label);
  };
  const std::string text = R"({"text":"one two three","kind":"count"})"
                           "\n";
  seed(
      "evaluation_lines", "choices",
      request(4, 0, 1) + request(4, 1, 1) + request(2, 1, 0) + request(2, 0, 0) + request(7, 0, 0));
  seed("evaluation_lines", "cloze", text + request(0, 0, 0) + text);
}

void seed_conversation() {
  const test::ScratchFolder folder;
  auto model = edge::Model::open(test::write_tiny_model(folder, test::conversation_model()));
  check(model.status());
  auto session = edge::Session::create(model.value(), {});
  check(session.status());
  edge::ConversationOptions options;
  options.chat_template = &model.value()->chat_template();
  options.max_tokens = 2;
  auto conversation = edge::Conversation::create(session.take(), options);
  check(conversation.status());
  const auto on_read = [](size_t, size_t) { return true; };
  const auto on_text = [](std::string_view) { return true; };
  check(conversation.value()->save(seed_path("conversation_file", "empty")));
  check(conversation.value()->set_system("s", on_read).status());
  check(conversation.value()->say("a", on_read, on_text).status());
  check(conversation.value()->say("b", on_read, on_text).status());
  check(conversation.value()->save(seed_path("conversation_file", "two_turns")));
}

// The first byte is alpha.
void seed_adapters() {
  const std::string key = "blocks.0.att.key";
  const std::string ffn = "blocks.0.ffn.key";
  const auto adapter = [](const std::string& name, char alpha,
                          const std::vector<TensorInfo>& tensors) {
    seed("adapter_file", name, alpha + safetensors(tensors));
  };
  adapter("lora", 2,
          {{key + ".lora_A", DType::F32, {2, 4}}, {key + ".lora_B", DType::BF16, {4, 2}}});
  adapter("pissa", 0,
          {{key + ".lora_A", DType::F32, {1, 4}},
           {key + ".lora_B", DType::F32, {4, 1}},
           {key + ".init_lora_A", DType::F32, {1, 4}},
           {key + ".init_lora_B", DType::F32, {4, 1}}});
  adapter("disha", 0,
          {{ffn + ".disha", DType::F32, {2, 8}}, {key + ".bone", DType::F32, {2, 2, 2}}});
  adapter("whole", 0,
          {{"blocks.0.ln1.weight", DType::F32, {4}},
           {"blocks.0.att.scale", DType::F32, {}},
           {"blocks.0.att.time_state", DType::F32, {2, 2, 2}}});
}

// The first byte chooses between an index and a config.json.
void seed_checkpoint_folder() {
  const std::vector<TensorInfo> all = test::tensors_of(Version::V6, {.n_layer = 1});
  std::string map;
  for (size_t i = 0; i < all.size(); ++i) {
    map += fmt::format("{}\"{}\": \"model-0000{}-of-00002.safetensors\"", i == 0 ? "" : ", ",
                       all[i].name, i < all.size() / 2 ? 1 : 2);
  }
  const char index = 0;
  const char config = 1;
  seed("checkpoint_folder", "index",
       index + fmt::format(R"({{"metadata": {{"total_size": 1}}, "weight_map": {{{}}}}})", map));
  seed("checkpoint_folder", "config_v6",
       config + std::string(R"({"model_type": "rwkv6", "hidden_size": 26, "num_hidden_layers": 1, )"
                            R"("vocab_size": 101, "intermediate_size": 67, "head_size": 11, )"
                            R"("layer_norm_epsilon": 1e-05, "head_size_divisor": 8, )"
                            R"("tie_word_embeddings": false})"));
  seed("checkpoint_folder", "config_v7",
       config + std::string(R"({"model_type": "rwkv7", "head_dim": 64, "norm_eps": 1e-05, )"
                            R"("tie_word_embeddings": true, "attn": null})"));
}

// The target writes the checksum.
void seed_statistics() {
  const uint64_t hash = xxh64(test::as_bytes(test::kStatisticsCheckpoint));
  std::string tokens;
  for (const int32_t token : {0, 1, 2, 2, 1, 0}) {
    tokens += le(token);
  }
  seed("statistics_file", "written",
       safetensors({{"source.xxh64", DType::U8, {8}},
                    {"tokens", DType::I32, {2, 3}},
                    {"frequencies", DType::F32, {3}},
                    {"blocks.0.att.key.moments", DType::F32, {4, 4}},
                    {"file.xxh64", DType::U8, {8}}},
                   {{"source.xxh64", le(hash)}, {"tokens", tokens}}));
}

void seed_imatrix() {
  const std::string name = "blk.0.time_mix_key.weight";
  const auto i32 = [](uint32_t value) { return le(value); };
  seed("imatrix_file", "old",
       i32(1) + i32(static_cast<uint32_t>(name.size())) + name + i32(2) + i32(2) + le(1.0f) +
           le(2.0f) + i32(1) + i32(4) + "text");
  GgufMetadata metadata;
  metadata.set("general.type", GgufValue::string("imatrix"));
  auto writer = GgufWriter::create(seed_path("imatrix_file", "gguf"), OutputFile::Existing::Replace,
                                   std::move(metadata),
                                   {{name + ".in_sum2", GgmlType::F32, {2, 1}, 8},
                                    {name + ".counts", GgmlType::F32, {1, 1}, 4}});
  check(writer.status());
  const std::array<float, 3> values = {1, 2, 3};
  check(writer.value()->append(std::as_bytes(std::span(values))));
  check(writer.value()->finish());
}

void seed_snapshots() {
  const std::string settings(test::kSnapshotSettings);
  seed("snapshot_file", "written",
       safetensors({{"train.step", DType::I64, {1}},
                    {"train.seconds", DType::F64, {1}},
                    {"train.threads", DType::I64, {2}},
                    {"train.settings", DType::U8, {settings.size()}},
                    {"values.matrix", DType::F32, {2, 3}},
                    {"mean.matrix", DType::F32, {2, 3}},
                    {"square.matrix", DType::F32, {2, 3}},
                    {"file.xxh64", DType::U8, {8}}},
                   {{"train.step", le(uint64_t{6})},
                    {"train.threads", le(uint64_t{2}) + le(uint64_t{3})},
                    {"train.settings", settings}}));
}

void seed_yaml() {
  seed("yaml_files", "recipe",
       "name: x\nseed: 3\ncalibration: {samples: 64, length: 256}\nstages:\n"
       "  - low_rank: {method: whitened, factor: 8, overrides: [{match: '*.key', factor: 2}]}\n"
       "  - refit: {rounds: 2}\n  - train: {steps: 10, parameters: [factors]}\n"
       "  - external: {command: 'a {input} {output}'}\n"
       "  - cluster_head: {clusters: 200, p_min: 0.95}\n"
       "  - ffn_predictor: {kinds: both, recall: 0.99}\n"
       "  - quantize: {codec: i8_row, lora_codec: f16, min_numbers: 4096}\n");
  seed("yaml_files", "preset",
       "preset: rwkv-lite-int8\nstages:\n  - low_rank: off\n  - quantize: {codec: f16}\n");
  seed("yaml_files", "budget",
       "name: x\nbudget: {resident: 200MB, size: 90MB, memory: sparse, codecs: [int8, lut3]}\n");
  seed("yaml_files", "sweep",
       "name: s\npreset: int8\naxes:\n  quantize.codec: [f16, i8_row]\n"
       "  quantize: [on, off]\nablation: true\nreferences: false\n"
       "evaluate: {text: [t.txt], max_tokens: 200, speed: false, memory: sparse}\n");
  seed("yaml_files", "training",
       "name: t\nseed: 1\nmodel: {version: v7, n_layer: 2, n_embd: 64, n_vocab: 256}\n"
       "train: {data: [a.txt], steps: 100, batch: 4, length: 32, lr: 1e-3}\n");
  seed("yaml_files", "anchors", "name: &a 5\nstages: [&s {quantize: {codec: f16}}]\nseed: *a\n");
}

// The first byte says which file of the folder the rest is.
void seed_sweeps() {
  seed("sweep_files", "manifest", "m" + std::string(test::kSweepManifest));
  seed("sweep_files", "result", "r" + std::string(test::kSweepResult));
  seed("sweep_files", "speed", "s" + std::string(test::kSweepSpeed));
}

// The target writes the checksum.
void seed_curves() {
  const std::string ends =
      R"("uniform": [{"factor": 4, "with_output": true, "codec": "lut3", "loss": 0.5, "nats": 0.25}],
"overhead": 0.001, "bandwidth": 1e9})";
  const std::string begins = R"({"version": 2, "key": "key", "checksum": "", "whitened": true,
"diagonal": false, "dense": 1.5,
"lora": [{"codec": "f16", "loss": 0, "nats": 0}, {"codec": "lut3", "loss": 0.1, "nats": -0.1}],
)";
  const std::string points =
      R"([{"factor": 0, "codec": "f16", "loss": 0}, {"factor": 0, "codec": "lut3", "loss": 0.01}])";
  seed("curves_file", "measured", begins + "\"matrices\": [" + points + ", " + points + R"(],
"ffn": [{"value": 0, "loss": 0, "nats": 0, "share": 0.75, "halves": [], "clusters": 0},
{"value": 0.99, "loss": 0.1, "nats": 0.1, "share": 0.25, "halves": [1, 3], "clusters": 0}],
"head": [{"value": 0.95, "loss": 0.1, "nats": 0.1, "share": 0.5, "halves": [], "clusters": 20}],
)" + ends);
  seed("curves_file", "begun", begins + "\"matrices\": [" + points + R"(], "ffn": [], "head": [],
"uniform": [], "overhead": 0, "bandwidth": 0})");
}

}  // namespace
}  // namespace rwkv

int main() {
  rwkv::seed_gguf();
  rwkv::seed_identify();
  rwkv::seed_codec_decode();
  rwkv::seed_rwkv_cpp();
  rwkv::seed_safetensors();
  rwkv::seed_state_files();
  rwkv::seed_tokenizers();
  rwkv::seed_pth();
  rwkv::seed_evaluation_lines();
  rwkv::seed_conversation();
  rwkv::seed_adapters();
  rwkv::seed_checkpoint_folder();
  rwkv::seed_statistics();
  rwkv::seed_imatrix();
  rwkv::seed_snapshots();
  rwkv::seed_yaml();
  rwkv::seed_sweeps();
  rwkv::seed_curves();
  return 0;
}
