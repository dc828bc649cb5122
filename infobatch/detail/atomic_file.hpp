#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace infobatch::detail {

/// What a save has reached.
struct SaveReport {
  /// Whether the bytes are known to be on the disk. Some file systems know no fsync; then the file
  /// is whole for everyone who looks, but after a power cut it may be empty or of any content.
  bool flushed = true;
};

/// How long a save waits for another saver of the same file.
constexpr std::chrono::milliseconds kLockPatience{60'000};

/// Replaces the file at `path` by one with these bytes: whoever looks, also after a crash or (where
/// the report says flushed) a power cut, sees the old file or the whole new one. It is written as
/// `path`.tmp first; several savers of one path take turns. A symbolic link is followed; nothing
/// but a file is replaced. The new file has the permissions of the one it replaces, and its owner
/// and group where the system lets this process set them; access control lists are not copied.
/// @throws FileError  naming the step, the path and the system's reason, or that another saver held
///                    `path`.tmp for longer than `patience`; the old file is intact.
SaveReport write_file_atomically(const std::string& path,
                                 std::string_view bytes,
                                 std::chrono::milliseconds patience = kLockPatience);

/// The content of the file.
/// @param largest  bytes that it may have at most; what is larger is refused before it is read.
/// @throws FileError  also for what is no regular file: a folder, pipe, device or socket.
std::string read_file(const std::string& path, std::int64_t largest = INT64_MAX);

/// The calls of the system that may fail for a file, so that tests can let them.
struct FileCalls {
  int (*open)(const char* path, int how, mode_t mode);
  ssize_t (*read)(int file, void* bytes, std::size_t count);
  ssize_t (*write)(int file, const void* bytes, std::size_t count);
  int (*truncate)(int file, off_t size);
  int (*flush)(int file);
  int (*lock)(int file, int how);
  int (*change_owner)(int file, uid_t owner, gid_t group);
  int (*change_mode)(int file, mode_t mode);
};

/// The calls in use. Only tests change them, and not while files are written or read.
FileCalls& file_calls();

}  // namespace infobatch::detail
