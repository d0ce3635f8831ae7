#include "compressor/train/gradients.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

struct TeacherView {
  TeacherHead head;
  std::vector<at::Tensor> outputs;  ///< of the blocks; empty unless they are matched
};

TeacherView ask(const Network& teacher, const at::Tensor& tokens, bool keeps_outputs) {
  const at::NoGradGuard no_grad;
  TeacherView view;
  at::Tensor x = teacher.embed(tokens);
  at::Tensor v_first;
  for (int64_t i = 0; i < teacher.n_layer(); ++i) {
    x = teacher.block(i).forward(x, v_first, {});
    if (keeps_outputs) {
      view.outputs.push_back(x);
    }
  }
  view.head = {teacher.head_input(x), teacher.head()};
  return view;
}

void add_to_gradient(const at::Tensor& parameter, const at::Tensor& gradient) {
  if (!parameter.requires_grad()) {
    return;
  }
  at::Tensor& sum = parameter.mutable_grad();
  if (sum.defined()) {
    sum.add_(gradient);
  } else {
    sum = gradient;
  }
}

// Everything that one pass needs, so that its two forms share the ends.
class Pass {
 public:
  Pass(const Network& student, const Network* teacher, const Batch& batch,
       const LossOptions& options, double scale)
      : student_(student), batch_(batch), options_(options), scale_(scale) {
    if (teacher != nullptr) {
      teacher_ = ask(*teacher, batch.inputs, options.block_match > 0);
      has_teacher_ = true;
    } else if (batch.answers.ids.defined()) {
      teacher_.head.top = batch.answers;
      has_teacher_ = true;
    }
  }

  LossSums run() { return options_.recompute ? run_recomputing() : run_plain(); }

 private:
  // The gradient of the head's input, with the head's own added.
  at::Tensor head_gradient(const at::Tensor& input) {
    HeadLossOptions options = options_.head;
    options.head_is_fixed = !student_.head().requires_grad();
    HeadLoss loss = head_loss(input.detach(), student_.head().detach(), batch_.targets,
                              has_teacher_ ? &teacher_.head : nullptr, options, scale_, weights());
    sums_.cross_entropy += loss.cross_entropy;
    sums_.divergence += loss.divergence;
    add_to_gradient(student_.head(), loss.grad_head);
    return loss.grad_input;
  }

  // Of the tokens; undefined where all are the same.
  at::Tensor weights() const {
    if (options_.answers_after < 0) {
      return {};
    }
    const at::Tensor is_answer = batch_.inputs.flatten().eq(options_.answers_after);
    return is_answer.to(at::kFloat).mul_(options_.answers_weight - 1.0).add_(1.0);
  }

  // The share of the loss that block i's output brings, as a scalar to differentiate.
  at::Tensor match(int64_t i, const at::Tensor& output) {
    const at::Tensor& theirs = teacher_.outputs[static_cast<size_t>(i)];
    const auto n_tokens = static_cast<double>(batch_.targets.size(0));
    const at::Tensor distance = (output - theirs).square().sum() / theirs.square().sum() *
                                (n_tokens / static_cast<double>(student_.n_layer()));
    sums_.block_match += distance.item<double>();
    return distance;
  }
  bool matches() const { return options_.block_match > 0 && !teacher_.outputs.empty(); }
  at::Tensor match_weight() const {
    return at::full({}, scale_ * options_.block_match,
                    student_.head().options().dtype(at::kFloat).requires_grad(false));
  }

  LossSums run_plain() {
    at::Tensor x = student_.embed(batch_.inputs);
    at::Tensor v_first;
    std::vector<at::Tensor> roots;
    std::vector<at::Tensor> gradients;
    for (int64_t i = 0; i < student_.n_layer(); ++i) {
      x = student_.block(i).forward(x, v_first, {});
      if (matches()) {
        roots.push_back(match(i, x));
        gradients.push_back(match_weight());
      }
    }
    const at::Tensor input = student_.head_input(x);
    roots.push_back(input);
    gradients.push_back(head_gradient(input));
    run_backward(roots, gradients);
    return sums_;
  }

  LossSums run_recomputing() {
    std::vector<at::Tensor> inputs;
    at::Tensor x;
    at::Tensor v_first;
    {
      const at::NoGradGuard no_grad;
      x = student_.embed(batch_.inputs);
      for (int64_t i = 0; i < student_.n_layer(); ++i) {
        inputs.push_back(x);
        x = student_.block(i).forward(x, v_first, {});
      }
    }
    at::Tensor top = leaf(x);
    const at::Tensor input = student_.head_input(top);
    run_backward({input}, {head_gradient(input)});
    at::Tensor gradient = top.grad();
    // v7's value of the first block is an input of every later one and block 0's second output.
    at::Tensor v_first_gradient;
    for (int64_t i = student_.n_layer() - 1; i >= 0; --i) {
      at::Tensor x_i = leaf(inputs[static_cast<size_t>(i)]);
      at::Tensor v_first_i = i > 0 && v_first.defined() ? leaf(v_first) : at::Tensor();
      const at::Tensor v_first_leaf = v_first_i;
      const at::Tensor output = student_.block(i).forward(x_i, v_first_i, {});
      std::vector<at::Tensor> roots = {output};
      std::vector<at::Tensor> gradients = {gradient};
      if (matches()) {
        roots.push_back(match(i, output));
        gradients.push_back(match_weight());
      }
      if (i == 0 && v_first_gradient.defined()) {
        roots.push_back(v_first_i);
        gradients.push_back(v_first_gradient);
      }
      run_backward(roots, gradients);
      gradient = x_i.grad();
      if (v_first_leaf.defined() && v_first_leaf.grad().defined()) {
        v_first_gradient = v_first_gradient.defined() ? v_first_gradient + v_first_leaf.grad()
                                                      : v_first_leaf.grad();
      }
    }
    run_backward({student_.embed(batch_.inputs)}, {gradient});
    return sums_;
  }

  static at::Tensor leaf(const at::Tensor& x) { return x.detach().set_requires_grad(true); }

  // Roots that lead to no trainable tensor (the embedding when it is fixed) are left out.
  static void run_backward(std::vector<at::Tensor> roots, std::vector<at::Tensor> gradients) {
    for (size_t i = roots.size(); i-- > 0;) {
      if (!roots[i].requires_grad()) {
        roots.erase(roots.begin() + static_cast<std::ptrdiff_t>(i));
        gradients.erase(gradients.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    if (!roots.empty()) {
      torch::autograd::backward(roots, gradients);
    }
  }

  const Network& student_;
  const Batch& batch_;
  const LossOptions& options_;
  double scale_;
  TeacherView teacher_;
  bool has_teacher_ = false;
  LossSums sums_;
};

bool is_finite(const at::Tensor& values) {
  return at::isfinite(values).all().item<bool>();
}

}  // namespace

Batch Batch::to(const at::Device& device) const {
  Batch moved{inputs.to(device), targets.to(device)};
  if (answers.ids.defined()) {
    moved.answers = {answers.ids.to(device), answers.log_p.to(device), answers.rest.to(device)};
  }
  return moved;
}

LossSums& LossSums::operator+=(const LossSums& other) {
  cross_entropy += other.cross_entropy;
  divergence += other.divergence;
  block_match += other.block_match;
  return *this;
}

LossSums add_gradients(const Network& student, const Network* teacher, const Batch& batch,
                       const LossOptions& options, double scale) {
  return Pass(student, teacher, batch, options, scale).run();
}

LossSums evaluate_loss(const Network& student, const Batch& batch, Precision precision) {
  const at::NoGradGuard no_grad;
  const TeacherView own = ask(student, batch.inputs, false);
  const HeadLoss loss =
      head_loss(own.head.input, own.head.head, batch.targets, nullptr, {0.0, 1.0, precision}, 0.0);
  return {loss.cross_entropy, 0.0, 0.0};
}

std::string find_not_finite(const Network& student, const Batch& batch) {
  const at::NoGradGuard no_grad;
  for (const Parameter& parameter : student.parameters()) {
    if (!is_finite(parameter.values)) {
      return "parameter " + parameter.name;
    }
  }
  at::Tensor x = student.embed(batch.inputs);
  if (!is_finite(x)) {
    return "the embedding's output";
  }
  at::Tensor v_first;
  for (int64_t i = 0; i < student.n_layer(); ++i) {
    x = student.block(i).forward(x, v_first, {});
    if (!is_finite(x)) {
      return fmt::format("the output of block {}", i);
    }
  }
  for (const Parameter& parameter : student.parameters()) {
    const at::Tensor& gradient = parameter.values.grad();
    if (gradient.defined() && !is_finite(gradient)) {
      return "the gradient of " + parameter.name;
    }
  }
  return is_finite(student.head_input(x)) ? "" : "the head's input";
}

}  // namespace rwkv::press
