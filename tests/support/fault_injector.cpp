// The library that makes calls fail; see fault_injector.h. It is loaded in front of the C library
// and replaces functions of it, for the program and all libraries that it uses.
//
// It is also a fork server: with RWKV_FAULT_SERVER set, main() is run once per request, in a child
// of the process that has loaded all libraries. Loading them takes longer than such a run.
#include "tests/support/fault_injector.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using rwkv::test::Call;
using rwkv::test::Fault;
using rwkv::test::FaultPlan;
using rwkv::test::ServerRequest;

FaultPlan* plan = nullptr;
constexpr size_t kMaxPath = 2048;

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}
// The function that would be called without this library.
#define NEXT(name) static auto* const real = next<decltype(name)>(#name)

bool is_inside(const char* path) {
  if (plan == nullptr || path == nullptr) {
    return false;
  }
  const size_t n = std::strlen(plan->folder);
  if (path[0] == '/') {
    return std::strncmp(path, plan->folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
  }
  char here[kMaxPath];
  if (::syscall(SYS_getcwd, here, sizeof(here)) <= 0) {
    return false;
  }
  return std::strncmp(here, plan->folder, n) == 0 && (here[n] == '/' || here[n] == '\0');
}

// The name of an open file, or nullptr.
const char* path_of(int fd, char* buffer) {
  char link[64];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const long n = ::syscall(SYS_readlinkat, AT_FDCWD, link, buffer, kMaxPath - 1);
  if (n <= 0) {
    return nullptr;
  }
  buffer[n] = '\0';
  return buffer;
}

// Counts a call, and says what is to happen to it.
Fault fault_of(Call call, const char* path) {
  if (!is_inside(path)) {
    return Fault::None;
  }
  const int64_t n = plan->counts[static_cast<int>(call)].fetch_add(1);
  if (plan->fault == Fault::None || call != plan->call || n != plan->at) {
    return Fault::None;
  }
  std::snprintf(plan->struck, sizeof(plan->struck), "%s", path);
  plan->n_struck.fetch_add(1);
  if (plan->fault == Fault::Kill) {
    ::kill(::getpid(), SIGKILL);
  }
  errno = plan->error;
  return plan->fault;
}

Fault fault_of(Call call, int fd) {
  if (plan == nullptr) {
    return Fault::None;
  }
  const int before = errno;
  char buffer[kMaxPath];
  const char* const path = path_of(fd, buffer);
  errno = before;
  return fault_of(call, path);
}

bool fails(Call call, const char* path) {
  return fault_of(call, path) == Fault::Fail;
}
bool fails(Call call, int fd) {
  return fault_of(call, fd) == Fault::Fail;
}

// How many of `n` bytes are written; negative for an error.
int64_t writable(int fd, int64_t n) {
  char buffer[kMaxPath];
  if (plan == nullptr || !is_inside(path_of(fd, buffer))) {
    return n;
  }
  const Fault fault = fault_of(Call::Write, buffer);
  if (fault == Fault::Fail) {
    return -1;
  }
  if (fault == Fault::Zero) {
    return 0;
  }
  if (fault == Fault::Short) {
    n = std::max<int64_t>(n / 2, std::min<int64_t>(n, 1));
  }
  if (plan->room.load() >= 0 && n > 0) {
    const int64_t room = plan->room.load();
    if (room == 0) {
      plan->n_struck.fetch_add(1);
      errno = ENOSPC;
      return -1;
    }
    n = std::min(n, room);
    plan->room.fetch_sub(n);
  }
  return n;
}

// How many of `n` bytes are read; negative for an error.
int64_t readable(int fd, int64_t n) {
  const Fault fault = fault_of(Call::Read, fd);
  return fault == Fault::Fail    ? -1
         : fault == Fault::Short ? std::max<int64_t>(n / 2, std::min<int64_t>(n, 1))
                                 : n;
}

unsigned mode_in(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, unsigned)
                                                                    : 0;
}

__attribute__((constructor)) void map_plan() {
  const char* const path = std::getenv(rwkv::test::kPlanVariable);
  if (path == nullptr) {
    return;
  }
  const long fd = ::syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  void* const memory = ::mmap(nullptr, sizeof(FaultPlan), PROT_READ | PROT_WRITE, MAP_SHARED,
                              static_cast<int>(fd), 0);
  if (fd < 0 || memory == MAP_FAILED) {
    std::fprintf(stderr, "fault injector: %s cannot be mapped\n", path);
    ::_exit(99);
  }
  ::syscall(SYS_close, fd);
  plan = static_cast<FaultPlan*>(memory);
}

// ---- the fork server

int (*program_main)(int, char**, char**) = nullptr;

bool read_whole(int fd, void* to, size_t n) {
  for (size_t done = 0; done < n;) {
    const long got = ::syscall(SYS_read, fd, static_cast<char*>(to) + done, n - done);
    if (got <= 0) {
      return false;
    }
    done += static_cast<size_t>(got);
  }
  return true;
}

[[noreturn]] void run_request(char* strings, size_t n_bytes, unsigned seconds, char* program) {
  char* words[256] = {program};
  int n = 1;
  const char* files[2] = {};
  int n_files = 0;
  for (size_t at = 0; at < n_bytes; at += std::strlen(strings + at) + 1) {
    if (n_files < 2) {
      files[n_files++] = strings + at;
    } else if (n < 255) {
      words[n++] = strings + at;
    }
  }
  for (int i = 0; i < 2; ++i) {
    const long fd = ::syscall(SYS_openat, AT_FDCWD, files[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(static_cast<int>(fd), i + 1);
    ::syscall(SYS_close, fd);
  }
  ::unsetenv(rwkv::test::kServerVariable);
  ::alarm(seconds);
  const int code = program_main(n, words, environ);
  std::fflush(nullptr);
  ::_exit(code);  // the destructors of all libraries take as long as the run
}

int serve(int in, int out, char* program) {
  static char strings[1 << 16];
  ServerRequest request = {};
  while (read_whole(in, &request, sizeof(request)) && request.n_bytes <= sizeof(strings) &&
         read_whole(in, strings, request.n_bytes)) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::syscall(SYS_close, in);
      ::syscall(SYS_close, out);
      run_request(strings, request.n_bytes, request.seconds, program);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (::syscall(SYS_write, out, &status, sizeof(status)) != sizeof(status)) {
      return 1;
    }
  }
  return 0;
}

int main_or_server(int argc, char** argv, char** environment) {
  const char* const server = std::getenv(rwkv::test::kServerVariable);
  int in = -1;
  int out = -1;
  if (server != nullptr && std::sscanf(server, "%d,%d", &in, &out) == 2) {
    return serve(in, out, argv[0]);
  }
  return program_main(argc, argv, environment);
}

// A folder is opened to make its names permanent, for a file without a name, and, by openat() from
// the C++ library, to list it. The plan tells them apart.
bool fails_to_open(const char* path, int flags, bool is_relative) {
  const bool is_unnamed = (flags & O_TMPFILE) == O_TMPFILE;
  const bool is_listed = is_relative && (flags & O_DIRECTORY) != 0;
  if (!is_unnamed && !is_listed) {
    return fails(Call::Open, path);
  }
  char what[kMaxPath];
  std::snprintf(what, sizeof(what), "%s/%s", path, is_unnamed ? "(unnamed)" : "(names)");
  return fails(Call::Open, what);
}

}  // namespace

extern "C" {

int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(),
                      void (*fini)(), void (*rtld_fini)(), void* stack_end) {
  program_main = main;
  return next<decltype(__libc_start_main)>("__libc_start_main")(main_or_server, argc, argv, init,
                                                                fini, rtld_fini, stack_end);
}

#define DEFINE_OPEN(name)                                                    \
  int name(const char* path, int flags, ...) {                               \
    NEXT(name);                                                              \
    va_list arguments;                                                       \
    va_start(arguments, flags);                                              \
    const unsigned mode = mode_in(flags, arguments);                         \
    va_end(arguments);                                                       \
    return fails_to_open(path, flags, false) ? -1 : real(path, flags, mode); \
  }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                                                         \
  int name(int folder, const char* path, int flags, ...) {                          \
    NEXT(name);                                                                     \
    va_list arguments;                                                              \
    va_start(arguments, flags);                                                     \
    const unsigned mode = mode_in(flags, arguments);                                \
    va_end(arguments);                                                              \
    return fails_to_open(path, flags, true) ? -1 : real(folder, path, flags, mode); \
  }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

#define DEFINE_FOPEN(name)                                       \
  FILE* name(const char* path, const char* mode) {               \
    NEXT(name);                                                  \
    return fails(Call::Open, path) ? nullptr : real(path, mode); \
  }
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)

DIR* opendir(const char* path) {
  NEXT(opendir);
  return fails(Call::List, path) ? nullptr : real(path);
}

ssize_t read(int fd, void* to, size_t n) {
  NEXT(read);
  const int64_t some = readable(fd, static_cast<int64_t>(n));
  return some < 0 ? -1 : real(fd, to, static_cast<size_t>(some));
}

#define DEFINE_PREAD(name)                                                  \
  ssize_t name(int fd, void* to, size_t n, off_t offset) {                  \
    NEXT(name);                                                             \
    const int64_t some = readable(fd, static_cast<int64_t>(n));             \
    return some < 0 ? -1 : real(fd, to, static_cast<size_t>(some), offset); \
  }
DEFINE_PREAD(pread)
DEFINE_PREAD(pread64)

ssize_t write(int fd, const void* from, size_t n) {
  NEXT(write);
  const int64_t some = writable(fd, static_cast<int64_t>(n));
  return some < 0 || (some == 0 && n > 0) ? some : real(fd, from, static_cast<size_t>(some));
}

#define DEFINE_PWRITE(name)                                                                      \
  ssize_t name(int fd, const void* from, size_t n, off_t offset) {                               \
    NEXT(name);                                                                                  \
    const int64_t some = writable(fd, static_cast<int64_t>(n));                                  \
    return some < 0 || (some == 0 && n > 0) ? some                                               \
                                            : real(fd, from, static_cast<size_t>(some), offset); \
  }
DEFINE_PWRITE(pwrite)
DEFINE_PWRITE(pwrite64)

// As the first piece alone where it is shortened, which callers must expect.
ssize_t writev(int fd, const iovec* pieces, int n_pieces) {
  NEXT(writev);
  int64_t n = 0;
  for (int i = 0; i < n_pieces; ++i) {
    n += static_cast<int64_t>(pieces[i].iov_len);
  }
  const int64_t some = writable(fd, n);
  if (some < 0 || (some == 0 && n > 0)) {
    return some;
  }
  if (some == n) {
    return real(fd, pieces, n_pieces);
  }
  int first = 0;
  while (pieces[first].iov_len == 0) {
    ++first;
  }
  const iovec part = {pieces[first].iov_base,
                      std::min(pieces[first].iov_len, static_cast<size_t>(some))};
  return real(fd, &part, 1);
}

#define DEFINE_MMAP(name)                                                                \
  void* name(void* at, size_t n, int protection, int flags, int fd, off_t offset) {      \
    NEXT(name);                                                                          \
    return fd >= 0 && fails(Call::Map, fd) ? MAP_FAILED                                  \
                                           : real(at, n, protection, flags, fd, offset); \
  }
DEFINE_MMAP(mmap)
DEFINE_MMAP(mmap64)

int fsync(int fd) {
  NEXT(fsync);
  return fails(Call::Sync, fd) ? -1 : real(fd);
}
int fdatasync(int fd) {
  NEXT(fdatasync);
  return fails(Call::Sync, fd) ? -1 : real(fd);
}
int rename(const char* from, const char* to) noexcept {
  NEXT(rename);
  return fails(Call::Rename, to) ? -1 : real(from, to);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  NEXT(renameat2);
  return fails(Call::Rename, to) ? -1 : real(from_folder, from, to_folder, to, flags);
}
int link(const char* from, const char* to) noexcept {
  NEXT(link);
  return fails(Call::Rename, to) ? -1 : real(from, to);
}
int unlink(const char* path) noexcept {
  NEXT(unlink);
  return fails(Call::Remove, path) ? -1 : real(path);
}
int remove(const char* path) noexcept {
  NEXT(remove);
  return fails(Call::Remove, path) ? -1 : real(path);
}
int mkdir(const char* path, mode_t mode) noexcept {
  NEXT(mkdir);
  return fails(Call::MakeFolder, path) ? -1 : real(path, mode);
}
int flock(int fd, int operation) noexcept {
  NEXT(flock);
  return fails(Call::Lock, fd) ? -1 : real(fd, operation);
}
int fchmod(int fd, mode_t mode) noexcept {
  NEXT(fchmod);
  return fails(Call::Access, fd) ? -1 : real(fd, mode);
}
int fchown(int fd, uid_t user, gid_t group) noexcept {
  NEXT(fchown);
  return fails(Call::Access, fd) ? -1 : real(fd, user, group);
}
// The descriptor is closed in any case, as Linux does.
int close(int fd) {
  NEXT(close);
  const bool failed = fails(Call::Close, fd);
  const int error = errno;
  const int result = real(fd);
  errno = failed ? error : errno;
  return failed ? -1 : result;
}
int fclose(FILE* file) {
  NEXT(fclose);
  const bool failed = fails(Call::Close, ::fileno(file));
  const int error = errno;
  const int result = real(file);
  errno = failed ? error : errno;
  return failed ? EOF : result;
}

}  // extern "C"
