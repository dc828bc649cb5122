#pragma once

#include <examples/train/dataset.hpp>

#include <string>

namespace infobatch::train {

/// The official binary layout of CIFAR-10: `data_batch_1.bin` .. `data_batch_5.bin` and
/// `test_batch.bin` in `directory`; records of 1 label byte and 3 x 32 x 32 pixel bytes.
/// @throws UsageError  naming the file and what is wrong with it: missing, empty, truncated, a
/// label
///                     out of range.
Dataset read_cifar10(const std::string& directory);

/// The same for CIFAR-100: `train.bin` and `test.bin`; records of a coarse label (20 classes), a
/// fine label (100 classes, the one that is learned) and the pixels.
Dataset read_cifar100(const std::string& directory);

}  // namespace infobatch::train
