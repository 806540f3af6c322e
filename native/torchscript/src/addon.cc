// The border: what src/engines/torchscript/addon.ts declares. Everything here is synchronous and is called in worker
// threads. Failures of libtorch become JavaScript errors with a `kind`; nothing is thrown across the border otherwise.
#include <napi.h>
#include <torch/csrc/api/include/torch/version.h>
#include <torch/csrc/jit/runtime/jit_exception.h>
#include <torch/script.h>

#include <chrono>
#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "module.h"
#include "threads.h"
#include "values.h"

namespace inferkv {
namespace {

Napi::Error failure(Napi::Env env, const std::string& message) { return Napi::Error::New(env, message); }

// Runs `work`, turning everything that C++ throws into JavaScript's errors.
template <typename Work>
auto guarded(Napi::Env env, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const Napi::Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw failure(env, error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw failure(env, error.what());
  } catch (...) {
    throw failure(env, "libtorch failed with something that is no exception");
  }
}

class Model : public Napi::ObjectWrap<Model> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env,
        "Model",
        {
            InstanceAccessor<&Model::isShared>("isShared"),
            InstanceMethod<&Model::describe>("describe"),
            InstanceMethod<&Model::run>("run"),
            InstanceMethod<&Model::release>("release"),
        });
  }

  explicit Model(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Model>(info) {
    module_ = *info[0].As<Napi::External<std::shared_ptr<LoadedModule>>>().Data();
  }

 private:
  Napi::Value isShared(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), !open(info.Env()).isStateful());
  }

  Napi::Value describe(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const auto& schema = open(env).method(info[0].As<Napi::String>().Utf8Value()).method.function().getSchema();
      auto described = Napi::Object::New(env);
      auto list = Napi::Array::New(env);
      for (size_t at = 1; at < schema.arguments().size(); at++) {
        const auto& argument = schema.arguments()[at];
        auto each = describeType(env, argument.type());
        each.Set("name", argument.name());
        each.Set("hasDefault", argument.default_value().has_value());
        list.Set(at - 1, each);
      }
      described.Set("arguments", list);
      described.Set("returns", describeType(env, schema.returns().at(0).type()));
      return described;
    });
  }

  // run(method, arguments, threads, outputs | undefined, targets)
  Napi::Value run(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      c10::InferenceMode inference;
      auto& bound = open(env).method(info[0].As<Napi::String>().Utf8Value());
      Borrowed borrowed;
      std::vector<NamedOutput> results;
      double computeMs = 0;
      {
        auto stack = stackOf(bound, info[1].As<Napi::Array>(), borrowed);
        const ThreadGrant grant(info[2].As<Napi::Number>().Int32Value());
        const auto start = std::chrono::steady_clock::now();
        const auto result = bound.method(std::move(stack));
        const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
        computeMs = elapsed.count();
        results = flattened(result);
      }
      auto answer = answerOf(env, results, info[3], info[4].As<Napi::Object>());
      answer.Set("computeMs", computeMs);
      results.clear();
      borrowed.detach();
      return answer;
    });
  }

  Napi::Value release(const Napi::CallbackInfo& info) {
    module_.reset();
#ifdef __GLIBC__
    // Freed weights go back to the system rather than staying with the allocator.
    malloc_trim(0);
#endif
    return info.Env().Undefined();
  }

  LoadedModule& open(Napi::Env env) {
    if (module_ == nullptr) throw Napi::Error::New(env, "the model was released");
    return *module_;
  }

  static std::vector<c10::IValue> stackOf(const BoundMethod& bound, const Napi::Array& given, Borrowed& borrowed) {
    const auto& schema = bound.method.function().getSchema();
    std::vector<c10::IValue> stack;
    for (size_t at = 1; at < schema.arguments().size(); at++) {
      const auto& argument = schema.arguments()[at];
      const auto value = given.Get(static_cast<uint32_t>(at - 1));
      if (value.IsUndefined() && argument.default_value().has_value()) stack.push_back(*argument.default_value());
      else stack.push_back(valueOf(value, argument.type(), bound.writesInputs, borrowed));
    }
    return stack;
  }

  static Napi::Object answerOf(
      Napi::Env env, const std::vector<NamedOutput>& results, const Napi::Value& wanted, const Napi::Object& targets) {
    auto answer = Napi::Object::New(env);
    auto outputs = Napi::Array::New(env);
    auto names = Napi::Array::New(env);
    const auto isWanted = [&](const std::string& name) {
      if (!wanted.IsArray()) return true;
      const auto list = wanted.As<Napi::Array>();
      for (uint32_t at = 0; at < list.Length(); at++) {
        if (list.Get(at).As<Napi::String>().Utf8Value() == name) return true;
      }
      return false;
    };
    for (const auto& result : results) {
      names.Set(names.Length(), result.name);
      if (isWanted(result.name)) outputs.Set(outputs.Length(), exported(env, result, targets.Get(result.name)));
    }
    answer.Set("outputs", outputs);
    answer.Set("names", names);
    return answer;
  }

  std::shared_ptr<LoadedModule> module_;
};

Napi::Value wrapped(Napi::Env env, std::shared_ptr<LoadedModule> module) {
  if (module == nullptr) return env.Undefined();
  const auto holder = Napi::External<std::shared_ptr<LoadedModule>>::New(env, &module);
  return env.GetInstanceData<Napi::FunctionReference>()->New({holder});
}

// find(key)
Napi::Value find(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return wrapped(info.Env(), findModule(info[0].As<Napi::String>().Utf8Value())); });
}

// load(key, bytes, {freeze, optimizeForInference, method})
Napi::Value load(const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  return guarded(env, [&] {
    const auto bytes = info[1].As<Napi::Uint8Array>();
    const auto given = info[2].As<Napi::Object>();
    LoadOptions options;
    options.freeze = given.Get("freeze").ToBoolean();
    options.optimizeForInference = given.Get("optimizeForInference").ToBoolean();
    options.method = given.Get("method").As<Napi::String>().Utf8Value();
    const auto* data = reinterpret_cast<const char*>(bytes.Data());
    return wrapped(env, loadModule(info[0].As<Napi::String>().Utf8Value(), data, bytes.ByteLength(), options));
  });
}

Napi::Value runtime(const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  auto described = Napi::Object::New(env);
  described.Set("version", TORCH_VERSION);
  described.Set("blas", blasName());
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  described.Set("waitPolicy", policy == nullptr ? env.Undefined() : Napi::Value(Napi::String::New(env, policy)));
  return described;
}

Napi::Object start(Napi::Env env, Napi::Object exports) {
  auto* constructor = new Napi::FunctionReference(Napi::Persistent(Model::define(env)));
  env.SetInstanceData(constructor);
  exports.Set("find", Napi::Function::New<find>(env, "find"));
  exports.Set("load", Napi::Function::New<load>(env, "load"));
  exports.Set("runtime", Napi::Function::New<runtime>(env, "runtime"));
  return exports;
}

}  // namespace
}  // namespace inferkv

static Napi::Object startAddon(Napi::Env env, Napi::Object exports) { return inferkv::start(env, exports); }

NODE_API_MODULE(inferkv_torchscript, startAddon)
