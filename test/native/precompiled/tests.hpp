// For the tests.
#include "common.hpp"
