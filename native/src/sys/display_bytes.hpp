#pragma once
#include <string>
#include <string_view>

namespace peel {

/**
 * For messages: the text when it is UTF-8, else with `\xNN` for what is no ASCII; control characters always so. What is
 * long loses its middle.
 */
std::string displayBytes(std::string_view bytes);

}  // namespace peel
