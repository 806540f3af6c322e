#include "threads.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <mutex>
#include <set>

namespace inferkv {
namespace {

// Finds a function in the libraries that this addon is linked with: Node loads addons with local names, so the global
// table does not have them.
void* linkedFunction(const char* name) {
  static void* self = [] {
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(&linkedFunction), &info) == 0) return static_cast<void*>(nullptr);
    return dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  }();
  return self == nullptr ? nullptr : dlsym(self, name);
}

using SetBlasThreads = void (*)(int);

std::mutex grantsMutex;
std::multiset<int> grants;

// OpenBLAS has one number of threads for the whole process. The smallest of the runs under way keeps every one of them
// within its grant. Call it with the mutex held.
void applyBlasThreads() {
  static const auto set = reinterpret_cast<SetBlasThreads>(linkedFunction("openblas_set_num_threads"));
  static int applied = 0;
  if (set == nullptr || grants.empty() || *grants.begin() == applied) return;
  applied = *grants.begin();
  set(applied);
}

}  // namespace

ThreadGrant::ThreadGrant(int threads) : threads_(threads) {
  static std::once_flag interop;
  std::call_once(interop, [] {
    // What a model forks (torch.jit.fork) would compute beside its grant. It can be set once only, so another user of
    // libtorch in this process may have been first.
    try {
      at::set_num_interop_threads(1);
    } catch (const std::exception&) {
    }
  });
  // The number belongs to the calling thread. Asking first lets libtorch set its process-wide default, which would
  // otherwise overwrite ours at the first parallel loop of this thread.
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
  std::lock_guard<std::mutex> lock(grantsMutex);
  grants.insert(threads_);
  applyBlasThreads();
}

ThreadGrant::~ThreadGrant() {
  std::lock_guard<std::mutex> lock(grantsMutex);
  grants.erase(grants.find(threads_));
  applyBlasThreads();
}

std::string blasName() {
  if (at::hasMKL()) return "mkl";
  using Config = char* (*)();
  if (const auto config = reinterpret_cast<Config>(linkedFunction("openblas_get_config"))) return config();
  if (linkedFunction("bli_info_get_version_str") != nullptr) return "blis";
  if (linkedFunction("ATL_buildinfo") != nullptr) return "atlas";
  if (linkedFunction("catlas_saxpby") != nullptr) return "accelerate";
  return "reference";
}

}  // namespace inferkv
