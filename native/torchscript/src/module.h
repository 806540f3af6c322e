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
  // The method that has to survive freezing.
  std::string method = "forward";
};

// A method of a module with what has to be known before its inputs can be handed to it in place.
struct BoundMethod {
  torch::jit::Method method;
  // Whether it may write to its inputs: then it gets copies.
  bool writesInputs;
};

class LoadedModule {
 public:
  LoadedModule(const char* bytes, size_t size, const LoadOptions& options);

  // The method at a path of submodules ("forward", "encode", "layer1.forward", or "layer1" for its forward).
  // Throws std::invalid_argument where there is none.
  BoundMethod& method(const std::string& path);

  // Whether runs change it: then every session has its own, and one run at a time.
  bool isStateful() const { return stateful_; }

 private:
  torch::jit::Module module_;
  bool stateful_ = false;
  std::mutex methodsMutex_;
  std::unordered_map<std::string, std::unique_ptr<BoundMethod>> methods_;
};

// The module of that name if it is loaded and may be shared; null if not.
std::shared_ptr<LoadedModule> findModule(const std::string& key);

// Loads a module, or gives the one that another thread loaded under this name meanwhile.
std::shared_ptr<LoadedModule> loadModule(
    const std::string& key, const char* bytes, size_t size, const LoadOptions& options);

}  // namespace inferkv
