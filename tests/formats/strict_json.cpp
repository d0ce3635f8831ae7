// formats/base/strict_json: what is refused before and while JSON from outside becomes a value.
#include "formats/base/strict_json.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;

std::string refusal(const std::string& text) {
  const auto parsed = parse_strict_json(text);
  REQUIRE_FALSE(parsed.ok());
  REQUIRE(parsed.status().code() == Code::BadInput);
  return parsed.status().message();
}

}  // namespace

TEST_CASE("strict JSON is what any parser reads", "[strict_json]") {
  const std::string text = R"({"a":[1,-2.5,"x\"]},{",null,true,{}],"b":{"a":1,"c":{"a":2}}})";
  const auto parsed = parse_strict_json(text);
  REQUIRE_OK(parsed.status());
  REQUIRE(parsed.value() == nlohmann::json::parse(text));
  REQUIRE_THAT(refusal("{\"a\":"), Contains("not valid JSON"));
  REQUIRE_THAT(refusal(""), Contains("not valid JSON"));
  REQUIRE_THAT(refusal("]]]]"), Contains("not valid JSON"));
}

TEST_CASE("strict JSON has no key twice, in any object", "[strict_json]") {
  REQUIRE_THAT(refusal(R"({"a":1,"a":2})"), Contains("an object has the key 'a' twice"));
  REQUIRE_THAT(refusal(R"({"x":[{"a":1},{"b":{"c":1,"d":2,"c":3}}]})"),
               Contains("the key 'c' twice"));
  // The first of several, not the last key of its object; escaped, and cut where it is long.
  REQUIRE_THAT(refusal(R"({"b":1,"c":{"c":0},"b":2,"c":3,"d":{"e":1,"e":1}})"),
               Contains("the key 'b' twice"));
  REQUIRE_THAT(refusal(R"({"a\nb":1,"a\nb":2})"), Contains(R"('a\nb')"));
  const std::string lengthy(5000, 'k');
  CHECK(refusal("{\"" + lengthy + "\":1,\"" + lengthy + "\":2}").size() < 200);
  // Two spellings of one key.
  REQUIRE_THAT(refusal("{\"a\":1,\"\\u0061\":2}"), Contains("the key 'a' twice"));
  REQUIRE_OK(parse_strict_json(R"([{"a":1},{"a":1}])").status());
}

TEST_CASE("strict JSON is bounded in depth and in values", "[strict_json]") {
  REQUIRE_OK(parse_strict_json(std::string(32, '[') + std::string(32, ']')).status());
  REQUIRE_THAT(refusal(std::string(33, '[') + std::string(33, ']')),
               Contains("more than 32 levels"));
  std::string arrays = "[[]";
  for (int i = 0; i < 300'000; ++i) {
    arrays += ",[]";
  }
  REQUIRE_THAT(refusal(arrays + "]"), Contains("objects and arrays"));
  std::string numbers = "[0";
  for (int i = 0; i < 1'100'000; ++i) {
    numbers += ",0";
  }
  REQUIRE_THAT(refusal(numbers + "]"), Contains("values"));
}

}  // namespace rwkv
