#include <examples/train/models.hpp>

#include <torch/torch.h>

namespace infobatch::train {
namespace {

namespace nn = torch::nn;

nn::Conv2d convolution(std::int64_t in,
                       std::int64_t out,
                       std::int64_t kernel,
                       std::int64_t stride) {
  // Padding 1 keeps the size with a 3x3 kernel and halves it with 4x4 and stride 2.
  const std::int64_t padding = kernel == 1 ? 0 : 1;
  return nn::Conv2d(nn::Conv2dOptions(in, out, kernel).stride(stride).padding(padding).bias(false));
}

nn::Sequential block(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
  return nn::Sequential(convolution(in, out, kernel, stride),
                        nn::BatchNorm2d(out),
                        nn::ReLU(nn::ReLUOptions().inplace(true)));
}

struct SmallCnn final : Classifier {
  explicit SmallCnn(std::int64_t classes) : head(128, classes) {
    register_module("stem", stem);
    register_module("middle", middle);
    register_module("top", top);
    register_module("head", head);
  }

  torch::Tensor forward(const torch::Tensor& images) override {
    auto x = torch::max_pool2d(stem->forward(images), 2);
    x = torch::max_pool2d(middle->forward(x), 2);
    return head->forward(top->forward(x).mean({2, 3}));
  }

  nn::Sequential stem = block(3, 32, 4, 2);
  nn::Sequential middle = block(32, 64, 3, 1);
  nn::Sequential top = block(64, 128, 3, 1);
  nn::Linear head;
};

/// Two 3x3 convolutions beside the identity (or a 1x1 convolution where the shape changes).
struct ResidualBlockImpl final : nn::Module {
  ResidualBlockImpl(std::int64_t in, std::int64_t out, std::int64_t stride)
      : first(block(in, out, 3, stride)),
        second(convolution(out, out, 3, 1), nn::BatchNorm2d(out)) {
    register_module("first", first);
    register_module("second", second);
    if (stride != 1 || in != out) {
      shortcut = nn::Sequential(convolution(in, out, 1, stride), nn::BatchNorm2d(out));
      register_module("shortcut", shortcut);
    }
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const auto beside = shortcut.is_empty() ? x : shortcut->forward(x);
    return torch::relu(second->forward(first->forward(x)) + beside);
  }

  nn::Sequential first;
  nn::Sequential second;
  nn::Sequential shortcut{nullptr};
};
TORCH_MODULE(ResidualBlock);

struct ResNet18 final : Classifier {
  explicit ResNet18(std::int64_t classes) : head(512, classes) {
    std::int64_t in = 64;
    for (const std::int64_t width : {64, 128, 256, 512}) {
      blocks->push_back(ResidualBlock(in, width, width == 64 ? 1 : 2));
      blocks->push_back(ResidualBlock(width, width, 1));
      in = width;
    }
    register_module("stem", stem);
    register_module("blocks", blocks);
    register_module("head", head);
  }

  torch::Tensor forward(const torch::Tensor& images) override {
    return head->forward(blocks->forward(stem->forward(images)).mean({2, 3}));
  }

  nn::Sequential stem = block(3, 64, 3, 1);
  nn::Sequential blocks;
  nn::Linear head;
};

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = {"small-cnn", "resnet18"};
  return names;
}

double default_lr(const std::string& model) { return model == "resnet18" ? 0.1 : 0.2; }

std::shared_ptr<Classifier> make_model(const std::string& name, std::int64_t classes) {
  std::shared_ptr<Classifier> model;
  if (name == "resnet18") {
    model = std::make_shared<ResNet18>(classes);
  } else {
    model = std::make_shared<SmallCnn>(classes);
  }
  for (auto& parameter : model->parameters()) {
    if (parameter.dim() == 4) {
      parameter.set_data(parameter.data().contiguous(torch::MemoryFormat::ChannelsLast));
    }
  }
  return model;
}

}  // namespace infobatch::train
