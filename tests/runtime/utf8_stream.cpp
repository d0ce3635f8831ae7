#include "runtime/text/utf8_stream.h"

#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

/// `bytes` in two pushes, cut before `cut`, and flushed.
std::string in_two_pushes(std::string_view bytes, size_t cut) {
  Utf8Stream stream;
  std::string text(stream.push(bytes.substr(0, cut)));
  text += stream.push(bytes.substr(cut));
  text += stream.flush();
  return text;
}

std::string byte_by_byte(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  for (const char byte : bytes) {
    text += stream.push({&byte, 1});
  }
  text += stream.flush();
  return text;
}

std::string encode(uint32_t code_point) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | ((code_point >> shift) & 63));
  };
  if (code_point < 0x80) {
    return {static_cast<char>(code_point)};
  }
  if (code_point < 0x800) {
    return {static_cast<char>(0xc0 | (code_point >> 6)), tail(0)};
  }
  if (code_point < 0x10000) {
    return {static_cast<char>(0xe0 | (code_point >> 12)), tail(6), tail(0)};
  }
  return {static_cast<char>(0xf0 | (code_point >> 18)), tail(12), tail(6), tail(0)};
}

constexpr const char* kR = "\xef\xbf\xbd";

TEST_CASE("Utf8Stream gives the same text wherever it is cut", "[utf8_stream]") {
  // 1 to 4 bytes each: a, e with acute, euro sign, a CJK character, an emoji, z.
  const std::string text = "a\xc3\xa9\xe2\x82\xac\xe4\xbd\xa0\xf0\x9f\x98\x80z";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    CHECK(in_two_pushes(text, cut) == text);
  }
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      Utf8Stream stream;
      std::string got(stream.push(std::string_view(text).substr(0, first)));
      got += stream.push(std::string_view(text).substr(first, second - first));
      got += stream.push(std::string_view(text).substr(second));
      CHECK(got == text);
      CHECK(stream.flush().empty());
    }
  }
  CHECK(byte_by_byte(text) == text);
}

TEST_CASE("Utf8Stream holds back exactly the incomplete character", "[utf8_stream]") {
  Utf8Stream stream;
  CHECK(stream.push("ab\xf0\x9f") == "ab");
  CHECK(stream.push("\x98").empty());
  CHECK(stream.push("").empty());
  CHECK(stream.push("\x80!") == "\xf0\x9f\x98\x80!");
  CHECK(stream.flush().empty());
}

TEST_CASE("Utf8Stream passes every code point and no surrogate", "[utf8_stream]") {
  Utf8Stream stream;
  size_t n_wrong = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    const std::string bytes = encode(c);
    const bool is_surrogate = c >= 0xd800 && c < 0xe000;
    const std::string expected = is_surrogate ? std::string(kR) + kR + kR : bytes;
    n_wrong += stream.push(bytes) != expected ? 1u : 0u;
  }
  CHECK(n_wrong == 0);
  CHECK(stream.flush().empty());
}

TEST_CASE("Utf8Stream replaces what cannot become a character", "[utf8_stream]") {
  const std::string r = kR;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x80", r},                          // a tail byte alone
      {"\xff\xfe", r + r},                  // never in UTF-8
      {"\xc0\xaf", r + r},                  // overlong
      {"\xe0\x80\xaf", r + r + r},          // overlong
      {"\xf0\x8f\xbf\xbf", r + r + r + r},  // overlong
      {"\xf4\x90\x80\x80", r + r + r + r},  // above U+10FFFF
      {"\xf5\x80", r + r},                  //
      {"\xe2\x82"
       "a",
       r + "a"},                                     // cut short by ASCII
      {"\xe2\x82\xe2\x82\xac", r + "\xe2\x82\xac"},  // cut short by a character
      {"\xf0\x9f\x98\xc3\xa9", r + "\xc3\xa9"},      //
      {"\xc3", r},                                   // cut short by the end
      {"\xf0\x9f\x98", r},                           // one for the whole beginning
      {std::string("a\0b", 3), std::string("a\0b", 3)},
      // The example of table 3-8 in the Unicode standard.
      {"a\xf1\x80\x80\xe1\x80\xc2"
       "b\x80"
       "c\x80\xbf"
       "d",
       "a" + r + r + r + "b" + r + "c" + r + r + "d"},
  };
  for (const auto& [bytes, expected] : cases) {
    CHECK(byte_by_byte(bytes) == expected);
    for (size_t cut = 0; cut <= bytes.size(); ++cut) {
      CHECK(in_two_pushes(bytes, cut) == expected);
    }
  }
}

TEST_CASE("Utf8Stream begins anew after a flush", "[utf8_stream]") {
  Utf8Stream stream;
  CHECK(stream.push("\xe2\x82").empty());
  CHECK(stream.flush() == kR);
  CHECK(stream.flush().empty());
  CHECK(stream.push("\xac") == kR);
  CHECK(stream.push("ok") == "ok");
}

}  // namespace
}  // namespace rwkv::edge
