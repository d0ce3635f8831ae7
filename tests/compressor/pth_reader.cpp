// The .pth reader against checkpoints built by hand: every form that torch.save writes. What must
// be refused is in pth_hostile.cpp.
#include "compressor/checkpoint/pth_reader.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/compressor/pickle_builder.h"
#include "tests/compressor/pth_testing.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::press {
namespace {

using Catch::Contains;
using test::open_bytes;
using test::open_checkpoint;
using test::PickleBuilder;
using test::refusal;
using test::TensorSpec;
using test::values;
using test::ZipEntry;
using Opened = test::OpenedPth;

// All tensors in small slices must equal the tensors in one piece.
void check_slices(const TensorSource& source) {
  for (size_t t = 0; t < source.tensors().size(); ++t) {
    std::vector<std::byte> whole;
    REQUIRE_OK(source.read(t, whole));
    for (const size_t step : {size_t{1}, size_t{4}, size_t{7}, size_t{20}}) {
      std::vector<std::byte> joined(whole.size());
      for (size_t at = 0; at < whole.size(); at += step) {
        const size_t n = std::min(step, whole.size() - at);
        REQUIRE_OK(source.read_range(t, at, std::span(joined).subspan(at, n)));
      }
      REQUIRE(joined == whole);
    }
  }
}

const TensorSpec kPlain = test::plain_tensor();

TEST_CASE("pth: a plain dict") {
  const Opened opened = open_checkpoint(test::dict_pickle({kPlain}), {test::counting_floats(6)});
  REQUIRE_OK(opened.status());
  const TensorSource& source = *opened.value();
  REQUIRE(source.format() == "pth");
  REQUIRE(source.tensors().size() == 1);
  REQUIRE(source.tensors()[0].name == "w");
  REQUIRE(source.tensors()[0].shape == std::vector<uint64_t>{2, 3});
  REQUIRE(values(source, 0) == std::vector<float>{0, 1, 2, 3, 4, 5});
  check_slices(source);
  std::vector<std::byte> out(8);
  REQUIRE(source.read_range(0, 20, out).code() == Code::Usage);
  REQUIRE(source.read(1, out).code() == Code::Usage);
}

TEST_CASE("pth: all storage classes, any location, untyped storages") {
  const std::pair<const char*, DType> classes[] = {
      {"FloatStorage", DType::F32},     {"HalfStorage", DType::F16}, {"IntStorage", DType::I32},
      {"BFloat16Storage", DType::BF16}, {"LongStorage", DType::I64}, {"ShortStorage", DType::I16},
      {"DoubleStorage", DType::F64},    {"CharStorage", DType::I8},  {"ByteStorage", DType::U8},
      {"BoolStorage", DType::Bool}};
  std::vector<TensorSpec> specs;
  std::vector<std::string> storages;
  for (const auto& [name, dtype] : classes) {
    specs.push_back({name, name, std::to_string(specs.size()), 2, 0, {2}, {1}, "cuda:0"});
    storages.push_back(std::string(2 * traits(dtype).block_bytes, '\1'));
  }
  TensorSpec untyped = {"v3", "UntypedStorage", std::to_string(specs.size()), 8, 1, {3}, {1}};
  untyped.v3_dtype = "bfloat16";
  specs.push_back(untyped);
  storages.push_back(test::le<uint64_t>(0x4040'4000'3f80'0000));  // 0, 1, 2, 3
  const Opened opened = open_checkpoint(test::dict_pickle(specs), storages);
  REQUIRE_OK(opened.status());
  for (size_t i = 0; i < std::size(classes); ++i) {
    REQUIRE(opened.value()->tensors()[i].dtype == classes[i].second);
  }
  REQUIRE(values(*opened.value(), specs.size() - 1) == std::vector<float>{1, 2, 3});

  specs.back().v3_dtype = "float8_e4m3fn";
  REQUIRE_THAT(refusal(open_checkpoint(test::dict_pickle(specs), storages)),
               Contains("refused global 'torch.float8_e4m3fn'"));
}

TEST_CASE("pth: views, transposed, sliced and expanded tensors come out contiguous") {
  for (const bool deflate : {false, true}) {
    const std::vector<TensorSpec> specs = {
        {"part", "FloatStorage", "0", 24, 6, {2, 3}, {3, 1}},
        {"transposed", "FloatStorage", "0", 24, 0, {6, 4}, {1, 6}},
        {"sliced", "FloatStorage", "0", 24, 1, {2, 3}, {12, 2}},
        {"expanded", "FloatStorage", "0", 24, 5, {3, 2}, {0, 1}},
        {"permuted", "FloatStorage", "0", 24, 0, {4, 2, 3}, {1, 12, 4}},
        {"column", "FloatStorage", "0", 24, 3, {4}, {6}},
        {"ones", "FloatStorage", "0", 24, 7, {1, 2, 1}, {99, 1, 77}},
        {"scalar", "FloatStorage", "0", 24, 23, {}, {}}};
    auto entries = test::checkpoint_entries(test::dict_pickle(specs), {test::counting_floats(24)});
    for (ZipEntry& entry : entries) {
      entry.deflate = deflate;
    }
    const Opened opened = open_bytes(test::make_zip(entries));
    REQUIRE_OK(opened.status());
    const TensorSource& source = *opened.value();
    REQUIRE(values(source, 0) == std::vector<float>{6, 7, 8, 9, 10, 11});
    REQUIRE(values(source, 1) == std::vector<float>{0, 6, 12, 18, 1, 7,  13, 19, 2, 8,  14, 20,
                                                    3, 9, 15, 21, 4, 10, 16, 22, 5, 11, 17, 23});
    REQUIRE(values(source, 2) == std::vector<float>{1, 3, 5, 13, 15, 17});
    REQUIRE(values(source, 3) == std::vector<float>{5, 6, 5, 6, 5, 6});
    REQUIRE(values(source, 4)[23] == 23);
    REQUIRE(values(source, 4)[5] == 20);
    REQUIRE(values(source, 5) == std::vector<float>{3, 9, 15, 21});
    REQUIRE(values(source, 6) == std::vector<float>{7, 8});
    REQUIRE(values(source, 7) == std::vector<float>{23});
    check_slices(source);
  }
}

TEST_CASE("pth: OrderedDict with _metadata, parameters, protocol 4 opcodes") {
  PickleBuilder pickle(4);
  pickle.raw("\x95").raw(test::le<uint64_t>(999));  // FRAME
  pickle.short_str("collections").op('\x94').short_str("OrderedDict").op('\x94').op('\x93');
  pickle.op('\x94').op(')').op('R').op('\x94').op('(');
  pickle.short_str("a").op('\x94').global("torch._utils", "_rebuild_parameter").op('(');
  test::add_tensor(pickle, kPlain);
  pickle.op('q').op(77).op('\x88').ordered_dict().op('t').op('R');
  pickle.str("b").global("torch._utils", "_rebuild_parameter_with_state").op('(');
  pickle.op('h').op(77).op('\x89').ordered_dict().op('}').op('t').op('R');
  pickle.op('r').raw(test::le<uint32_t>(4'000'000'000)).op('2').op('0');
  pickle.str("c").op('j').raw(test::le<uint32_t>(4'000'000'000)).op('u');
  pickle.op('}').str("_metadata").ordered_dict().op('s').op('b');
  const Opened opened = open_checkpoint(pickle.stop(), {test::counting_floats(6)});
  REQUIRE_OK(opened.status());
  REQUIRE(opened.value()->tensors().size() == 3);
  REQUIRE(opened.value()->tensors()[2].name == "c");
  REQUIRE(values(*opened.value(), 1)[5] == 5);
}

// {"epoch": 3, "other": [..], KEY: {"w": tensor}, "optimizer": {"state": {0: {"exp_avg": tensor}}}}
std::string nested_pickle(const std::string& key, const std::string& optimizer) {
  PickleBuilder pickle;
  pickle.op('}').op('(').str("epoch").integer(3).str("loss").op('G').raw("12345678");
  pickle.str("other").op(']').op('(').op('N').integer(1LL << 40).op('C').raw("\2ab").op('e');
  pickle.str(key).op('}').str("w");
  test::add_tensor(pickle, kPlain);
  pickle.op('s').str(optimizer).op('}').str("state").op('}').integer(0).op('}').str("exp_avg");
  test::add_tensor(pickle, kPlain);
  return pickle.op('s').op('s').op('s').op('u').stop();
}

TEST_CASE("pth: the state dict in a training checkpoint is found") {
  for (const char* key : {"model_state_dict", "state_dict", "model", "module", "weights"}) {
    const Opened opened =
        open_checkpoint(nested_pickle(key, "optimizer"), {test::counting_floats(6)});
    REQUIRE_OK(opened.status());
    REQUIRE(opened.value()->tensors().size() == 1);
    REQUIRE(opened.value()->tensors()[0].name == "w");
  }
  PickleBuilder two;
  two.op('}');
  for (const char* key : {"x", "y"}) {
    two.str(key).op('}').str("w");
    test::add_tensor(two, kPlain);
    two.op('s').op('s');
  }
  REQUIRE_THAT(refusal(open_checkpoint(two.stop(), {test::counting_floats(6)})),
               Contains("several dicts of tensors, 'x' and 'y'"));
  REQUIRE_THAT(refusal(open_checkpoint(PickleBuilder().op('}').stop(), {})),
               Contains("found no tensors"));
  REQUIRE_THAT(refusal(open_checkpoint(PickleBuilder().op(']').stop(), {})),
               Contains("found a list"));
}

TEST_CASE("pth: reading any part of a record verifies its CRC") {
  const std::vector<TensorSpec> specs = {kPlain,
                                         {"part", "FloatStorage", "0", 6, 2, {2}, {1}},
                                         {"column", "FloatStorage", "0", 6, 0, {2}, {3}}};
  for (const bool deflate : {false, true}) {
    auto entries = test::checkpoint_entries(test::dict_pickle(specs), {test::counting_floats(6)});
    entries[2].deflate = deflate;
    entries[2].crc = 0x12345678;
    const Opened opened = open_bytes(test::make_zip(entries));
    REQUIRE_OK(opened.status());
    for (size_t t = 0; t < specs.size(); ++t) {
      std::vector<std::byte> out;
      const Status status = opened.value()->read(t, out);
      REQUIRE(status.code() == Code::BadInput);
      REQUIRE_THAT(status.message(), Contains("CRC mismatch in record data/0: expected 12345678") &&
                                         Contains(specs[t].name));
      out.resize(4);
      REQUIRE(opened.value()->read_range(t, 4, out).code() == Code::BadInput);
    }
    // torch writes zeros when it is told to compute no CRC.
    entries[2].crc = 0;
    const Opened without = open_bytes(test::make_zip(entries));
    REQUIRE_OK(without.status());
    REQUIRE(values(*without.value(), 1) == std::vector<float>{2, 3});
  }
  auto entries = test::checkpoint_entries(test::dict_pickle(specs), {test::counting_floats(6)});
  entries[0].crc = 1;
  REQUIRE_THAT(refusal(open_bytes(test::make_zip(entries))),
               Contains("CRC mismatch in record data.pkl"));
}

TEST_CASE("pth: the records that newer versions of torch add are let be") {
  auto entries = test::checkpoint_entries(test::dict_pickle({kPlain}), {test::counting_floats(6)});
  entries.push_back({"model/.format_version", "1"});
  entries.push_back({"model/.storage_alignment", "64"});
  entries.push_back({"model/.data/serialization_id", "0123456789"});
  REQUIRE_OK(open_bytes(test::make_zip(entries)).status());
}

const TensorSpec kLegacy = {"w", "FloatStorage", "77", 6, 0, {2, 3}, {3, 1}, "cuda:1", "", true};

TEST_CASE("pth: the legacy form, with shared storages and views") {
  TensorSpec transposed = kLegacy;
  transposed.name = "transposed";
  transposed.shape = {3, 2};
  transposed.strides = {1, 3};
  TensorSpec view = kLegacy;
  view.name = "view";
  view.view = {{2, 3}};
  view.shape = {2};
  view.strides = {2};
  TensorSpec other = kLegacy;
  other.name = "other";
  other.key = "5";
  const std::string bytes =
      test::make_legacy(test::dict_pickle({kLegacy, transposed, view, other}), {"77", "5"},
                        {test::counting_floats(6), test::counting_floats(6, 100)}, 4);
  const Opened opened = open_bytes(bytes);
  REQUIRE_OK(opened.status());
  REQUIRE(values(*opened.value(), 0) == std::vector<float>{0, 1, 2, 3, 4, 5});
  REQUIRE(values(*opened.value(), 1) == std::vector<float>{0, 3, 1, 4, 2, 5});
  REQUIRE(values(*opened.value(), 2) == std::vector<float>{2, 4});
  REQUIRE(values(*opened.value(), 3)[5] == 105);
  check_slices(*opened.value());

  view.offset = 1;
  REQUIRE_THAT(refusal(open_bytes(test::make_legacy(test::dict_pickle({view}), {"77"},
                                                    {test::counting_floats(6)}, 4))),
               Contains("'view'") && Contains("the 3 elements"));
  view.view = {{4, 3}};
  REQUIRE_THAT(refusal(open_bytes(test::make_legacy(test::dict_pickle({view}), {"77"},
                                                    {test::counting_floats(6)}, 4))),
               Contains("3 elements from 4"));
}

TEST_CASE("pth: golden checkpoints") {
  const auto manifest = test::test_data("golden/pth-tensors.jsonl", "golden checkpoints");
  if (!manifest) {
    return;
  }
  std::ifstream lines(*manifest);
  std::unique_ptr<TensorSource> source;
  std::string open_name;
  size_t n_files = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto row = nlohmann::json::parse(line);
    const std::string file = row["file"];
    if (file != open_name) {
      const auto path = test::test_data("golden/" + file, "golden checkpoint");
      if (!path) {
        return;
      }
      Opened opened = open_pth(*path);
      REQUIRE_OK(opened.status());
      source = opened.take();
      open_name = file;
      ++n_files;
    }
    const size_t index = row["index"];
    REQUIRE(index < source->tensors().size());
    const TensorInfo& info = source->tensors()[index];
    REQUIRE(info.name == row["name"].get<std::string>());
    REQUIRE(row["dtype"].get<std::string>() ==
            (info.dtype == DType::BF16 ? "bfloat16" : "float32"));
    REQUIRE(info.shape == row["shape"].get<std::vector<uint64_t>>());
    const std::vector<float> found = values(*source, index);
    double sum = 0;
    double magnitude = 0;
    for (const float value : found) {
      sum += double{value};
      magnitude += std::abs(double{value});
    }
    // The order of a float64 sum moves its last digits.
    REQUIRE(std::abs(sum - row["sum"].get<double>()) <= 1e-12 * magnitude);
    REQUIRE(found.front() == row["first"].get<float>());
    REQUIRE(found.back() == row["last"].get<float>());
  }
  REQUIRE(n_files >= 7);
}

}  // namespace
}  // namespace rwkv::press
