#include "module.h"

#include <caffe2/serialize/read_adapter_interface.h>

#include <cstring>
#include <stdexcept>

#include "analysis.h"

namespace inferkv {
namespace {

// Reads an archive from memory that the caller holds on to.
class BytesReader : public caffe2::serialize::ReadAdapterInterface {
 public:
  BytesReader(const char* bytes, size_t size) : bytes_(bytes), size_(size) {}

  size_t size() const override { return size_; }

  size_t read(uint64_t position, void* into, size_t count, const char*) const override {
    if (position >= size_) return 0;
    const size_t available = std::min<size_t>(count, size_ - position);
    std::memcpy(into, bytes_ + position, available);
    return available;
  }

 private:
  const char* bytes_;
  size_t size_;
};

// The module and the method's name at a path from another.
struct Place {
  torch::jit::Module module;
  std::string method;
};

Place placeAt(torch::jit::Module module, const std::string& path) {
  std::string name = path;
  for (size_t dot; (dot = name.find('.')) != std::string::npos; name = name.substr(dot + 1)) {
    const auto part = name.substr(0, dot);
    if (!module.hasattr(part) || !module.attr(part).isModule()) {
      throw std::invalid_argument("it has no submodule " + part);
    }
    module = module.attr(part).toModule();
  }
  if (!module.find_method(name).has_value() && module.hasattr(name) && module.attr(name).isModule()) {
    return {module.attr(name).toModule(), "forward"};
  }
  return {module, name};
}

}  // namespace

LoadedModule::LoadedModule(const char* bytes, size_t size, const LoadOptions& options)
    : module_(torch::jit::load(std::make_shared<BytesReader>(bytes, size), at::kCPU)) {
  // A module that was saved in the middle of training would drop out at random, and learn its statistics anew.
  if (module_.hasattr("training")) module_.eval();
  guardRemainders(module_);
  if (!options.freeze) return;
  auto [module, name] = placeAt(module_, options.method);
  if (!module.find_method(name).has_value()) throw std::invalid_argument("it has no method " + options.method);
  const bool isForward = name == "forward";
  const std::vector<std::string> others = isForward ? std::vector<std::string>{} : std::vector<std::string>{name};
  if (!module.find_method("forward").has_value()) {
    throw std::invalid_argument("it has no forward, without which libtorch freezes nothing; leave freezing out");
  }
  module_ = torch::jit::freeze(module, others);
  if (options.optimizeForInference) module_ = torch::jit::optimize_for_inference(module_, others);
  frozenPath_ = name;
}

BoundMethod& LoadedModule::method(const std::string& path) {
  std::lock_guard<std::mutex> lock(methodsMutex_);
  const auto known = methods_.find(path);
  if (known != methods_.end()) return *known->second;
  auto [module, name] = placeAt(module_, frozenPath_.empty() ? path : frozenPath_);
  const auto found = module.find_method(name);
  if (!found.has_value()) throw std::invalid_argument("it has no method " + name);
  auto bound = std::make_unique<BoundMethod>(BoundMethod{*found, needsCopies(*found), changesModule(*found)});
  return *methods_.emplace(path, std::move(bound)).first->second;
}

namespace {

struct Shelf {
  std::mutex loading;
  std::weak_ptr<LoadedModule> module;
};

std::mutex registryMutex;
std::unordered_map<std::string, std::shared_ptr<Shelf>> registry;

std::shared_ptr<Shelf> shelfOf(const std::string& key) {
  std::lock_guard<std::mutex> lock(registryMutex);
  // Shelves whose modules are gone and that nobody is loading into are swept here, so the registry stays small.
  for (auto each = registry.begin(); each != registry.end();) {
    const bool idle = each->second.use_count() == 1 && each->second->module.expired() && each->first != key;
    each = idle ? registry.erase(each) : std::next(each);
  }
  auto& shelf = registry[key];
  if (shelf == nullptr) shelf = std::make_shared<Shelf>();
  return shelf;
}

}  // namespace

std::shared_ptr<LoadedModule> findModule(const std::string& key, const std::string& method) {
  const auto shelf = shelfOf(key);
  std::lock_guard<std::mutex> lock(shelf->loading);
  auto loaded = shelf->module.lock();
  return loaded == nullptr || loaded->method(method).changesModule ? nullptr : loaded;
}

std::shared_ptr<LoadedModule> loadModule(
    const std::string& key, const char* bytes, size_t size, const LoadOptions& options) {
  const auto shelf = shelfOf(key);
  std::lock_guard<std::mutex> lock(shelf->loading);
  auto loaded = shelf->module.lock();
  if (loaded != nullptr && !loaded->method(options.method).changesModule) return loaded;
  auto own = std::make_shared<LoadedModule>(bytes, size, options);
  if (!own->method(options.method).changesModule) shelf->module = own;
  return own;
}

}  // namespace inferkv
