#include <infobatch/error.hpp>

#include <system_error>

namespace infobatch::detail {
namespace {

/// From six digits on, as many as it takes to read the same value back.
template <typename Float>
void append_digits(std::string& out, Float value) {
  char text[32];
  constexpr int kFewest = 6;
  constexpr int kMost = 17;
  for (int digits = kFewest; digits <= kMost; ++digits) {
    char* const end =
        std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr;
    Float again = 0;
    const bool read = std::from_chars(text, end, again).ec == std::errc();
    if ((read && again == value) || digits == kMost) {
      out.append(text, end);
      return;
    }
  }
}

}  // namespace

void append_number(std::string& out, double value) { append_digits(out, value); }
void append_number(std::string& out, float value) { append_digits(out, value); }

}  // namespace infobatch::detail
