// What outputs do with links, modes and folders, and with what killed processes left.
#include "formats/base/output_file.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "formats/base/leftovers.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Entries = std::vector<std::string>;
using Existing = OutputFile::Existing;
using test::ScratchFolder;

std::vector<std::string> said;  // by the listener

void listen() {
  said.clear();
  set_leftover_listener([](const std::string& line) { said.push_back(line); });
}

std::string content(const std::string& path) {
  const auto bytes = test::read_bytes(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Status write_new(const std::string& path, Existing existing = Existing::Replace) {
  RWKV_ASSIGN(const auto file, OutputFile::create(path, existing));
  RWKV_TRY(file->write(test::as_bytes("new")));
  return file->commit();
}

unsigned mode_of(const std::string& path) {
  struct stat info = {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

// A process that has begun an output and waits.
class Writer {
 public:
  explicit Writer(const std::string& path) {
    int ends[2] = {};
    REQUIRE(::pipe(ends) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const auto file = OutputFile::create(path, Existing::Replace);
      const bool is_fine = file.ok() && file.value()->write(std::vector<std::byte>(2 << 20)).ok();
      if (!is_fine || ::write(ends[1], "x", 1) != 1) {
        ::_exit(1);
      }
      ::pause();
      ::_exit(1);
    }
    char byte = 0;
    REQUIRE(::read(ends[0], &byte, 1) == 1);
    ::close(ends[0]);
    ::close(ends[1]);
  }
  ~Writer() { kill(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  void kill() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = 0;
    }
  }
  std::string unfinished(const std::string& name) const {
    return fmt::format("{}.unfinished-{}", name, pid_);
  }

 private:
  pid_t pid_ = 0;
};

}  // namespace

TEST_CASE("What a killed process left of an output is removed by the next, and said") {
  const ScratchFolder folder;
  const std::string path = folder.file("out");
  listen();
  Writer writer(path);
  const std::string left = writer.unfinished("out");
  REQUIRE(folder.entries() == Entries{left});

  // Not while its owner lives, whatever else begins.
  REQUIRE_OK(write_new(path));
  REQUIRE(folder.entries() == Entries{"out", left});
  REQUIRE(said.empty());

  // Not by the output of another name.
  writer.kill();
  REQUIRE_OK(write_new(folder.file("ou")));
  REQUIRE_OK(write_new(folder.file("out2")));
  REQUIRE(folder.entries() == Entries{"ou", "out", left, "out2"});

  REQUIRE_OK(OutputFile::check(path, Existing::Replace));
  REQUIRE(folder.entries() == Entries{"ou", "out", "out2"});
  REQUIRE(said.size() == 1);
  REQUIRE_THAT(said.front(), Contains("removed " + folder.file(left)) && Contains("2097152 bytes"));
}

TEST_CASE("Only files that outputs leave are taken for leftovers") {
  const ScratchFolder folder;
  const std::string kind = "out.unfinished-";
  const Entries others = {kind,           kind + "12-", kind + "12-3-4",  kind + "12a",
                          kind + "a12",   kind + "-1",  "out.unfinished", ".unfinished-12",
                          "unfinished-12"};
  for (const std::string& name : others) {
    test::write_text(folder.file(name), "theirs");
  }
  fs::create_directory(folder.file(kind + "21"));
  test::write_text(folder.file("precious"), "kept");
  fs::create_symlink(folder.file("precious"), folder.file(kind + "22"));
  test::write_text(folder.file(kind + "23"), "left");
  test::write_text(folder.file(kind + "23-1"), "left");
  test::write_text(folder.file("step-1.unfinished-7"), "left");
  listen();
  remove_leftovers(folder.path().string(), "out");
  REQUIRE(said.size() == 2);
  remove_leftovers(folder.path().string(), "");
  REQUIRE(said.size() == 3);
  Entries expected = others;
  expected.insert(expected.end(), {kind + "21", kind + "22", "precious"});
  std::sort(expected.begin(), expected.end());
  REQUIRE(folder.entries() == expected);
  REQUIRE(content(folder.file("precious")) == "kept");
}

TEST_CASE("An output that is a symbolic link: to nothing, refused; to a file, that file") {
  const ScratchFolder folder;
  fs::create_directory(folder.file("there"));
  const std::string target = folder.file("there/target");
  const std::string link = folder.file("link");
  fs::create_symlink(target, link);
  for (const Existing existing : {Existing::Refuse, Existing::Replace}) {
    const Status refused = OutputFile::check(link, existing);
    REQUIRE(refused.code() == Code::Usage);
    REQUIRE_THAT(refused.message(), Contains(link) && Contains("leads to no file"));
  }
  test::write_text(target, "old");
  REQUIRE_THAT(OutputFile::check(link, Existing::Refuse).message(), Contains("--force"));
  REQUIRE_OK(write_new(link));
  REQUIRE(fs::is_symlink(link));
  REQUIRE(content(target) == "new");
  REQUIRE(std::distance(fs::directory_iterator(folder.file("there")), {}) == 1);

  fs::create_symlink(link, folder.file("far"));  // a link to a link
  test::write_text(target, "old");
  REQUIRE_OK(write_new(folder.file("far")));
  REQUIRE(content(target) == "new");
  fs::create_symlink("loop", folder.file("loop"));
  REQUIRE_FALSE(OutputFile::check(folder.file("loop"), Existing::Replace).ok());
}

TEST_CASE("A file that replaces another keeps its mode; a new one follows the umask") {
  const ScratchFolder folder;
  const std::string path = folder.file("out");
  test::write_text(path, "old");
  for (const unsigned mode : {0600u, 0640u, 0444u, 0755u, 0666u}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    {
      const auto file = OutputFile::create(path, Existing::Replace);
      REQUIRE_OK(file.status());
      REQUIRE(mode_of(file.value()->temporary_path()) == mode);
    }
    REQUIRE_OK(write_new(path));
    REQUIRE(mode_of(path) == mode);
  }
  const mode_t before = ::umask(027);
  const Status status = write_new(folder.file("fresh"), Existing::Refuse);
  ::umask(before);
  REQUIRE_OK(status);
  REQUIRE(mode_of(folder.file("fresh")) == 0640);
}

TEST_CASE("A file of another owner is replaced with its owner, where that is allowed") {
  if (::geteuid() != 0) {
    SUCCEED("only root may give files away");
    return;
  }
  const ScratchFolder folder;
  const std::string path = folder.file("out");
  test::write_text(path, "old");
  REQUIRE(::chown(path.c_str(), 4321, 1234) == 0);
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  REQUIRE_OK(write_new(path));
  struct stat info = {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  REQUIRE(info.st_uid == 4321);
  REQUIRE(info.st_gid == 1234);
  REQUIRE(mode_of(path) == 0640);
}

TEST_CASE("A folder that does not exist or may not be written is refused at the start") {
  const ScratchFolder folder;
  const Status missing = OutputFile::check(folder.file("no/such/out"), Existing::Refuse);
  REQUIRE(missing.code() == Code::Failed);
  REQUIRE_THAT(missing.message(), Contains("there is no folder " + folder.file("no/such")));
  fs::create_directory(folder.file("closed"));
  fs::permissions(folder.file("closed"), fs::perms(0555));
  fs::permissions(folder.path(), fs::perms(0755));
  const uid_t user = ::geteuid();
  constexpr uid_t kNobody = 65534;
  if (user == 0) {  // root may write everywhere
    REQUIRE(::seteuid(kNobody) == 0);
  }
  const Status closed = OutputFile::check(folder.file("closed/out"), Existing::Refuse);
  REQUIRE(::seteuid(user) == 0);
  REQUIRE(closed.code() == Code::Failed);
  REQUIRE_THAT(closed.message(), Contains("cannot create: Permission denied"));
}

}  // namespace rwkv
