// What the tests of quantizers share.
#pragma once

#include <memory>

#include "compressor/quantizers/quantizer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::test {

/// What a quantizer makes of an input that it must take.
inline press::Quantized quantized(const std::unique_ptr<press::Quantizer>& quantizer,
                                  const press::QuantizerInput& input) {
  auto result = quantizer->quantize(input);
  REQUIRE_OK(result.status());
  return result.take();
}

}  // namespace rwkv::test
