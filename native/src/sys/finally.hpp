#pragma once
#include <utility>

namespace peel {

// Does something at the end of a scope, however that is left.
template <class F>
class Finally {
 public:
  explicit Finally(F last) : last_(std::move(last)) {}
  ~Finally() { last_(); }
  Finally(const Finally&) = delete;
  Finally& operator=(const Finally&) = delete;

 private:
  F last_;
};

}  // namespace peel
