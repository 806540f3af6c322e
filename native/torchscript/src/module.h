// Modules in memory: loaded once for a process, shared by the threads that run them.
#pragma once

#include <torch/script.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace inferkv {

// How a module is prepared after it was read; part of what names it in the registry.
struct LoadOptions {
  bool freeze = false;
  bool optimizeForInference = false;
  // The method that is to run, by its path; it has to survive freezing.
  std::string method = "forward";
};

// A method of a module with what its graph says of it.
struct BoundMethod {
  torch::jit::Method method;
  // It may write to its inputs, or go on reading them after its end: then it gets copies.
  bool needsCopies;
  // Runs of it may change the module: then the module is nobody else's, and its answers depend on earlier runs.
  bool changesModule;
};

class LoadedModule {
 public:
  LoadedModule(const char* bytes, size_t size, const LoadOptions& options);

  // The method at a path of submodules ("forward", "encode", "layer1.forward", or "layer1" for its forward).
  // Throws std::invalid_argument where there is none.
  BoundMethod& method(const std::string& path);

 private:
  torch::jit::Module module_;
  // What freezing left has a method of its own for the one that was wanted.
  std::string frozenPath_;
  std::mutex methodsMutex_;
  std::unordered_map<std::string, std::unique_ptr<BoundMethod>> methods_;
};

// The module of that name if it is loaded and may be shared by whoever runs the method; null if not.
std::shared_ptr<LoadedModule> findModule(const std::string& key, const std::string& method);

// Loads a module, or gives the one that another thread loaded under this name meanwhile.
std::shared_ptr<LoadedModule> loadModule(
    const std::string& key, const char* bytes, size_t size, const LoadOptions& options);

}  // namespace inferkv
