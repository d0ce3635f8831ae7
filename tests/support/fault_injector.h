// What a test and the fault injector share: a plan in memory that both map. The injector is a
// library that LD_PRELOAD puts in front of the C library. It counts the calls that touch files
// under one folder, by kind and over all processes, and lets one of them fail.
#pragma once

#include <atomic>
#include <cstdint>
#include <iterator>

namespace rwkv::test {

/// Kinds of calls; each is counted by itself.
enum class Call : int32_t {
  Open,        ///< open, openat, fopen
  List,        ///< opendir
  Read,        ///< read, pread
  Map,         ///< mmap of a file
  Write,       ///< write, pwrite, writev
  Sync,        ///< fsync, fdatasync
  Rename,      ///< rename, renameat2, link
  Remove,      ///< unlink, remove
  MakeFolder,  ///< mkdir
  Lock,        ///< flock
  Access,      ///< fchmod, fchown
  Close,       ///< close, fclose
};
inline constexpr const char* kCallNames[] = {"open",   "list", "read",   "map",
                                             "write",  "sync", "rename", "remove",
                                             "folder", "lock", "access", "close"};
inline constexpr int kCalls = static_cast<int>(std::size(kCallNames));

/// What happens to the chosen call.
enum class Fault : int32_t {
  None,
  Fail,   ///< it does nothing and ends with `error`
  Short,  ///< of reads and writes: half of the bytes, at least one
  Zero,   ///< of writes: nothing is written, and 0 returned
  Kill,   ///< the process is killed before the call
};

struct FaultPlan {
  char folder[1024];  ///< calls on files in other folders are neither counted nor disturbed
  Call call;
  Fault fault;
  int32_t error;  ///< for Fail
  int64_t at;     ///< which call of its kind, from 0
  /// Bytes that may still be written before ENOSPC; negative: any number.
  std::atomic<int64_t> room;
  std::atomic<int64_t> counts[kCalls];
  std::atomic<int32_t> n_struck;  ///< how often a fault happened
  char struck[512];               ///< on which file
};

/// Variables of the environment: the file of the plan, and the two descriptors "IN,OUT" of a
/// fork server.
inline constexpr const char* kPlanVariable = "RWKV_FAULT_PLAN";
inline constexpr const char* kServerVariable = "RWKV_FAULT_SERVER";

/// A request to the fork server: this, then `n_bytes` of strings that end in 0: files for stdout
/// and stderr, and the arguments. The answer is the status as of waitpid(), an int.
struct ServerRequest {
  uint32_t n_bytes;
  uint32_t seconds;  ///< after which SIGALRM ends the run
};

}  // namespace rwkv::test
