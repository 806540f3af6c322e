#include "analysis.h"

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/peephole.h>

#include <functional>

namespace inferkv {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;
namespace prim = torch::jit::prim;
namespace aten = torch::jit::aten;
namespace attr = torch::jit::attr;

void eachNode(Block* block, const std::function<void(Node*)>& visit) {
  // Visiting may insert nodes before the one that is visited.
  for (auto at = block->nodes().begin(); at != block->nodes().end(); ++at) {
    visit(*at);
    for (auto* inner : at->blocks()) eachNode(inner, visit);
  }
}

// The method as it runs in evaluation mode, all in one graph: what happens in training only is no longer in it.
std::shared_ptr<Graph> evaluated(const torch::jit::Method& method) {
  auto graph = method.graph()->copy();
  torch::jit::Inline(*graph);
  std::vector<Node*> training;
  eachNode(graph->block(), [&](Node* node) {
    if (node->kind() == prim::GetAttr && node->s(attr::name) == "training") training.push_back(node);
  });
  for (auto* node : training) {
    if (node->output()->type()->kind() != c10::TypeKind::BoolType) continue;
    torch::jit::WithInsertPoint before(node);
    node->output()->replaceAllUsesWith(graph->insertConstant(false));
  }
  // Twice, as what one pass settles lets the other go on.
  for (int round = 0; round < 2; round++) {
    torch::jit::PeepholeOptimize(graph);
    torch::jit::ConstantPropagation(graph);
  }
  torch::jit::EliminateDeadCode(graph);
  return graph;
}

// Calls that could not be put into the graph, and tasks that may go on after a run: what they do cannot be seen.
bool hasUnseen(Graph& graph) {
  bool unseen = false;
  eachNode(graph.block(), [&](Node* node) {
    const auto kind = node->kind();
    unseen = unseen || kind == prim::CallMethod || kind == prim::CallFunction || kind == prim::fork;
  });
  return unseen;
}

// Whether a node writes to anything that `target` is or contains. All inputs of a graph may be one another's memory.
bool hasWrites(Graph& graph, const torch::jit::AliasDb& aliases, Value* target) {
  bool found = false;
  eachNode(graph.block(), [&](Node* node) {
    if (found || !aliases.hasWriters(node)) return;
    for (auto* input : node->inputs()) {
      found = found || (aliases.writesToAlias(node, {input}) && aliases.mayContainAlias(input, target));
    }
  });
  return found;
}

}  // namespace

bool needsCopies(const torch::jit::Method& method) {
  auto graph = evaluated(method);
  if (hasUnseen(*graph)) return true;
  torch::jit::AliasDb aliases(graph);
  // The first input is the module itself.
  for (size_t at = 1; at < graph->inputs().size(); at++) {
    if (hasWrites(*graph, aliases, graph->inputs()[at])) return true;
  }
  return false;
}

bool changesModule(const torch::jit::Method& method) {
  auto graph = evaluated(method);
  bool sets = hasUnseen(*graph);
  eachNode(graph->block(), [&](Node* node) { sets = sets || node->kind() == prim::SetAttr; });
  if (sets) return true;
  // With copies in the place of the tensors that come in, whatever is still written to from outside is the module's.
  for (size_t at = 1; at < graph->inputs().size(); at++) {
    auto* input = graph->inputs()[at];
    if (input->type()->kind() != c10::TypeKind::TensorType || input->uses().empty()) continue;
    torch::jit::WithInsertPoint first(*graph->nodes().begin());
    auto* copy = graph->insert(aten::clone, {input});
    input->replaceAllUsesAfterNodeWith(copy->node(), copy);
  }
  torch::jit::AliasDb aliases(graph);
  return hasWrites(*graph, aliases, graph->inputs()[0]);
}

void guardRemainders(torch::jit::Module& module) {
  for (const auto& each : module.modules()) {
    for (const auto& method : each.get_methods()) {
      auto graph = method.graph();
      eachNode(graph->block(), [&](Node* node) {
        if (node->kind() != aten::remainder || node->inputs().size() != 2) return;
        auto* divisor = node->inputs()[1];
        if (divisor->type()->kind() != c10::TypeKind::IntType) return;
        if (node->inputs()[0]->type()->kind() != c10::TypeKind::IntType) return;
        torch::jit::WithInsertPoint before(node);
        auto* isZero = graph->insert(aten::eq, {divisor, graph->insertConstant(0)});
        auto* check = graph->insertNode(graph->create(prim::If, {isZero}, 0));
        torch::jit::WithInsertPoint raising(check->addBlock());
        check->addBlock();
        graph->insert(prim::RaiseException, {graph->insertConstant("ZeroDivisionError: integer modulo by zero")});
      });
    }
  }
}

}  // namespace inferkv
