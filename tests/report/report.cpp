// The page of a sweep as text: what is refused, and that results cannot become markup.
#include "compressor/report/report.h"

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using Json = nlohmann::ordered_json;

namespace {

Json one_point() {
  return Json::parse(R"({"format": "rwkv-press-sweep", "version": 1, "title": "a sweep",
                         "points": [{"id": "0000-a", "status": "done", "resident_bytes": 7}]})");
}

// What stands in the element that holds the results.
std::string embedded(const std::string& page) {
  const std::string start = "id=\"results\">";
  const size_t from = page.find(start) + start.size();
  return page.substr(from, page.find("</script", from) - from);
}

}  // namespace

TEST_CASE("A page holds its results, the charting library and its licence", "[report]") {
  const Json results = one_point();
  const auto page = press::render_report(results);
  REQUIRE_OK(page.status());
  CHECK(Json::parse(embedded(page.value())) == results);
  CHECK(page.value().find("Permission is hereby granted") != std::string::npos);
  CHECK(page.value().size() > 200'000);
  CHECK(press::render_report(results).value() == page.value());
  for (const char* mark : {"@STYLE@", "@LICENCES@", "@RESULTS@", "@LIBRARY@", "@SCRIPTS@"}) {
    CHECK(page.value().find(mark) == std::string::npos);
  }
}

TEST_CASE("Markup in results is escaped, and bytes that are no text replaced", "[report]") {
  const std::string hostile = "</script><!--<script>&\xe2\x80\xa8@RESULTS@";
  Json results = one_point();
  results["title"] = hostile;
  results["points"][0]["settings"] = {{hostile, hostile}};
  const auto page = press::render_report(results);
  REQUIRE_OK(page.status());
  CHECK(Json::parse(embedded(page.value())) == results);
  CHECK(embedded(page.value()).find_first_of("<>&") == std::string::npos);

  results["title"] = "\xff";
  const auto replaced = press::render_report(results);
  REQUIRE_OK(replaced.status());
  CHECK(Json::parse(embedded(replaced.value()))["title"] == "\xef\xbf\xbd");
}

TEST_CASE("What is not a sweep's results is refused", "[report]") {
  Json results = one_point();
  std::string wanted;
  SECTION("no object") {
    results = Json::array({1});
    wanted = "rwkv-press-sweep";
  }
  SECTION("another format") {
    results["format"] = "something else";
    wanted = "rwkv-press-sweep";
  }
  SECTION("a later version") {
    results["version"] = 2;
    wanted = "version 2";
  }
  SECTION("no points") {
    results.erase("points");
    wanted = "\"points\"";
  }
  SECTION("a point without a name") {
    results["points"].push_back({{"status", "done"}});
    wanted = "point 1";
  }
  const auto page = press::render_report(results);
  REQUIRE_FALSE(page.ok());
  CHECK(page.status().code() == Code::BadInput);
  CHECK_THAT(page.status().message(), Catch::Contains(wanted));

  const ScratchFolder scratch;
  CHECK_FALSE(press::write_report(results, scratch.file("report.html")).ok());
  CHECK(scratch.entries().empty());
}

TEST_CASE("A page is written whole, over an older one", "[report]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("report.html");
  write_text(path, "an older page");
  REQUIRE_OK(press::write_report(one_point(), path));
  const auto bytes = read_bytes(path);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CHECK((text == press::render_report(one_point()).value()));
  CHECK(scratch.entries() == std::vector<std::string>{"report.html"});
  CHECK(press::write_report(one_point(), scratch.file("no/such/folder.html")).code() ==
        Code::Failed);
}
