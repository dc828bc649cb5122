#pragma once

#include <string>
#include <string_view>

namespace infobatch::detail {

/// Replaces the file at `path` by one with these bytes: whoever looks, also after a crash or a
/// power cut, sees the old file or the whole new one. It is written as `path`.tmp first; several
/// savers of one path take turns. A symbolic link is followed; nothing but a file is replaced.
/// @throws FileError  naming the step, the path and the system's reason; the old file is intact.
void write_file_atomically(const std::string& path, std::string_view bytes);

/// The content of the file.
/// @throws FileError
std::string read_file(const std::string& path);

}  // namespace infobatch::detail
