// Catch2, version 3 or 2 (Debian 13 and 12), under the names that our tests use: `Approx` and
// `Catch::Contains`, which version 3 calls ContainsSubstring.
#pragma once

// glog, which LibTorch's headers bring along, has a CHECK of its own, which ends the process.
#undef CHECK

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/catch_tostring.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using Catch::Approx;
namespace Catch {
inline auto Contains(const std::string& part) {
  return Matchers::ContainsSubstring(part);
}
using Matchers::EndsWith;
using Matchers::StartsWith;
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif

#include <cstddef>
#include <string>
#include <vector>

/// glog also prints vectors, of whatever can be printed; bytes cannot.
template <>
struct Catch::StringMaker<std::vector<std::byte>> {
  static std::string convert(const std::vector<std::byte>& bytes) {
    return std::to_string(bytes.size()) + " bytes";
  }
};
