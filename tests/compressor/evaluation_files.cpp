// Files of questions: what is read, what is skipped and said about it, what is drawn.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <functional>

#include "compressor/evaluate/choices_set.h"
#include "compressor/evaluate/cloze_set.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

std::string line(uint64_t document, uint64_t index, uint64_t label,
                 const std::string& more = "\"doc\": {}") {
  return fmt::format(
      "{{\"doc_id\": {}, \"idx\": {}, \"label\": {}, {}, \"request\": {{\"context\": \"q{}\", "
      "\"continuation\": \" a{}\"}}}}\n",
      document, index, label, more, document, index);
}

// `text` as often as `times`, compressed.
std::string gzip(const std::string& text, const std::string& path, int times = 1,
                 const char* mode = "wb") {
  const gzFile file = gzopen(path.c_str(), mode);
  REQUIRE(file);
  for (int i = 0; i < times; ++i) {
    REQUIRE(gzwrite(file, text.data(), static_cast<unsigned>(text.size())) ==
            static_cast<int>(text.size()));
  }
  REQUIRE(gzclose(file) == Z_OK);
  return path;
}

// The most memory that a process of its own had while it did this, in bytes.
uint64_t peak_of(const std::function<Status()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    static_cast<void>(work().ok());
    ::_exit(0);
  }
  int status = 0;
  rusage used{};
  REQUIRE(::wait4(child, &status, 0, &used) == child);
  REQUIRE(WIFEXITED(status));
  return static_cast<uint64_t>(used.ru_maxrss) << 10;
}

constexpr uint64_t kMiB = uint64_t{1} << 20;

// 100 kB that compress to about a hundred-and-fiftieth, others for every `i`.
std::string compressible(uint64_t i) {
  constexpr size_t kNoise = 1000;
  std::string text(100000, 'a');
  for (size_t at = 0; at < kNoise; ++at) {
    text[at] = static_cast<char>('a' + static_cast<int>((1 + noise(i, at)) * 8));
  }
  return text;
}

Result<press::ChoicesSet> read(const ScratchFolder& scratch, const std::string& lines) {
  write_text(scratch.file("c.jsonl"), lines);
  return press::read_choices(scratch.file("c.jsonl"), {});
}

}  // namespace

TEST_CASE("Requests are put together, plain or gzipped", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string lines = line(7, 1, 1) + line(3, 0, 0) + "\r\n" + line(7, 0, 1) + line(3, 2, 0) +
                            line(3, 1, 0) + line(press::kFirstUnconditional + 3, 0, 0);
  write_text(scratch.file("plain.jsonl"), lines);
  for (const std::string& path :
       {scratch.file("plain.jsonl"), gzip(lines, scratch.file("c.jsonl.gz"))}) {
    const auto set = press::read_choices(path, {});
    REQUIRE_OK(set.status());
    const auto& documents = set.value().documents;
    REQUIRE(documents.size() == 2);
    CHECK(set.value().malformed.count + set.value().incomplete.count == 0);
    CHECK(documents[0].id == 3);
    CHECK(documents[0].line == 2);
    REQUIRE(documents[0].choices.size() == 3);
    CHECK(documents[0].choices[2].context == "q3");
    CHECK(documents[0].choices[2].continuation == " a2");
    CHECK(documents[1].id == 7);
    CHECK(documents[1].line == 1);
    CHECK(documents[1].label == 1);
  }
}

TEST_CASE("Malformed requests are named, skipped and counted", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string request = "\"request\": {\"context\": \"q\", \"continuation\": \" a\"}";
  const std::vector<std::string> wrong = {
      "\x8b\x1f binary",
      "5",
      "{}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0, \"request\": []}",
      "{\"idx\": 0, \"label\": 0, " + request + "}",
      "{\"doc_id\": 0, \"label\": 0, " + request + "}",
      "{\"doc_id\": 0, \"idx\": 0, " + request + "}",
      "{\"doc_id\": -1, \"idx\": 0, \"label\": 0, " + request + "}",
      "{\"doc_id\": 0.5, \"idx\": 0, \"label\": 0, " + request + "}",
      "{\"doc_id\": \"0\", \"idx\": 0, \"label\": 0, " + request + "}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": null, " + request + "}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0, \"request\": {\"context\": \"q\"}}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0, \"request\": {\"context\": 1, "
      "\"continuation\": \" a\"}}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0, \"request\": {\"context\": \"\", "
      "\"continuation\": \" a\"}}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0, \"request\": {\"context\": \"q\", "
      "\"continuation\": \" \"}}",
      "{\"doc_id\": 0, \"idx\": 0, \"label\": 0, \"request\": {\"context\": \"q\", "
      "\"continuation\": \"a \xff\"}}",
      "{\"x\": \"" + std::string(2 << 20, 'x') + "\"}"};
  std::string lines = line(1, 0, 0);
  for (const std::string& text : wrong) {
    lines += text + "\n";
    const auto alone = read(scratch, text);
    INFO(text.substr(0, 100));
    REQUIRE_FALSE(alone.ok());
    CHECK(alone.status().code() == Code::BadInput);
    CHECK_THAT(alone.status().message(), Contains("c.jsonl: line 1: "));
  }
  lines += line(1, 1, 0);
  const auto set = read(scratch, lines);
  REQUIRE_OK(set.status());
  CHECK(set.value().documents.size() == 1);
  CHECK(set.value().malformed.count == wrong.size());
  REQUIRE(set.value().malformed.complaints.size() == 5);
  CHECK_THAT(set.value().malformed.complaints[4], Contains("c.jsonl: line 6: "));
}

TEST_CASE("Incomplete documents are named, skipped and counted", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string whole = line(0, 0, 1) + line(0, 1, 1);
  const auto why = [&](const std::string& lines) {
    const auto set = read(scratch, whole + lines);
    REQUIRE_OK(set.status());
    CHECK(set.value().documents.size() == 1);
    REQUIRE(set.value().incomplete.count == 1);
    return set.value().incomplete.complaints.front();
  };
  CHECK_THAT(why(line(5, 0, 0)), Contains("c.jsonl: line 3: document 5 has 1 choices; expected 2"));
  CHECK_THAT(why(line(5, 0, 0) + line(5, 2, 0)), Contains("no choice 1"));
  CHECK_THAT(why(line(5, 1, 0) + line(5, 2, 0)), Contains("no choice 0"));
  CHECK_THAT(why(line(5, 0, 0) + line(5, 1, 0) + line(5, 1, 0)), Contains("choice 1 twice"));
  CHECK_THAT(why(line(5, 0, 0) + line(5, 1, 1)), Contains("label 0 and label 1"));
  CHECK_THAT(why(line(5, 0, 2) + line(5, 1, 2)), Contains("label 2"));
  const std::string three = "\"doc\": {\"choices\": [1, 2, 3]}";
  CHECK_THAT(why(line(5, 0, 0, three) + line(5, 1, 0, three)), Contains("2 choices; expected 3"));
  const auto none = read(scratch, line(5, 0, 0));
  REQUIRE_FALSE(none.ok());
  CHECK_THAT(none.status().message(), Contains("document 5"));
}

TEST_CASE("Damaged files of questions are refused", "[evaluate]") {
  const ScratchFolder scratch;
  const auto refused = [&](const std::string& path, const std::string& says) {
    for (const Status& status :
         {press::read_choices(path, {}).status(), press::read_cloze(path, {}).status()}) {
      CHECK(status.code() == Code::BadInput);
      CHECK_THAT(status.message(), Contains(path) && Contains(says));
    }
  };
  std::string many;
  for (uint64_t i = 0; i < 3000; ++i) {
    many += line(i, 0, 0) + line(i, 1, i % 2) + "{\"text\": \"a b\"}\n";
  }
  std::vector<std::byte> bytes = read_bytes(gzip(many, scratch.file("whole.gz")));
  write_bytes(scratch.file("cut.gz"), std::span(bytes).first(bytes.size() / 2));
  refused(scratch.file("cut.gz"), "ends too early");
  write_bytes(scratch.file("short.gz"), std::span(bytes).first(bytes.size() - 4));
  refused(scratch.file("short.gz"), "ends too early");
  bytes[bytes.size() / 2] ^= std::byte{0x10};
  write_bytes(scratch.file("bad.gz"), bytes);
  refused(scratch.file("bad.gz"), "damaged");
  refused(gzip("", scratch.file("nothing.gz")), "found an empty file");
  write_text(scratch.file("empty.jsonl"), "\n \n");
  refused(scratch.file("empty.jsonl"), "found an empty file");
  refused(gzip(std::string((size_t{1} << 20) + 2, '\n'), scratch.file("many.gz")), "lines");
  refused(scratch.file("missing.jsonl"), "");
  const auto unconditional = read(scratch, line(press::kFirstUnconditional, 0, 0));
  CHECK(unconditional.status().code() == Code::BadInput);
}

TEST_CASE("A part of the documents is drawn by the seed", "[evaluate]") {
  CHECK(press::draw(3, {0, 0}) == (std::vector<uint64_t>{0, 1, 2}));
  CHECK(press::draw(3, {9, 0}) == (std::vector<uint64_t>{0, 1, 2}));
  const std::vector<uint64_t> some = press::draw(1000, {100, 0});
  const std::vector<uint64_t> more = press::draw(1000, {200, 0});
  CHECK(some.size() == 100);
  CHECK(std::is_sorted(some.begin(), some.end()));
  CHECK(std::adjacent_find(some.begin(), some.end()) == some.end());
  CHECK((some == press::draw(1000, {100, 0})));
  CHECK((some != press::draw(1000, {100, 1})));
  CHECK(std::includes(more.begin(), more.end(), some.begin(), some.end()));
  // Not the first ones, nor any other stretch.
  CHECK(some.front() < 100);
  CHECK(some.back() >= 900);
  // The same on every machine: the three smallest of the first ten numbers of the engine.
  CHECK((press::draw(10, {3, 0}) == std::vector<uint64_t>{0, 2, 5}));
}

TEST_CASE("Gzip that inflates to far more than its size is refused", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("bomb.jsonl.gz");
  const std::string zeros(kMiB, '\0');
  const auto refused = [&](const std::string& says) {
    for (const bool is_cloze : {true, false}) {
      const auto read = [&](const std::string& file) {
        return is_cloze ? press::read_cloze(file, {}).status()
                        : press::read_choices(file, {}).status();
      };
      const Status status = read(path);
      INFO(status.message());
      CHECK(status.code() == Code::BadInput);
      CHECK_THAT(status.message(), Contains(path) && Contains(says));
      const uint64_t small = peak_of([&] { return read(scratch.file("missing")); });
      const uint64_t peak = peak_of([&] { return read(path); });
      INFO(peak / kMiB << " MiB, without a file " << small / kMiB);
      CHECK(peak < small + 24 * kMiB);
    }
  };
  // Zeros, one line without an end, short lines, and the same in many members.
  gzip(zeros, path, 600);
  refused("256 times its size; if that is meant, unpack it with gunzip");
  gzip("{\"text\": \"a", path);
  gzip(std::string(kMiB, 'b'), path, 600, "ab");
  refused("256 times");
  gzip(std::string(kMiB, '\n'), path, 600);
  refused("lines; split it");
  gzip(zeros, path);
  for (int i = 0; i < 200; ++i) {
    gzip(zeros, path, 1, "ab");
  }
  refused("256 times");
  // Gzip within gzip is inflated once, and is no line of JSON.
  gzip(zeros, path, 64);
  const auto inner = read_bytes(path);
  gzip({reinterpret_cast<const char*>(inner.data()), inner.size()}, path);
  refused("is not a JSON object");
}

TEST_CASE("Memory holds what is drawn of a file of questions, not the file", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("many.jsonl.gz");
  std::string text;
  for (uint64_t i = 0; i < 1000; ++i) {
    text += fmt::format("{{\"text\": \"{} {}\"}}\n", compressible(i), i);
  }
  gzip(text, path);  // 95 MiB
  text.clear();
  text.shrink_to_fit();
  const Status all = press::read_cloze(path, {}).status();
  CHECK(all.code() == Code::Usage);
  INFO(all.message());
  CHECK_THAT(all.message(), Contains(path) && Contains("--max-docs") && Contains("gunzip"));
  const auto drawn = press::read_cloze(path, {.max_docs = 20, .seed = 3});
  REQUIRE_OK(drawn.status());
  CHECK(drawn.value().available == 1000);
  const std::vector<uint64_t> expected = press::draw(1000, {.max_docs = 20, .seed = 3});
  REQUIRE(drawn.value().documents.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(drawn.value().documents[i].target == fmt::format(" {}", expected[i]));
    CHECK(drawn.value().documents[i].line == expected[i] + 1);
  }
  const uint64_t small = peak_of([] { return Status(); });
  const uint64_t peak =
      peak_of([&] { return press::read_cloze(path, {.max_docs = 20, .seed = 3}).status(); });
  INFO(peak / kMiB << " MiB, without a file " << small / kMiB);
  CHECK(peak < small + 24 * kMiB);
  CHECK(peak_of([&] { return press::read_cloze(path, {}).status(); }) < small + 112 * kMiB);

  // The same for choices, whose lines may come in any order.
  std::string lines;
  for (uint64_t i = 500; i-- > 0;) {
    for (const uint64_t choice : {1, 0}) {
      lines += fmt::format(
          "{{\"doc_id\": {}, \"idx\": {}, \"label\": 1, \"request\": {{\"context\": \"{}\", "
          "\"continuation\": \" {}\"}}}}\n",
          i, choice, compressible(2 * i + choice), 2 * i + choice);
    }
  }
  gzip(lines, path);  // 95 MiB
  lines.clear();
  lines.shrink_to_fit();
  CHECK(press::read_choices(path, {}).status().code() == Code::Usage);
  const auto some = press::read_choices(path, {.max_docs = 5, .seed = 1});
  REQUIRE_OK(some.status());
  CHECK(some.value().available == 500);
  const std::vector<uint64_t> ids = press::draw(500, {.max_docs = 5, .seed = 1});
  REQUIRE(some.value().documents.size() == ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const press::ChoiceDocument& document = some.value().documents[i];
    CHECK(document.id == ids[i]);
    CHECK(document.line == 2 * (499 - ids[i]) + 1);
    REQUIRE(document.choices.size() == 2);
    CHECK(document.choices[0].continuation == fmt::format(" {}", 2 * ids[i]));
    CHECK(document.choices[1].continuation == fmt::format(" {}", 2 * ids[i] + 1));
  }
  // Anew, since this process has grown meanwhile.
  const uint64_t now = peak_of([] { return Status(); });
  CHECK(peak_of([&] { return press::read_choices(path, {.max_docs = 5, .seed = 1}).status(); }) <
        now + 24 * kMiB);
}
