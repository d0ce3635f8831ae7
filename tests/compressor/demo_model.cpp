#include "tests/compressor/demo_model.h"

#include <fmt/format.h>

#include <cstdlib>

#include "tests/support/catch.h"

namespace rwkv::test {

DemoModel demo_model(const ScratchFolder& folder, int n_train, int n_test) {
  const std::string source = RWKV_SOURCE_DIR;
  const std::string checkpoint = source + "/configs/demo/demo.pth";
  const std::string command = fmt::format(
      "python3 -B '{}/scripts/demo_stories.py' '{}' --train {} --valid 1 --test {} "
      "--n-vocab 3328 > '{}'",
      source, folder.path().string(), n_train, n_test, folder.file("summary.txt"));
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
  return DemoModel{checkpoint, source + "/configs/demo/vocab.txt", folder.file("train.txt"),
                   folder.file("test.txt"), folder.file("test.jsonl")};
}

}  // namespace rwkv::test
