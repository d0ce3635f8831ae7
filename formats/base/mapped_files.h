// Which mapped file an address belongs to, for a handler of SIGBUS: touching a page after the end
// of a file that became shorter raises it, and the program should say which file that was.
#pragma once

namespace rwkv {

/// The path of the MappedFile that contains `address`, made printable and at most 500 bytes long;
/// nullptr if there is none. Async-signal-safe. Of more than 32 mapped files only 32 are known.
const char* mapped_file_at(const void* address);

}  // namespace rwkv
