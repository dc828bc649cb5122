#include <examples/train/arms.hpp>
#include <examples/train/models.hpp>
#include <examples/train/options.hpp>

#include <cstdio>
#include <string>

namespace infobatch::train {

std::string help_text() {
  std::string arm_lines;
  for (const Arm& arm : arms()) {
    std::string name = arm.name;
    name.resize(22, ' ');
    arm_lines += "                         " + name + arm.meaning + "\n";
  }
  std::string models;
  for (const std::string& name : model_names()) {
    char lr[32];
    std::snprintf(lr, sizeof lr, "%g", default_lr(name));
    models += (models.empty() ? "" : ", ") + name + " (lr " + lr + ")";
  }
  return R"(usage: infobatch-train [OPTION]...

Trains an image classifier once for each arm and seed, and prints the arms side by side: test
accuracy after the last epoch, samples trained, share saved, CPU seconds and seconds of training
(evaluation and set-up apart), seconds saved / samples saved by either.

What is compared
  --arms A,B,...         arms to run (default full,infobatch):
)" + arm_lines +
         R"(  --seeds 1,2,...        one run of each arm for each seed (default 1)
  --prune-ratio R        r in [0, 1): chance that a sample below the mean loss is left out (0.5)
  --delta D              share of the run that prunes, in (0, 1] (0.875)
  --share S              share saved for full-short and random, in [0, 1); default: what infobatch
                         saved with the same seed

Data and model
  --data SOURCE          builtin (default): images made in memory from a seed;
                         cifar10:DIR, cifar100:DIR: a folder with the official binary files
  --data-seed N          seed of the builtin data (1)
  --samples N            training samples: how many builtin makes (16000), how many of the first of
                         a data set are used (all)
  --model NAME           )" +
         models + R"( (default small-cnn)
  --dtype T              fp32 (default), bf16 (autocast, parameters and loss in fp32) or fp64
  --device D             cpu (default), cuda, cuda:1, mps, xpu, ...: where the model, the data and the
                         augmentation are

Recipe: SGD with Nesterov momentum 0.9, OneCycle learning rate, flip and crop
  --epochs E             E >= 1 (16)
  --batch-size B         (128); the rest of an epoch that fills no batch is left out, in every arm
  --lr X                 peak of the learning rate (default: the model's)
  --weight-decay X       (0.0005)
  --label-smoothing X    in [0, 1) (0.1)

Running
  --threads T            threads of the computation (default: the cores)
  --interleave           the arms take turns, one epoch at a time: fair timing on a noisy machine
  --json FILE            writes configuration and figures
  --checkpoint FILE      keeps everything in FILE; where it exists, the run goes on from it
  --checkpoint-every N   steps between two writes of it (500)
  --help                 this text

Exit status: 0 done, 1 failed while running, 2 refused (nothing written), 130 interrupted by SIGINT
and 143 by SIGTERM; with --checkpoint the same command then goes on.
)";
}

}  // namespace infobatch::train
