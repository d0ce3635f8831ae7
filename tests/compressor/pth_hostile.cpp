// The .pth reader against everything that a hostile, damaged or foreign file may try. Each must end
// in one clear line, and nothing from the file may run.
#include <filesystem>
#include <functional>
#include <random>

#include "compressor/checkpoint/pth_reader.h"
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
using test::ZipEntry;
using Opened = test::OpenedPth;

const TensorSpec kPlain = test::plain_tensor();

TEST_CASE("pth: nothing in a pickle is executed") {
  const std::string marker = std::filesystem::temp_directory_path() / "rwkv-pth-reader-marker";
  std::filesystem::remove(marker);
  for (const char* module : {"os", "posix", "builtins", "torch.collections"}) {
    PickleBuilder pickle;
    pickle.op('}').str("w").global(module, "system").op('(').str("touch " + marker);
    pickle.op('t').op('R').op('s');
    REQUIRE_THAT(refusal(open_checkpoint(pickle.stop(), {})),
                 Contains(fmt::format("refused global '{}.system'", module)));
  }
  PickleBuilder stack_global(4);
  stack_global.short_str("posix").short_str("system").op('\x93').op('(').str("touch " + marker);
  stack_global.op('t').op('R');
  REQUIRE_THAT(refusal(open_checkpoint(stack_global.stop(), {})),
               Contains("refused global 'posix.system'"));
  // Old text opcodes reach globals too; they are not known at all.
  REQUIRE_THAT(refusal(open_checkpoint("(iposix\nsystem\n.", {})), Contains("opcode 0x69"));
  REQUIRE_THAT(refusal(open_checkpoint(
                   PickleBuilder().global("torch", "FloatStorage").op(')').op('R').stop(), {})),
               Contains("refused call of 'torch.FloatStorage'"));
  REQUIRE_THAT(refusal(open_checkpoint(PickleBuilder().global("a\x1b[31m", "b\r").stop(), {})),
               Contains("refused global 'a\\x1b[31m.b\\r'"));
  REQUIRE_FALSE(std::filesystem::exists(marker));
}

TEST_CASE("pth: a tensor that does not fit its storage is refused by name") {
  const std::string data = test::counting_floats(6);
  const auto message = [&](TensorSpec spec) {
    spec.name = "blocks.0.bad";
    const std::string text = refusal(open_checkpoint(test::dict_pickle({kPlain, spec}), {data}));
    REQUIRE_THAT(text, Contains("blocks.0.bad"));
    return text;
  };
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {3, 3}, {3, 1}}),
               Contains("3x3") && Contains("the 6 elements of its storage 0"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 1, {2, 3}, {3, 1}}), Contains("needs more"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {2, 3}, {4, 1}}), Contains("needs more"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, -1, {2, 3}, {3, 1}}), Contains("found -1"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 5, {2, 3}, {-1, 1}}), Contains("stride"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {2, -3}, {3, 1}}), Contains("shape"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {2, 3}, {1}}), Contains("1 strides"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", -6, 0, {2, 3}, {3, 1}}), Contains("-6 elements"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 7, 0, {2, 3}, {3, 1}}),
               Contains("should have 28 bytes, it has 24"));
  REQUIRE_THAT(message({"", "DoubleStorage", "0", 6, 0, {2, 3}, {3, 1}}),
               Contains("should have 48 bytes, it has 24"));
  REQUIRE_THAT(message({"", "FloatStorage", "1", 6, 0, {2, 3}, {3, 1}}),
               Contains("record data/1 is missing"));
  const int64_t huge = INT64_MAX;
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, huge, {2}, {1}}), Contains("needs more"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {2}, {huge}}), Contains("needs more"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {huge, 4}, {0, 1}}), Contains("shape"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {3, 3}, {huge, huge}}),
               Contains("needs more"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", huge, 0, {2}, {1}}), Contains("elements"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, {1 << 30}, {0}}), Contains("expands to"));
  REQUIRE_THAT(message({"", "UntypedStorage", "0", 24, 0, {6}, {1}}), Contains("no type"));
  REQUIRE_THAT(message({"", "FloatStorage", "0", 6, 0, std::vector<int64_t>(9, 1),
                        std::vector<int64_t>(9, 1)}),
               Contains("9 dimensions"));
}

TEST_CASE("pth: tensor names") {
  TensorSpec spec = kPlain;
  const std::string data = test::counting_floats(6);
  REQUIRE_THAT(refusal(open_checkpoint(test::dict_pickle({spec, spec}), {data})),
               Contains("'w' occurs twice"));
  for (const std::string& name : {std::string(), std::string("a\nb"), std::string(600, 'x')}) {
    spec.name = name;
    REQUIRE_THAT(refusal(open_checkpoint(test::dict_pickle({spec}), {data})),
                 Contains("tensor name"));
  }
}

TEST_CASE("pth: pickles that are wrong or do not end") {
  const std::string broken[] = {"",
                                "\x80",
                                "\x80\x06.",
                                ".",
                                "\x80\x02.",
                                "a",
                                "(a.",
                                "}(K\1u.",
                                "e",
                                "u",
                                "s",
                                "R",
                                "b",
                                "Q",
                                "\x85",
                                "\x93",
                                "h\1.",
                                "j\1\1\1\1.",
                                "X\xff\xff\xff\xff.",
                                "\x8b\xff\xff\xff\xff.",
                                "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
                                "B\xff\xff\xff\x7f.",
                                "ctorch",
                                "c\n\n.",
                                "K\1Q.",
                                "N)R.",
                                "K\1}b.",
                                "]K\1K\2s.",
                                "1.",
                                "t",
                                std::string(2000, '('),
                                std::string(5000, 'c')};
  for (const std::string& pickle : broken) {
    REQUIRE_THAT(refusal(open_checkpoint(pickle, {})), Contains("data.pkl: pickle"));
  }
  REQUIRE_THAT(refusal(open_checkpoint("}X\x10\x27\0\0", {})), Contains("truncated at byte"));
}

TEST_CASE("pth: self-reference, depth and repetition stay harmless") {
  PickleBuilder cycle;  // a dict and a list that contain themselves, next to a tensor
  cycle.op('}').op('q').op(1).str("self").op('h').op(1).op('s');
  cycle.str("list").op(']').op('q').op(2).op('h').op(2).op('a').op('s').str("w");
  test::add_tensor(cycle, kPlain);
  const Opened opened = open_checkpoint(cycle.op('s').stop(), {test::counting_floats(6)});
  REQUIRE_OK(opened.status());
  REQUIRE(opened.value()->tensors().size() == 1);

  PickleBuilder deep;  // {"a": {"a": ...}}
  deep.op('}');
  for (int i = 0; i < 20'000; ++i) {
    deep.str("a").op('}');
  }
  deep.raw(std::string(20'000, 's'));
  REQUIRE_THAT(refusal(open_checkpoint(deep.stop(), {})), Contains("no tensors"));
  REQUIRE_THAT(refusal(open_checkpoint(std::string(3'000'000, 'N') + ".", {})),
               Contains("more than 93760 objects"));
  // An OrderedDict made again and again from one long list.
  PickleBuilder copies;
  copies.op(']').op('q').op(1).op('(');
  for (int i = 0; i < 100'000; ++i) {
    copies.raw("NN\x86");
  }
  copies.op('e');
  for (int i = 0; i < 1000; ++i) {
    copies.global("collections", "OrderedDict").op('h').op(1).raw("\x85R");
  }
  REQUIRE_THAT(refusal(open_checkpoint(copies.stop(), {})), Contains("objects"));
}

TEST_CASE("pth: zip files that are not what they say") {
  const auto message = [](const std::function<void(std::vector<ZipEntry>&)>& change) {
    auto entries =
        test::checkpoint_entries(test::dict_pickle({kPlain}), {test::counting_floats(6)});
    change(entries);
    return refusal(open_bytes(test::make_zip(entries)));
  };
  using Entries = std::vector<ZipEntry>;
  REQUIRE_THAT(message([](Entries& e) { e[2].flags = 1; }), Contains("encrypted"));
  REQUIRE_THAT(message([](Entries& e) { e[2].disk = 1; }), Contains("another part"));
  REQUIRE_THAT(message([](Entries& e) { e[2].method = 12; }), Contains("compression method 12"));
  REQUIRE_THAT(message([](Entries& e) { e.push_back(e[2]); }), Contains("occurs twice"));
  REQUIRE_THAT(message([](Entries& e) { e[2].local_name = "model/data/9"; }), Contains("disagree"));
  REQUIRE_THAT(message([](Entries& e) { e[2].local_size = 20; }), Contains("disagree"));
  REQUIRE_THAT(message([](Entries& e) { e[2].size = 28; }), Contains("overlaps"));
  REQUIRE_THAT(message([](Entries& e) { e[2].size = 99999; }), Contains("do not lie before"));
  REQUIRE_THAT(message([](Entries& e) { e[2].size = 0xffffffff; }), Contains("zip64"));
  REQUIRE_THAT(message([](Entries& e) { e[2].header_offset = 99999; }), Contains("after"));
  REQUIRE_THAT(message([](Entries& e) { e[2].header_offset = 3; }), Contains("damaged"));
  REQUIRE_THAT(message([](Entries& e) { e[2].deflate = true, e[2].size = 1u << 30; }),
               Contains("cannot come from"));
  REQUIRE_THAT(message([](Entries& e) { e[0].deflate = true, e[0].size = 500; }),
               Contains("cannot be inflated"));
  REQUIRE_THAT(message([](Entries& e) { e[1].data = "big"; }), Contains("found 'big'"));
  REQUIRE_THAT(message([](Entries& e) { e[0].name = "model/x"; }), Contains("found 0"));
  REQUIRE_THAT(message([](Entries& e) {
                 e.push_back({"other/data.pkl", "."});
               }),
               Contains("found 2"));
}

TEST_CASE("pth: things that are no checkpoint") {
  const test::ScratchFolder scratch;
  REQUIRE_THAT(refusal(open_pth(scratch.path().string())), Contains("directory"));
  REQUIRE_THAT(refusal(open_pth(scratch.file("none.pth"))), Contains("none.pth"));
  REQUIRE_THAT(refusal(open_bytes("")), Contains("0 bytes"));
  REQUIRE_THAT(refusal(open_bytes("PK\x03\x04")), Contains("not a PyTorch checkpoint"));
  REQUIRE_THAT(refusal(open_bytes("garbage, nothing else")), Contains("starts with 'garbage,'"));
  REQUIRE_THAT(refusal(open_bytes("version https://git-lfs.github.com/spec/v1\n")),
               Contains("git lfs pull"));
  REQUIRE_THAT(refusal(open_bytes("PK\x03\x04" + std::string(100, 'x'))),
               Contains("no zip directory"));
  REQUIRE_THAT(refusal(open_bytes(test::dict_pickle({kPlain}))), Contains("magic number"));
}

const TensorSpec kLegacy = {"w", "FloatStorage", "77", 6, 0, {2, 3}, {3, 1}, "cuda:1", "", true};

TEST_CASE("pth: legacy files that are not what they say") {
  const std::string object = test::dict_pickle({kLegacy});
  const std::string data = test::counting_floats(6);
  const auto message = [&](const std::vector<std::string>& keys,
                           const std::vector<std::string>& storages, const std::string& tail = "") {
    return refusal(open_bytes(test::make_legacy(object, keys, storages, 4) + tail));
  };
  REQUIRE_OK(open_bytes(test::make_legacy(object, {"77"}, {data}, 4)).status());
  REQUIRE_THAT(message({"77"}, {data + data}), Contains("should have 6 elements, it has 12"));
  REQUIRE_THAT(message({}, {}), Contains("storage 77 is missing"));
  REQUIRE_THAT(message({"78"}, {data}), Contains("storage 78 belongs to no tensor"));
  REQUIRE_THAT(message({"77", "77"}, {data, data}), Contains("twice"));
  REQUIRE_THAT(message({"77"}, {data}, "x"), Contains("1 bytes after"));
  TensorSpec second = kLegacy;
  second.name = "second";
  second.storage_class = "HalfStorage";
  REQUIRE_THAT(refusal(open_bytes(
                   test::make_legacy(test::dict_pickle({kLegacy, second}), {"77"}, {data}, 4))),
               Contains("two sizes"));
}

// Opens and, if that works, reads everything. Only that it returns counts.
bool survives(const std::string& path) {
  const Opened opened = open_pth(path);
  if (!opened.ok()) {
    return !opened.status().message().empty();
  }
  for (size_t t = 0; t < opened.value()->tensors().size(); ++t) {
    std::vector<std::byte> out;
    const Status status = opened.value()->read(t, out);
    if (!status.ok() && status.message().empty()) {
      return false;
    }
  }
  return true;
}

std::vector<std::string> sample_files() {
  const std::vector<TensorSpec> specs = {kPlain,
                                         {"t", "FloatStorage", "0", 6, 0, {3, 2}, {1, 3}},
                                         {"e", "FloatStorage", "1", 2, 0, {4, 2}, {0, 1}}};
  const std::vector<std::string> storages = {test::counting_floats(6), test::counting_floats(2)};
  auto entries = test::checkpoint_entries(test::dict_pickle(specs), storages);
  const std::string stored = test::make_zip(entries);
  // Without CRCs, so that flipped bits reach the code after them.
  for (ZipEntry& entry : entries) {
    entry.crc = 0;
  }
  const std::string unchecked = test::make_zip(entries);
  for (ZipEntry& entry : entries) {
    entry.deflate = true;
  }
  const std::string deflated = test::make_zip(entries);
  std::vector<TensorSpec> legacy = specs;
  for (TensorSpec& spec : legacy) {
    spec.legacy = true;
  }
  return {stored, unchecked, deflated,
          test::make_legacy(test::dict_pickle(legacy), {"0", "1"}, storages, 4)};
}

TEST_CASE("pth: a file that was cut anywhere is refused") {
  for (const std::string& file : sample_files()) {
    REQUIRE_OK(open_bytes(file).status());
    for (size_t part = 0; part < 50; ++part) {
      refusal(open_bytes(file.substr(0, file.size() * part / 50)));
    }
    refusal(open_bytes(file.substr(0, file.size() - 1)));
  }
}

TEST_CASE("pth: flipped bits never crash the reader") {
  const test::ScratchFolder scratch;
  const std::string path = scratch.file("a.pth");
  std::mt19937 random(7);
  for (const std::string& file : sample_files()) {
    for (int round = 0; round < 400; ++round) {
      std::string bytes = file;
      for (auto flips = 1 + random() % 3; flips > 0; --flips) {
        char& byte = bytes[random() % bytes.size()];
        byte = static_cast<char>(byte ^ (1 << random() % 8));
      }
      test::write_text(path, bytes);
      REQUIRE(survives(path));
    }
  }
}

}  // namespace
}  // namespace rwkv::press
