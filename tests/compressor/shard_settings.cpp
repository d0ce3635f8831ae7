// Settings of stage `shards` that cannot be: each is refused in one line, before any work.
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

std::string refused(const std::string& recipe, const std::string& arch = "v5.2") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch);
  Conversion how;
  how.recipe = recipe;
  how.vocab = "bytes";
  how.texts = {write_text(scratch, 4000)};
  const Status status = convert(input, scratch.file("x.gguf"), how);
  CHECK(status.code() == Code::Usage);
  CHECK(status.message().find('\n') == std::string::npos);
  return status.message();
}

}  // namespace

TEST_CASE("Settings of stage shards that cannot be", "[shards]") {
  const auto stage = [](const std::string& settings) {
    return "stages:\n  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 0}\n"
           "  - shards: {" +
           settings + "}\n";
  };
  CHECK_THAT(refused("stages:\n  - shards: {widths: [lut4]}\n"), Contains("put stage quantize"));
  CHECK_THAT(refused("stages:\n  - quantize: {codec: lut4, min_numbers: 0}\n"
                     "  - shards: {widths: [lut5, lut3]}\n"),
             Contains("lut5 is not narrower than lut4"));
  CHECK_THAT(refused(stage("widths: [lut4, i8_row]")), Contains("i8_row is not narrower"));
  CHECK_THAT(refused(stage("widths: [lut9]")),
             Contains("shards.widths") && Contains("'lut9'") && Contains("did you mean 'lut5'"));
  CHECK_THAT(refused(stage("widths: []")), Contains("none at all"));
  CHECK_THAT(refused(stage("widths: [lut4, lut4]")), Contains("lut4 and lut4"));
  CHECK_THAT(refused(stage("widths: lut4")), Contains("expected a list"));
  CHECK_THAT(refused(stage("widths: [lut4], points: [0]")), Contains("shards.points"));
  CHECK_THAT(refused(stage("widths: [lut4], points: [1.5]")), Contains("shards.points"));
  CHECK_THAT(refused(stage("widths: [lut4], points: [0.3]")), Contains("narrowest widths take"));
  CHECK_THAT(refused(stage("widths: [lut4], quantizer: gptvq")), Contains("in no codec"));
  CHECK_THAT(refused(stage("widths: [lut4], importance: high")), Contains("shards.importance"));
  CHECK_THAT(refused("stages:\n  - shards: {widths: [lut4]}\n  - quantize: {codec: i8_row}\n"),
             Contains("in the order"));
  CHECK_THAT(refused("stages:\n  - quantize: {codec: lut5, min_numbers: 0}\n"
                     "  - shards: {widths: [lut4]}\n  - train: {codes: scales, steps: 1}\n"),
             Contains("narrower copies"));
}
