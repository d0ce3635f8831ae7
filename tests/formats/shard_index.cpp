// shard_index(): narrower copies of rows, which must agree with the tensors in everything.
#include "formats/container/shard_index.h"

#include <functional>
#include <limits>

#include "formats/container/packed_keys.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using Catch::Contains;

constexpr uint64_t kCols = 64;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// An index in parts, to be spoiled one by one.
struct Parts {
  std::vector<PackedTensor> tensors;
  ShardTable table;

  void add(const std::string& name, Codec codec, uint64_t rows) {
    tensors.push_back({name, codec, rows, kCols, {rows, kCols}, 0, 0, 0});
  }
  Result<std::vector<ShardedMatrix>> read() const {
    GgufMetadata metadata;
    put_shard_table(table, metadata);
    return shard_index(metadata, tensors);
  }
};

// Two matrices: of 200 rows in pieces of 128 and 72, of 64 rows in one; the second is read by row.
Parts good_parts() {
  Parts parts;
  parts.add("vector", Codec::F32, 1);
  parts.add("key", Codec::I8Row, 200);
  parts.add("other", Codec::U6, 64);
  parts.add("value", Codec::U6Rows, 64);
  parts.add("key@lut4", Codec::Lut4, 200);
  parts.add("key@lut3", Codec::Lut3, 72);
  parts.add("value@lut3", Codec::Lut3Rows, 64);
  parts.table = {{"key", "value"},
                 {128, 64},
                 {"lut4", "lut3", "none"},
                 {0.25, -1, -1, 0.5, 2, -1, -1, 3, 4},
                 {10, 11, 0, 0, 20, 21, 22, 0, 30, 0, 31, 0}};
  return parts;
}

void check_version(const ShardVersion& version, size_t tensor, uint64_t first_row, double loss,
                   uint64_t xxh64) {
  CHECK(version.tensor == tensor);
  CHECK(version.first_row == first_row);
  CHECK(version.loss == loss);
  CHECK(version.xxh64 == xxh64);
}

using Spoil = std::function<void(Parts&)>;
std::string refused_after(const Spoil& spoil) {
  Parts parts = good_parts();
  spoil(parts);
  const Status status = parts.read().status();
  REQUIRE(status.code() == Code::BadInput);
  INFO(status.message());
  CHECK(test::says_what_to_do(status.message()));
  return status.message();
}

}  // namespace

TEST_CASE("shard_index gives every piece at every width that there is") {
  const auto found = good_parts().read();
  REQUIRE_OK(found.status());
  REQUIRE(found.value().size() == 2);
  const ShardedMatrix& key = found.value()[0];
  REQUIRE(key.tensor == 1);
  REQUIRE(key.pieces.size() == 2);
  CHECK(key.pieces[0].first_row == 0);
  CHECK(key.pieces[0].n_rows == 128);
  REQUIRE(key.pieces[0].versions.size() == 2);
  check_version(key.pieces[0].versions[0], 1, 0, 0, 10);
  check_version(key.pieces[0].versions[1], 4, 0, 0.25, 11);
  CHECK(key.pieces[1].first_row == 128);
  CHECK(key.pieces[1].n_rows == 72);
  REQUIRE(key.pieces[1].versions.size() == 3);
  check_version(key.pieces[1].versions[0], 1, 128, 0, 20);
  check_version(key.pieces[1].versions[1], 4, 128, 0.5, 21);
  check_version(key.pieces[1].versions[2], 5, 0, 2, 22);
  const ShardedMatrix& value = found.value()[1];
  REQUIRE(value.tensor == 3);
  REQUIRE(value.pieces.size() == 1);
  REQUIRE(value.pieces[0].versions.size() == 3);
  check_version(value.pieces[0].versions[1], 6, 0, 3, 31);
  check_version(value.pieces[0].versions[2], ShardVersion::kNothing, 0, 4, 0);
  CHECK(n_complete_tensors(good_parts().tensors) == 4);
}

TEST_CASE("shard_index of a file without copies is empty") {
  Parts parts = good_parts();
  parts.tensors.resize(4);
  const auto found = shard_index({}, parts.tensors);
  REQUIRE_OK(found.status());
  CHECK(found.value().empty());
  CHECK(n_complete_tensors(parts.tensors) == 4);
}

TEST_CASE("shard_index refuses numbers that disagree") {
  CHECK_THAT(refused_after([](Parts& p) { p.table.losses.pop_back(); }), Contains("8 losses"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.xxh64.push_back(0); }), Contains("13 checksums"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.rows.pop_back(); }), Contains("1 numbers of"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.rows.push_back(64); }), Contains("3 numbers of"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.rows[0] = 64; }), Contains("5 pieces"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.rows[0] = 0; }), Contains("multiple of 64"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.rows[0] = 100; }), Contains("multiple of 64"));
  CHECK_THAT(refused_after([](Parts& p) {
               p.tensors[1].shape = {2, 100, kCols};
             }),
             Contains("'key'"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.tensors[0] = "nothing"; }),
             Contains("'nothing'"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.tensors[1] = "key"; }), Contains("order of use"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.tensors[1] = "key@lut4"; }),
             Contains("key@lut4"));
  CHECK_THAT(refused_after([](Parts& p) {
               p.table = {{}, {}, {}, {}, {}};
             }),
             Contains("0 matrices"));
}

TEST_CASE("shard_index refuses losses that are none") {
  for (const double loss : {kNan, std::numeric_limits<double>::infinity(), -0.5, -1e30}) {
    CHECK_THAT(refused_after([&](Parts& p) { p.table.losses[3] = loss; }),
               Contains("piece 1 of 'key'"));
  }
}

TEST_CASE("shard_index refuses codecs that are not from wide to narrow") {
  for (const std::vector<std::string>& codecs : {std::vector<std::string>{"lut4", "lut9", "none"},
                                                 {"lut3", "lut4", "none"},
                                                 {"lut4", "lut4", "none"},
                                                 {"lut4", "none", "lut3"},
                                                 {"lut4", "none", "none"},
                                                 {"lut4", "sign_row", "none"}}) {
    CHECK_THAT(refused_after([&](Parts& p) { p.table.codecs = codecs; }),
               Contains("from wide to narrow"));
  }
}

TEST_CASE("shard_index refuses copies that are not what the index says") {
  CHECK_THAT(refused_after([](Parts& p) { p.tensors[5].rows = 128; }), Contains("expected 72"));
  CHECK_THAT(refused_after([](Parts& p) { p.tensors[5].cols = 128; }), Contains("'key@lut3'"));
  CHECK_THAT(refused_after([](Parts& p) { p.tensors[5].codec = Codec::Lut4; }),
             Contains("'key@lut3'"));
  CHECK_THAT(refused_after([](Parts& p) { p.tensors[1].codec = Codec::F16; }),
             Contains("less than f16"));
  CHECK_THAT(refused_after([](Parts& p) { p.tensors[1].codec = Codec::Lut4; }),
             Contains("less than lut4"));
  CHECK_THAT(refused_after([](Parts& p) { p.tensors[5].name = "key@lut2"; }),
             Contains("'key@lut3' is missing"));
  CHECK_THAT(refused_after([](Parts& p) { p.table.losses[4] = -1; }), Contains("explains 2"));
  CHECK_THAT(refused_after([](Parts& p) { p.add("x@lut3", Codec::Lut3, 64); }),
             Contains("explains 3"));
  CHECK_THAT(refused_after([](Parts& p) { p.add("late", Codec::F32, 1); }), Contains("'late'"));
}

TEST_CASE("shard_index refuses copies without an index, and an index without parts") {
  const Parts parts = good_parts();
  CHECK_THAT(shard_index({}, parts.tensors).status().message(), Contains("explains 0"));
  for (const char* key :
       {keys::kShardRows, keys::kShardCodecs, keys::kShardLosses, keys::kShardXxh64}) {
    GgufMetadata whole;
    put_shard_table(parts.table, whole);
    GgufMetadata part;
    for (const auto& [name, value] : whole.entries()) {
      if (name != key) {
        part.set(name, value);
      }
    }
    const Status status = shard_index(part, parts.tensors).status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains(key));
    part.set(key, GgufValue::string("lut4"));
    CHECK_THAT(shard_index(part, parts.tensors).status().message(), Contains(key));
  }
}

}  // namespace rwkv
