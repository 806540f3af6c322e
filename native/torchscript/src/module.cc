#include "module.h"

#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <cstring>
#include <stdexcept>

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

bool setsAttributes(const torch::jit::Block* block) {
  for (const auto* node : block->nodes()) {
    if (node->kind() == torch::jit::prim::SetAttr) return true;
    for (const auto* inner : node->blocks()) {
      if (setsAttributes(inner)) return true;
    }
  }
  return false;
}

// A list or a dictionary that a module holds can be grown by its methods without setting an attribute.
bool holdsContainers(const torch::jit::Module& module) {
  for (const auto& each : module.modules()) {
    for (const auto& attribute : each.attributes()) {
      if ((attribute.isList() && !attribute.isIntList() && !attribute.isDoubleList() && !attribute.isBoolList()) ||
          attribute.isGenericDict()) {
        return true;
      }
    }
  }
  return false;
}

bool changesItself(const torch::jit::Module& module) {
  if (holdsContainers(module)) return true;
  for (const auto& each : module.modules()) {
    for (const auto& method : each.get_methods()) {
      if (setsAttributes(method.graph()->block())) return true;
    }
  }
  return false;
}

bool mayWriteToInputs(const torch::jit::Method& method) {
  auto graph = method.graph()->copy();
  torch::jit::Inline(*graph);
  torch::jit::AliasDb aliases(graph);
  // The first input is the module itself.
  for (size_t at = 1; at < graph->inputs().size(); at++) {
    if (aliases.hasWriters(graph->inputs()[at])) return true;
  }
  return false;
}

torch::jit::Module prepared(torch::jit::Module module, const LoadOptions& options) {
  // A module that was saved in the middle of training would drop out at random, and learn its statistics anew.
  if (module.hasattr("training")) module.eval();
  const auto dot = options.method.find('.');
  const auto kept = options.method.substr(0, dot);
  std::vector<std::string> others;
  if (kept != "forward") others.push_back(kept);
  if (options.freeze) module = torch::jit::freeze(module, others);
  if (options.optimizeForInference) {
    module = torch::jit::optimize_for_inference(module, dot == std::string::npos ? others : std::vector<std::string>{});
  }
  return module;
}

}  // namespace

LoadedModule::LoadedModule(const char* bytes, size_t size, const LoadOptions& options)
    : module_(prepared(torch::jit::load(std::make_shared<BytesReader>(bytes, size), at::kCPU), options)),
      stateful_(changesItself(module_)) {}

BoundMethod& LoadedModule::method(const std::string& path) {
  std::lock_guard<std::mutex> lock(methodsMutex_);
  const auto known = methods_.find(path);
  if (known != methods_.end()) return *known->second;
  torch::jit::Module at = module_;
  std::string name = path;
  for (size_t dot; (dot = name.find('.')) != std::string::npos; name = name.substr(dot + 1)) {
    const auto part = name.substr(0, dot);
    if (!at.hasattr(part) || !at.attr(part).isModule()) throw std::invalid_argument("it has no submodule " + part);
    at = at.attr(part).toModule();
  }
  if (!at.find_method(name).has_value() && at.hasattr(name) && at.attr(name).isModule()) {
    at = at.attr(name).toModule();
    name = "forward";
  }
  const auto found = at.find_method(name);
  if (!found.has_value()) throw std::invalid_argument("it has no method " + name);
  auto bound = std::make_unique<BoundMethod>(BoundMethod{*found, mayWriteToInputs(*found)});
  return *methods_.emplace(path, std::move(bound)).first->second;
}

namespace {

struct Place {
  std::mutex loading;
  std::weak_ptr<LoadedModule> module;
};

std::mutex registryMutex;
std::unordered_map<std::string, std::shared_ptr<Place>> registry;

std::shared_ptr<Place> placeOf(const std::string& key) {
  std::lock_guard<std::mutex> lock(registryMutex);
  // Places whose modules are gone and that nobody is loading into are swept here, so the registry stays small.
  for (auto each = registry.begin(); each != registry.end();) {
    const bool idle = each->second.use_count() == 1 && each->second->module.expired() && each->first != key;
    each = idle ? registry.erase(each) : std::next(each);
  }
  auto& place = registry[key];
  if (place == nullptr) place = std::make_shared<Place>();
  return place;
}

}  // namespace

std::shared_ptr<LoadedModule> findModule(const std::string& key) {
  const auto place = placeOf(key);
  std::lock_guard<std::mutex> lock(place->loading);
  return place->module.lock();
}

std::shared_ptr<LoadedModule> loadModule(
    const std::string& key, const char* bytes, size_t size, const LoadOptions& options) {
  const auto place = placeOf(key);
  std::lock_guard<std::mutex> lock(place->loading);
  if (auto loaded = place->module.lock()) return loaded;
  auto loaded = std::make_shared<LoadedModule>(bytes, size, options);
  if (!loaded->isStateful()) place->module = loaded;
  return loaded;
}

}  // namespace inferkv
