// formats/base/printable: what is shown of bytes from outside.
#include "formats/base/printable.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "formats/base/utf8.h"
#include "tests/support/catch.h"

namespace rwkv {
namespace {

std::string utf8(uint32_t value) {
  std::string text;
  append_utf8(text, value);
  return text;
}

// Whether a terminal could do anything with `text` but show it.
bool has_controls(std::string_view text, std::string_view allowed) {
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    if (point.length == 0) {
      return true;
    }
    const bool is_control = point.value < 0x20 || (point.value >= 0x7f && point.value < 0xa0);
    if (is_control && allowed.find(static_cast<char>(point.value)) == std::string_view::npos) {
      return true;
    }
    text.remove_prefix(point.length);
  }
  return false;
}

}  // namespace

TEST_CASE("printable shows controls, invisible characters and invalid bytes", "[printable]") {
  REQUIRE(printable("plain text: 'a' \\ \"b\"") == "plain text: 'a' \\ \"b\"");
  REQUIRE(printable("\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80") ==
          "\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80");
  REQUIRE(printable("a\nb\tc\rd") == "a\\nb\\tc\\rd");
  REQUIRE(printable("\x1b[31mred\x1b]0;title\x07") == "\\x1b[31mred\\x1b]0;title\\x07");
  REQUIRE(printable(std::string_view("\0\x7f", 2)) == "\\x00\\x7f");
  // C1 controls: one byte is no UTF-8, two bytes are U+009B, which some terminals obey.
  REQUIRE(printable("\x9b") == "\\x9b");
  REQUIRE(printable("\xc2\x9b") == "\\u{9b}");
  REQUIRE(printable(utf8(0x202e) + "gnp.exe") == "\\u{202e}gnp.exe");
  for (const uint32_t value : {0x00adu, 0x061cu, 0x200bu, 0x200fu, 0x2028u, 0x2029u, 0x2066u,
                               0x2069u, 0xfeffu, 0xfff9u, 0xe0041u}) {
    CAPTURE(value);
    REQUIRE(printable(utf8(value)) == fmt::format("\\u{{{:x}}}", value));
  }
  // Overlong forms, surrogates, a character that was cut.
  REQUIRE(printable("\xc0\x9b") == "\\xc0\\x9b");
  REQUIRE(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  REQUIRE(printable("\xe4\xb8") == "\\xe4\\xb8");
}

TEST_CASE("printable lets no control through, and changes nothing the second time", "[printable]") {
  std::string all;
  for (uint32_t value = 0; value < 0x3000; ++value) {
    all += utf8(value);
  }
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
  }
  const std::string once = printable(all, all.size());
  REQUIRE_FALSE(has_controls(once, ""));
  REQUIRE(printable(once, once.size()) == once);
  REQUIRE_FALSE(has_controls(printable_lines(all), "\n\t"));
  REQUIRE_FALSE(has_controls(printable_stream(all), "\n\t"));
}

TEST_CASE("printable leaves out the middle of a long text, between characters", "[printable]") {
  const std::string text = std::string(5000, 'a') + "do this";
  const std::string shown = printable(text, 400);
  REQUIRE(shown.starts_with(std::string(300, 'a') + " [... 4607 bytes left out ...] aaa"));
  REQUIRE(shown.ends_with("do this"));
  std::string wide;
  for (int i = 0; i < 1000; ++i) {
    wide += "\xe4\xb8\xad";
  }
  for (const size_t limit : {100u, 101u, 102u, 103u}) {
    CAPTURE(limit);
    REQUIRE(printable(wide, limit).find("\\x") == std::string::npos);
  }
  REQUIRE(printable(std::string(9, '\x80'), 4).size() > 4);
  REQUIRE(printable(text, text.size()) == text);
}

TEST_CASE("printable keeps lines where lines are meant, and what scripts need", "[printable]") {
  REQUIRE(printable_lines("a\n\tb\x1b[2J") == "a\n\tb\\x1b[2J");
  REQUIRE(printable_lines(utf8(0x202e)) == "\\u{202e}");
  const std::string family = utf8(0x1f469) + utf8(0x200d) + utf8(0x1f467) + utf8(0xfe0f);
  REQUIRE(printable_stream(family + "\n\t") == family + "\n\t");
  REQUIRE(printable_stream("\r\x1b]52;c;AAAA\x07") == "\\r\\x1b]52;c;AAAA\\x07");
  REQUIRE(printable_stream(utf8(0x202e)) == "\\u{202e}");
}

TEST_CASE("printable JSON means the same", "[printable]") {
  const nlohmann::json value = {{utf8(0x202e) + "\x1b", "a\x7f" + utf8(0x9b) + utf8(0xe0041)}};
  const std::string shown = printable_json(value.dump(2));
  REQUIRE(nlohmann::json::parse(shown) == value);
  REQUIRE_FALSE(has_controls(shown, "\n"));
  REQUIRE(shown.find("\\u202e") != std::string::npos);
  REQUIRE(shown.find("\\udb40\\udc41") != std::string::npos);
}

}  // namespace rwkv
