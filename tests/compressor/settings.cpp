// Settings: what is read, refused and printed, and whether docs/recipes.md knows every key and its
// default.
#include "compressor/options/settings.h"

#include <array>
#include <charconv>
#include <cmath>
#include <regex>

#include "compressor/recipe/budget.h"
#include "compressor/recipe/recipe.h"
#include "formats/base/file.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;

namespace {

constexpr std::array<const char*, 2> kColours = {"red", "green"};

struct Paint {
  uint64_t coats = 2;
  double thickness = 0.5;
  bool glossy = false;
  size_t colour = 1;
  std::string name = "none";
  std::vector<std::string> rooms = {"hall"};
  uint64_t volume = 1000;
  Codec codec = Codec::F16;
  std::vector<press::Override<double>> exceptions;

  press::Settings settings() {
    using namespace press::setting;
    return {"paint",
            {
                count("coats", coats, 1, 3, "layers"),
                real("thickness", thickness, 0, 1, "of a layer"),
                flag("glossy", glossy, "shines"),
                choice("colour", colour, kColours, "of the paint"),
                text("name", name, "of the colour").shown_if(name != "none"),
                texts("rooms", rooms, "where"),
                bytes("volume", volume, "how much"),
                press::setting::codec("codec", codec, "of the picture"),
                overrides<double>(
                    "exceptions", exceptions,
                    [](double& value) { return real("thickness", value, 0, 1, "there"); }, ""),
            }};
  }
  Status read(const std::string& yaml) { return settings().read(YAML::Load(yaml)); }
  std::string printed() {
    YAML::Emitter out;
    settings().emit(out, /*flow=*/true);
    return out.c_str();
  }
};

// The lines of a section of a page, from its heading to the next.
std::vector<std::string> section(const std::string& page, const std::string& heading) {
  const size_t begin = page.find(heading + "\n");
  REQUIRE(begin != std::string::npos);
  const size_t end = page.find("\n#", begin);
  std::vector<std::string> lines;
  std::string line;
  for (const char c : page.substr(begin, end - begin)) {
    if (c == '\n') {
      lines.push_back(line);
      line.clear();
    } else {
      line += c;
    }
  }
  lines.push_back(line);
  return lines;
}

// Whether a line has a number, or the word, that the default is.
bool states(const std::string& line, const std::string& value) {
  double expected = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), expected);
  if (error != std::errc() || end != value.data() + value.size()) {
    return value.empty() || line.find(value) != std::string::npos;
  }
  static const std::regex number("[0-9][0-9.]*(e-?[0-9]+)?");
  for (std::sregex_iterator at(line.begin(), line.end(), number), last; at != last; ++at) {
    if (std::stod(at->str()) == expected) {
      return true;
    }
  }
  return false;
}

void check_documented(const std::string& heading, const press::Settings& settings) {
  auto page = read_text_file(std::string(RWKV_SOURCE_DIR) + "/docs/recipes.md", 1 << 20);
  REQUIRE_OK(page.status());
  const std::vector<std::string> lines = section(page.value(), heading);
  for (const press::Setting& setting : settings.list()) {
    const std::string key = "`" + std::string(setting.key) + "`";
    // In the first cell of a table's row, or in a section without a table.
    const auto line = std::find_if(lines.begin(), lines.end(), [&](const std::string& text) {
      const size_t at = text.find(key);
      return at != std::string::npos && (text[0] != '|' || at < text.find('|', 1));
    });
    CAPTURE(heading, key, setting.value_text());
    REQUIRE(line != lines.end());
    CHECK_FALSE(setting.help.empty());
    // Lists are described, one of the two budgets is given, and a precision is printed as what
    // `auto` has become.
    const std::string value = setting.value_text();
    CHECK((value.starts_with("[") || setting.key == "precision" || value == "\"\"" ||
           setting.key == "resident" || setting.key == "size" || states(*line, value)));
  }
}

}  // namespace

TEST_CASE("Settings are read and printed", "[settings]") {
  Paint paint;
  CHECK(paint.printed() ==
        "{coats: 2, thickness: 0.5, glossy: false, colour: green, rooms: [hall], volume: 1000, "
        "codec: f16}");
  const std::string given =
      "{coats: 3, thickness: 0.25, glossy: true, colour: red, name: rust, rooms: [attic, cellar], "
      "volume: 2MB, codec: i8_row, exceptions: [{match: \"a*\", thickness: 1}]}";
  REQUIRE_OK(paint.read(given));
  CHECK(paint.coats == 3);
  CHECK(paint.colour == 0);
  CHECK(paint.volume == 2'000'000);
  CHECK(paint.codec == Codec::I8Row);
  REQUIRE(paint.exceptions.size() == 1);
  CHECK(paint.exceptions[0].value == 1);
  Paint again;
  REQUIRE_OK(again.read(paint.printed()));
  CHECK(again.printed() == paint.printed());
  // What is not given stays.
  REQUIRE_OK(again.read("{coats: 1}"));
  CHECK(again.thickness == 0.25);
}

TEST_CASE("A wrong setting is named with what was expected and found", "[settings]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{coat: 2}", "unknown key 'paint.coat' (line 1); did you mean 'coats'?"},
      {"[coats]", "paint: expected a map with the keys coats, thickness"},
      {"{coats: 4}", "paint.coats: expected an integer from 1 to 3, got '4'"},
      {"{coats: 1.5}", "got '1.5'"},
      {"{coats: [1]}", "paint.coats: expected an integer from 1 to 3, got a list"},
      {"{thickness: thin}", "paint.thickness: expected a number from 0 to 1, got 'thin'"},
      {"{thickness: .nan}", "got '.nan'"},
      {"{glossy: yes}", "paint.glossy: expected true or false, got 'yes'"},
      {"{colour: gren}", "expected red or green, got 'gren'; did you mean 'green'?"},
      {"{colour: {}}", "paint.colour: expected red or green, got a map"},
      {"{rooms: hall}", "paint.rooms: expected a list of texts, got 'hall'"},
      {"{volume: much}", "paint.volume: "},
      {"{codec: sign_row}", "paint.codec: expected f32, f16"},
      {"{codec: i8row}", "did you mean 'i8_row'?"},
      {"{exceptions: {}}", "expected a list of {match: GLOB, thickness: VALUE}, got a map"},
      {"{exceptions: [{match: a}]}", "found an entry without thickness"},
      {"{exceptions: [{match: a, thikness: 1}]}", "did you mean 'thickness'?"},
      {"{exceptions: [{match: a, thickness: 2}]}", "paint.exceptions.thickness: expected a number"},
  };
  for (const auto& [given, says] : cases) {
    Paint paint;
    const Status status = paint.read(given);
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Catch::Contains(says));
  }
}

TEST_CASE("docs/recipes.md has every key and its default", "[settings]") {
  for (const press::StageTraits& traits : press::stage_list()) {
    const auto stage = traits.make();
    check_documented(std::string("### Stage `") + traits.name + "`", stage->settings());
  }
  press::Budget budget;
  check_documented("### Budget", press::budget_settings(budget));
}
