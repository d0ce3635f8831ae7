// The trained model of configs/demo, and stories for it.
#pragma once

#include <string>

#include "tests/support/support.h"

namespace rwkv::test {

/// Paths. The stories are written by scripts/demo_stories.py and differ from those of any other
/// split; the checkpoint is in bf16 with 4 layers of 256 channels and 3328 tokens.
struct DemoModel {
  std::string checkpoint, vocabulary;
  std::string train, test;  ///< text
  std::string questions;    ///< `test` as read_cloze() wants it
};

/// Writes `n_train` and `n_test` stories into `folder`; fails the test if that does not work.
DemoModel demo_model(const ScratchFolder& folder, int n_train, int n_test);

}  // namespace rwkv::test
