// For the bindings.
#include "common.hpp"
#include <napi.h>
