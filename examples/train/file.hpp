#pragma once

#include <string>

namespace infobatch::train {

/// All bytes of a file.
/// @throws std::runtime_error  "cannot read PATH: reason".
std::string read_file(const std::string& path);

/// The file that a path leads to: itself, or what a symbolic link points at.
/// @throws std::runtime_error  there is something else than a file: a folder, a device, a pipe.
std::string target_of(const std::string& path);

/// Replaces a file: after a crash at any moment it holds the old bytes or the new ones, whole.
/// Written beside it under the name PATH.tmp, synced, renamed.
/// @throws std::runtime_error  "cannot write PATH: reason"; the old file is still there.
void write_file_atomically(const std::string& path, const std::string& bytes);

/// Tries whether `write_file_atomically` could work, before hours of work depend on it; leaves
/// nothing.
/// @throws std::runtime_error  "cannot write PATH: reason".
void check_writable(const std::string& path);

/// Whether there is something of that name.
bool file_exists(const std::string& path);

}  // namespace infobatch::train
