// Compute threads of libtorch and of the BLAS behind it.
#pragma once

#include <string>

namespace inferkv {

// Grants one run its compute threads, on the calling thread, until it goes out of scope.
class ThreadGrant {
 public:
  explicit ThreadGrant(int threads);
  ~ThreadGrant();
  ThreadGrant(const ThreadGrant&) = delete;
  ThreadGrant& operator=(const ThreadGrant&) = delete;

 private:
  int threads_;
};

// What multiplies matrices: "mkl", "openblas ...", "blis", "atlas", or "reference".
std::string blasName();

}  // namespace inferkv
